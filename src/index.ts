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
  LogitCache,
  Predictor,
  SETTINGS,
  Teacher,
  Trainer,
  cosineSchedule,
  distillationLoss,
  embed,
  evaluate,
  explainFiles,
  inputTransform,
  openPredictor,
  openTeacher,
  paramGroups,
  predict,
  readTrainingState,
  resolveSettings,
  resume,
  saveTrainingState,
  train,
} from './train/index.js';
export type {
  ClassProbability,
  CosineOptions,
  DecayableModel,
  Distillation,
  DistillationLoss,
  EmbedOptions,
  EmbeddingOptions,
  EpochMetrics,
  EvaluateOptions,
  Evaluation,
  ExplainFilesOptions,
  FileEmbedding,
  FileExplanation,
  FileOptions,
  FilePrediction,
  FreezeLayers,
  ImageEmbedding,
  ImageExplanation,
  ImageModel,
  ImagePrediction,
  Normalization,
  OpenPredictorOptions,
  ParamGroupOptions,
  Precision,
  PredictOptions,
  Prediction,
  PredictorEmbedOptions,
  PredictorExplainOptions,
  PredictorOptions,
  Progress,
  RequestOptions,
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
