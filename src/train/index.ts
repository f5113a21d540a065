export { readTrainingState, saveTrainingState } from './checkpoint.js';
export type { TrainingState } from './checkpoint.js';
export { describeClasses } from './classes.js';
export { DEFAULTS, SETTINGS, describeIssue, parseSettings, resolveConfig } from './config.js';
export type { TrainConfig, TrainSettings } from './config.js';
export { distillationLoss } from './distillation.js';
export type { Distillation, DistillationLoss } from './distillation.js';
export type { FreezeLayers } from './layers.js';
export { LogitCache } from './logit-cache.js';
export { Teacher, openTeacher } from './teacher.js';
export type { Normalization, TeacherOptions, TeacherSettings } from './teacher.js';
export { embed } from './embed.js';
export type { EmbedOptions, EmbeddingOptions, FileEmbedding } from './embed.js';
export { evaluate } from './evaluate.js';
export type { EvaluateOptions, Evaluation, ImageModel, Prediction } from './evaluate.js';
export type { EpochMetrics, Progress, StepEvent } from './progress.js';
export { paramGroups } from './param-groups.js';
export type { DecayableModel, ParamGroupOptions } from './param-groups.js';
export { TOPK, predict } from './predict.js';
export type { Precision } from './precision.js';
export type { ClassProbability, FilePrediction, PredictOptions } from './predict.js';
export type { FileOptions } from './image-files.js';
export { Predictor, loadForInference, openPredictor } from './predictor.js';
export type {
  ImageEmbedding,
  ImagePrediction,
  OpenPredictorOptions,
  PredictorEmbedOptions,
  PredictorExplainOptions,
  PredictorOptions,
  RequestOptions,
} from './predictor.js';
export { resolveSettings, resume, train } from './run.js';
export type { ResumeOptions, RunEvents, RunResult, RunStart, TrainRunOptions } from './run.js';
export { RunFolder } from './run-folder.js';
export type { Summary } from './run-folder.js';
export { cosineSchedule } from './schedule.js';
export type { CosineOptions } from './schedule.js';
export { inputTransform } from './setup.js';
export { Trainer } from './trainer.js';
export type { RunOptions, TrainerEvaluateOptions, TrainerEvents } from './trainer.js';
export type { ResolvedTrainerOptions, TrainerOptions } from './trainer-options.js';
export { explainFiles } from './explain.js';
export type { ExplainFilesOptions, FileExplanation, ImageExplanation } from './explain.js';
