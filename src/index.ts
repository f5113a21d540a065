/**
 * Tenon: tensors on Node. Trains and runs vision transformers at full hardware speed.
 *
 * @packageDocumentation
 */
export * from './tensor/index.js';
export * from './ops/index.js';
export * from './nn/index.js';
export * from './models/index.js';
export * from './explain/index.js';
export * from './onnx/index.js';
export * from './optim/index.js';
export * from './data/index.js';
export { readSafetensors, readSafetensorsHeader, saveSafetensors } from './io/index.js';
export type {
  ReadSafetensorsOptions,
  SafetensorsEntry,
  SafetensorsFile,
  SafetensorsHeader,
} from './io/index.js';
export {
  Predictor,
  embed,
  evaluate,
  explainFiles,
  inputTransform,
  openPredictor,
  predict,
} from './inference/index.js';
export type {
  ClassMetrics,
  ClassProbability,
  EmbedOptions,
  EmbeddingOptions,
  EvaluateOptions,
  Evaluation,
  ExplainFilesOptions,
  FileEmbedding,
  FileExplanation,
  FileOptions,
  FilePrediction,
  ImageEmbedding,
  ImageExplanation,
  ImageModel,
  ImagePrediction,
  OpenPredictorOptions,
  Precision,
  PredictOptions,
  Prediction,
  PredictorEmbedOptions,
  PredictorExplainOptions,
  PredictorOptions,
  RequestOptions,
} from './inference/index.js';
export {
  LogitCache,
  SETTINGS,
  Teacher,
  Trainer,
  cosineSchedule,
  distillationLoss,
  openTeacher,
  paramGroups,
  readTrainingState,
  resolveSettings,
  resume,
  saveTrainingState,
  train,
} from './train/index.js';
export type {
  CosineOptions,
  DecayableModel,
  Distillation,
  DistillationLoss,
  EpochMetrics,
  EvalMetric,
  FreezeLayers,
  Normalization,
  ParamGroupOptions,
  Progress,
  ResolvedTrainerOptions,
  ResumeOptions,
  RunEvents,
  RunOptions,
  RunResult,
  RunStart,
  StepEvent,
  Summary,
  TeacherOptions,
  TeacherSettings,
  TrainConfig,
  TrainRunOptions,
  TrainSettings,
  TrainerEvaluateOptions,
  TrainerEvents,
  TrainerOptions,
  TrainingState,
} from './train/index.js';
