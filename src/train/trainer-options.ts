/**
 * The settings of a trainer, their defaults and their limits.
 */
import { type OptionNames, expectArray, expectOptions } from '../tensor/arguments.js';
import { fail, shown } from '../tensor/error.js';
import type { Precision } from '../inference/index.js';
import { expectPrecision } from '../inference/precision.js';
import type { Distillation } from './distillation.js';
import { EVAL_METRICS, type EvalMetric } from './eval-metric.js';
import type { FreezeLayers } from './layers.js';

/** How to train. Names and defaults are timm's where timm has one. */
export interface TrainerOptions {
  readonly epochs: number;
  /** What makes a validation better, for the best epoch and `patience`. Default 'accuracy'. */
  readonly evalMetric?: EvalMetric;
  /**
   * Epochs without a better validation after which training ends: none of a higher accuracy, or of the same and a lower loss,
   * unless `evalMetric` is another. Undefined to train for all `epochs`, which the learning rate is planned for in any case.
   */
  readonly patience?: number | undefined;
  /** Default 'adamw'. */
  readonly opt?: 'adamw' | 'adam' | 'sgd';
  /** The highest learning rate. Default 1e-3. */
  readonly lr?: number;
  /** The last learning rate. Default 0. */
  readonly minLr?: number;
  /** The first learning rate. Default 1e-6. */
  readonly warmupLr?: number;
  /** Epochs of linear warm-up. Default 0. */
  readonly warmupEpochs?: number;
  /** On weight matrices only. Default 0.05. */
  readonly weightDecay?: number;
  /**
   * Learning rate of a layer, as a share of that of the layer after it, in (0, 1]; the head has `lr`. Default 1. Layers are
   * the model's `layerNames`.
   */
  readonly layerDecay?: number;
  /**
   * Layers that do not train: the first so many of the model's `layerNames`, or 'all' but the head. They are in evaluation,
   * without dropout and with the running statistics of batch norms, and backward ends where they begin. Default 0. The model
   * trains whole again after `dispose()`, which comes before another trainer is made: that finds these layers frozen else.
   */
  readonly freezeLayers?: FreezeLayers;
  /** Of SGD. Default 0.9. */
  readonly momentum?: number;
  /** Of Adam. Default [0.9, 0.999]. */
  readonly optBetas?: readonly [number, number];
  /** Largest norm of all gradients together; undefined for no clipping. */
  readonly clipGrad?: number | undefined;
  /** Label smoothing, in [0, 1). Default 0. */
  readonly smoothing?: number;
  /**
   * What an image of each class counts in the loss with the labels: its share of a target, smoothed and mixed, is multiplied by
   * it (with `bceLoss`, where the class is a target). Numbers whose mean over the images is 1 leave the loss its size, such as
   * `images / (classes * imagesOfTheClass)`. What comes of a teacher is not weighted. Default: all 1.
   */
  readonly classWeights?: readonly number[] | undefined;
  /**
   * Binary cross-entropy, each class for itself, in place of cross-entropy: the mean over images and classes. Labels become
   * one-hot targets, smoothed. Default false.
   */
  readonly bceLoss?: boolean;
  /** Makes its targets, mixed and smoothed, 1 where they are above this, else 0; undefined for as they are. */
  readonly bceTargetThresh?: number | undefined;
  /** Batches whose gradients make one update. Default 1. */
  readonly gradAccumSteps?: number;
  /** Decay of the weights' moving average, which is then what is evaluated; undefined for none. */
  readonly modelEmaDecay?: number | undefined;
  /** Begin the average with a smaller decay, so that short runs have a sensible one. Default false. */
  readonly modelEmaWarmup?: boolean;
  /** Of matrix products and attention; weights are float32. Default 'float32'. */
  readonly precision?: Precision;
  /**
   * Launch the kernels of a step one by one on a GPU, not as one CUDA graph: for a model whose hooks, or whose own code, must
   * run at each step. Default false. Without effect on the CPU, in 'fp16' and with `gradAccumSteps` above 1, where there is
   * no graph.
   */
  readonly noGraph?: boolean;
  /** A teacher, besides the labels. Default: none. */
  readonly distillation?: Distillation | undefined;
  /** Of dropout and stochastic depth. Default 0. */
  readonly seed?: number;
}

