/**
 * Where a run stands, and what it reports of a step and of an epoch.
 */
import type { Evaluation } from '../inference/index.js';

/** Where a run stands, besides tensors: what a checkpoint stores to continue it exactly. */
export interface Progress {
  epoch: number;
  /** Batches of this epoch done. */
  batch: number;
  step: number;
  /** Sums over this epoch. */
  lossSum: number;
  correct: number;
  images: number;
  seconds: number;
  waitSeconds: number;
  /** Of the best epoch, as the two after it, which are null also where an older checkpoint does not say them. */
  bestAccuracy: number | null;
  bestBalancedAccuracy: number | null;
  bestLoss: number | null;
  bestEpoch: number | null;
}

/** @internal A run that has not begun. */
export const START: Progress = {
  epoch: 0,
  batch: 0,
  step: 0,
  lossSum: 0,
  correct: 0,
  images: 0,
  seconds: 0,
  waitSeconds: 0,
  bestAccuracy: null,
  bestBalancedAccuracy: null,
  bestLoss: null,
  bestEpoch: null,
};

/** What a step reports. */
export interface StepEvent {
  /** From 0. */
  readonly epoch: number;
  /** Batches of the epoch done. */
  readonly batch: number;
  readonly batches: number;
  /** Updates done. */
  readonly step: number;
  /** Of this batch. */
  readonly loss: number;
  /** Means over the epoch so far. */
  readonly meanLoss: number;
  readonly accuracy: number;
  readonly lr: number;
  readonly imagesPerSecond: number;
  /** Share of the time spent waiting for data. */
  readonly dataWaitShare: number;
}

/** What an epoch reports. */
export interface EpochMetrics {
  /** From 0. */
  readonly epoch: number;
  readonly step: number;
  readonly trainLoss: number;
  readonly trainAccuracy: number;
  readonly valLoss?: number;
  readonly valAccuracy?: number;
  /** The balanced accuracy: the mean of the classes' accuracies. */
  readonly valBalancedAccuracy?: number;
  readonly valTop5?: number;
  readonly lr: number;
  readonly imagesPerSecond: number;
  readonly dataWaitShare: number;
  /** Of training, without evaluation. */
  readonly seconds: number;
}

/** @internal */
export function stepEvent(
  progress: Progress,
  step: Pick<StepEvent, 'batch' | 'batches' | 'step' | 'loss' | 'lr'>,
): StepEvent {
  const { epoch, lossSum, correct, images, seconds, waitSeconds } = progress;
  const { batch, batches, loss, lr } = step;
  return {
    epoch,
    batch,
    batches,
    step: step.step,
    loss,
    meanLoss: lossSum / images,
    accuracy: correct / images,
    lr,
    imagesPerSecond: images / seconds,
    dataWaitShare: waitSeconds / seconds,
  };
}

/** @internal */
export function epochMetrics(
  progress: Progress,
  lr: number,
  evaluation: Evaluation | undefined,
): EpochMetrics {
  const { epoch, step, lossSum, correct, images, seconds, waitSeconds } = progress;
  return {
    epoch,
    step,
    trainLoss: lossSum / images,
    trainAccuracy: correct / images,
    ...(evaluation && {
      valLoss: evaluation.loss,
      valAccuracy: evaluation.accuracy,
      valBalancedAccuracy: evaluation.balancedAccuracy,
      valTop5: evaluation.top5,
    }),
    lr,
    imagesPerSecond: images / seconds,
    dataWaitShare: waitSeconds / seconds,
    seconds,
  };
}

/** @internal The start of the epoch after: the sums begin anew. */
export function nextEpoch({ epoch, step, ...before }: Progress): Progress {
  const { bestAccuracy, bestBalancedAccuracy, bestLoss, bestEpoch } = before;
  return { ...START, epoch: epoch + 1, step, bestAccuracy, bestBalancedAccuracy, bestLoss, bestEpoch };
}
