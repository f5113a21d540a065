/**
 * What a configuration describes: the model, how it is trained, and how its images are prepared.
 */
import type { Transform } from '../data/index.js';
import {
  type InputSpec,
  type Model,
  type ModelOptions,
  createModel,
  familyOf,
  modelEntry,
} from '../models/index.js';
import { fail } from '../tensor/error.js';
import { inputTransform } from '../inference/index.js';
import { augmentation } from './augmentation.js';
import { balancedWeights } from './classes.js';
import { MODEL_FLAGS, type TrainConfig, flagOf } from './config.js';
import type { Teacher } from './teacher.js';
import type { TrainerOptions } from './trainer-options.js';

/** The model that a configuration describes. */
export function modelOf(
  config: TrainConfig,
  classes: number,
): { model: Model; name: string; options: ModelOptions } {
  const { drop, dropPath } = config;
  const { defaults } = familyOf(modelEntry(config.model).family);
  const given = MODEL_FLAGS.filter((key) => config[key] !== undefined);
  const unknown = given.find((key) => !(key in defaults));
  if (unknown !== undefined) {
    fail('train', 'VALUE', `expected settings that ${config.model} has, got ${flagOf(unknown)}`);
  }
  const options: ModelOptions = {
    ...config.modelKwargs,
    ...(Object.fromEntries(given.map((key) => [key, config[key]])) as ModelOptions),
    imgSize: config.imgSize,
    numClasses: classes,
    dropRate: drop,
    dropPathRate: dropPath,
  };
  return { model: createModel(config.model, options), name: config.model, options };
}

/** How the trainer is to train, on data with so many images of each class. */
export function trainerOptionsOf(
  config: TrainConfig,
  teacher: Teacher | undefined,
  classImages: readonly number[],
): Required<TrainerOptions> {
  const { epochs, opt, lr, minLr, warmupLr, warmupEpochs, weightDecay, momentum, optBetas } = config;
  const { evalMetric = 'accuracy', patience, layerDecay, freezeLayers, bceLoss, bceTargetThresh } = config;
  const { clipGrad, smoothing, gradAccumSteps, modelEmaDecay, modelEmaWarmup } = config;
  const { precision, noGraph, seed } = config;
  const { distillation: type, distillationAlpha: alpha, distillationTau: tau } = config;
  return {
    epochs,
    evalMetric,
    patience: patience === 0 ? undefined : patience,
    opt,
    lr,
    minLr,
    warmupLr,
    warmupEpochs,
    weightDecay,
    layerDecay,
    freezeLayers,
    momentum,
    optBetas,
    clipGrad: clipGrad === 0 ? undefined : clipGrad,
    smoothing,
    classWeights: config.classWeights === 'balanced' ? balancedWeights(classImages) : undefined,
    bceLoss,
    bceTargetThresh,
    gradAccumSteps,
    modelEmaDecay: modelEmaDecay === 0 ? undefined : modelEmaDecay,
    modelEmaWarmup,
    precision,
    noGraph,
    distillation: teacher === undefined || type === 'none' ? undefined : { type, alpha, tau, teacher },
    seed,
  };
}

/** Height and width of the model's input. */
function sizeOf(config: TrainConfig): readonly [height: number, width: number] {
  const { imgSize } = config;
  return typeof imgSize === 'number' ? [imgSize, imgSize] : imgSize;
}

/** What the model expects of its images. */
export function inputOf(config: TrainConfig): InputSpec {
  const { mean, std, interpolation, cropPct, cropMode } = config;
  return {
    size: sizeOf(config),
    mean,
    std,
    interpolation,
    cropPct,
    ...(cropMode === 'squash' && { cropMode }),
  };
}

/** The preparation and augmentation of training images. */
export function trainingTransform(config: TrainConfig): Transform {
  const input = inputTransform(inputOf(config));
  return config.noAug ? input : { ...input, ...augmentation(config, input.size) };
}
