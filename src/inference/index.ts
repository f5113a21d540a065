export type { ClassMetrics } from './class-metrics.js';
export { embed } from './embed.js';
export type { EmbedOptions, EmbeddingOptions, FileEmbedding } from './embed.js';
export { evaluate } from './evaluate.js';
export type { EvaluateOptions, Evaluation, ImageModel, Prediction } from './evaluate.js';
export { explainFiles } from './explain.js';
export type { ExplainFilesOptions, FileExplanation, ImageExplanation } from './explain.js';
export type { FileOptions } from './image-files.js';
export { inputTransform } from './input.js';
export type { Precision } from './precision.js';
export { TOPK, predict } from './predict.js';
export type { ClassProbability, FilePrediction, PredictOptions } from './predict.js';
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