const OPTIONS = {
  epochs: true,
  evalMetric: true,
  patience: true,
  opt: true,
  lr: true,
  minLr: true,
  warmupLr: true,
  warmupEpochs: true,
  weightDecay: true,
  layerDecay: true,
  freezeLayers: true,
  momentum: true,
  optBetas: true,
  clipGrad: true,
  smoothing: true,
  classWeights: true,
  bceLoss: true,
  bceTargetThresh: true,
  gradAccumSteps: true,
  modelEmaDecay: true,
  modelEmaWarmup: true,
  precision: true,
  noGraph: true,
  distillation: true,
  seed: true,
} satisfies OptionNames<TrainerOptions>;

const DISTILLATION = {
  type: true,
  tau: true,
  teacher: true,
  alpha: true,
} satisfies OptionNames<Distillation>;

/** Settings with nothing left open. */
export type ResolvedTrainerOptions = Required<
  Omit<
    TrainerOptions,
    'patience' | 'clipGrad' | 'classWeights' | 'bceTargetThresh' | 'modelEmaDecay' | 'distillation'
  >
> &
  Pick<
    TrainerOptions,
    'patience' | 'clipGrad' | 'classWeights' | 'bceTargetThresh' | 'modelEmaDecay' | 'distillation'
  >;

/** @internal Fills in the defaults. @throws TensorError VALUE */
export function resolveOptions(options: TrainerOptions): ResolvedTrainerOptions {
  expectOptions('Trainer', options, OPTIONS);
  if (options.distillation !== undefined) expectOptions('Trainer', options.distillation, DISTILLATION);
  const resolved = {
    epochs: options.epochs,
    evalMetric: options.evalMetric ?? 'accuracy',
    patience: options.patience,
    opt: options.opt ?? 'adamw',
    lr: options.lr ?? 1e-3,
    minLr: options.minLr ?? 0,
    warmupLr: options.warmupLr ?? 1e-6,
    warmupEpochs: options.warmupEpochs ?? 0,
    weightDecay: options.weightDecay ?? 0.05,
    layerDecay: options.layerDecay ?? 1,
    freezeLayers: options.freezeLayers ?? 0,
    momentum: options.momentum ?? 0.9,
    optBetas: options.optBetas ?? [0.9, 0.999],
    smoothing: options.smoothing ?? 0,
    classWeights: options.classWeights,
    bceLoss: options.bceLoss ?? false,
    bceTargetThresh: options.bceTargetThresh,
    gradAccumSteps: options.gradAccumSteps ?? 1,
    precision: options.precision ?? 'float32',
    noGraph: options.noGraph ?? false,
    seed: options.seed ?? 0,
    modelEmaWarmup: options.modelEmaWarmup ?? false,
    clipGrad: options.clipGrad,
    modelEmaDecay: options.modelEmaDecay,
    distillation: options.distillation,
  } as const;
  const { epochs, patience = 1, gradAccumSteps, warmupEpochs, precision } = resolved;
  expectPrecision('Trainer', precision);
  if (!EVAL_METRICS.includes(resolved.evalMetric)) {
    fail(
      'Trainer',
      'VALUE',
      `expected an evalMetric of ${EVAL_METRICS.join(', ')}, got ${shown(resolved.evalMetric)}`,
    );
  }
  for (const [name, value] of Object.entries({ epochs, patience, gradAccumSteps })) {
    if (Number.isInteger(value) && value > 0) continue;
    fail('Trainer', 'VALUE', `expected ${name} to be a whole number above 0, got ${value}`);
  }
  if (!(warmupEpochs >= 0 && warmupEpochs <= epochs)) {
    fail('Trainer', 'VALUE', `expected warmupEpochs within ${epochs} epochs, got ${warmupEpochs}`);
  }
  const { bceLoss, bceTargetThresh: thresh } = resolved;
  if (thresh !== undefined && !bceLoss) {
    fail('Trainer', 'VALUE', 'expected bceLoss beside bceTargetThresh, got none');
  }
  if (thresh !== undefined && !(thresh >= 0 && thresh < 1)) {
    fail('Trainer', 'VALUE', `expected a bceTargetThresh in [0, 1), got ${thresh}`);
  }
  expectClassWeights(options.classWeights);
  const { alpha = 0.5 } = options.distillation ?? {};
  if (!(alpha >= 0 && alpha <= 1)) {
    fail('Trainer', 'VALUE', `expected a distillation alpha in [0, 1], got ${alpha}`);
  }
  return resolved;
}

function expectClassWeights(weights: unknown): void {
  if (weights === undefined) return;
  expectArray('Trainer', 'classWeights', weights);
  for (const weight of weights) {
    if (typeof weight === 'number' && weight >= 0 && weight < Infinity) continue;
    fail('Trainer', 'VALUE', `expected classWeights of at least 0, got ${shown(weight)}`);
  }
}
