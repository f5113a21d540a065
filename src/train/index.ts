export { readTrainingState, saveTrainingState } from './checkpoint.js';
export type { TrainingState } from './checkpoint.js';
export { describeClasses } from './classes.js';
export { DEFAULTS, SETTINGS, describeIssue, parseSettings, resolveConfig } from './config.js';
export type { TrainConfig, TrainSettings } from './config.js';
export { evaluate } from './evaluate.js';
export type { EvaluateOptions, Evaluation, ImageModel, Prediction } from './evaluate.js';
export { paramGroups } from './param-groups.js';
export type { DecayableModel } from './param-groups.js';
export { predict } from './predict.js';
export type { FilePrediction, PredictOptions } from './predict.js';
export { inputTransform, resume, train } from './run.js';
export type { RunEvents, RunResult, RunStart, TrainRunOptions } from './run.js';
export { RunFolder } from './run-folder.js';
export type { Summary } from './run-folder.js';
export { cosineSchedule } from './schedule.js';
export type { CosineOptions } from './schedule.js';
export { Trainer } from './trainer.js';
export type {
  EpochMetrics,
  Progress,
  RunOptions,
  StepEvent,
  TrainerEvents,
  TrainerOptions,
} from './trainer.js';
