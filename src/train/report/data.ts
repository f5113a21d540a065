/**
 * What a training report shows, as plain data.
 */
import type { SkippedImage } from '../../data/index.js';
import type { EvalMetric } from '../eval-metric.js';

/** One pass over the training images, and the evaluation after it. Shares are in [0, 1], losses in nats. */
export interface ReportEpoch {
  /** From 1. */
  readonly epoch: number;
  readonly trainLoss: number;
  readonly trainAccuracy?: number | undefined;
  readonly valLoss?: number | undefined;
  readonly valAccuracy?: number | undefined;
  /** The balanced accuracy: the mean of the classes' accuracies. */
  readonly valBalancedAccuracy?: number | undefined;
  readonly valTop5?: number | undefined;
  readonly lr: number;
  readonly imagesPerSecond: number;
  /** Share of the time in which training waited for images. */
  readonly dataWaitShare: number;
}

/** One update of the weights. */
export interface ReportStep {
  readonly step: number;
  readonly loss: number;
  readonly lr: number;
}

/** An image of the validation set and what the model takes it for. */
export interface ReportSample {
  /** See `thumbnail`. */
  readonly png: Uint8Array;
  /** What speaks for the most probable class in it, as PNG: see `heatmap`. */
  readonly explained?: Uint8Array | undefined;
  /** The true class; undefined when unknown. */
  readonly truth: string | undefined;
  /** Classes from the most probable down. */
  readonly top: readonly { readonly label: string; readonly probability: number }[];
}

/** The run in numbers. What is optional is shown where it is there. */
export interface ReportSummary {
  readonly model?: string | undefined;
  readonly parameters: number;
  readonly trainedParameters?: number | undefined;
  /** Epochs of the settings. */
  readonly plannedEpochs?: number | undefined;
  readonly trainImages?: number | undefined;
  readonly valImages?: number | undefined;
  /** What the best epoch is best in. Default 'accuracy'. */
  readonly evalMetric?: EvalMetric | undefined;
  /** The best epoch's, in [0, 1]; null or undefined without evaluation. */
  readonly valAccuracy?: number | null | undefined;
  /** The balanced accuracy: the mean of the classes' accuracies. */
  readonly valBalancedAccuracy?: number | null | undefined;
  readonly valLoss?: number | null | undefined;
  readonly valTop5?: number | null | undefined;
  /** From 1. */
  readonly bestEpoch?: number | null | undefined;
  readonly imagesPerSecond: number;
  readonly dataWaitShare?: number | undefined;
  readonly seconds: number;
  readonly peakMemoryBytes: number;
  readonly peakTensorBytes?: number | undefined;
  /** Damaged images that were left out. */
  readonly skippedImages?: readonly SkippedImage[] | undefined;
}

export interface ReportData {
  /** Of the run. */
  readonly name: string;
  /** Settings; those that are undefined are not shown. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly classes: readonly string[];
  /** In order; none when the run was stopped before. */
  readonly epochs: readonly ReportEpoch[];
  /** Every update of those epochs, or an even choice, the last included. */
  readonly steps?: readonly ReportStep[] | undefined;
  /** Images of class `row` that were taken for class `column`: `[classes, classes]`. */
  readonly confusion?: readonly (readonly number[])[] | undefined;
  readonly samples?: readonly ReportSample[] | undefined;
  readonly summary: ReportSummary;
  readonly versions: Readonly<Record<string, string>>;
}
