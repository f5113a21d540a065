/**
 * Naming what is in images: files here, whatever else comes in a `Predictor`.
 */
import type { Image } from '../data/index.js';
import type { ModelInfo } from '../models/index.js';
import { softmax, topk } from '../ops/index.js';
import { inEvaluation } from '../nn/module.js';
import { fail } from '../tensor/error.js';
import { type OptionNames, expectOptions, expectWhole } from '../tensor/arguments.js';
import { inferenceMode } from '../tensor/index.js';
import type { ImageModel } from './evaluate.js';
import { FILE_OPTIONS, type FileOptions, readBatches } from './image-files.js';
import { modelInput } from './input.js';
import { type Precision, inPrecision } from './precision.js';
import { settled } from './settle.js';

/** A class, and how probable the model takes it to be, in [0, 1]. */
export interface ClassProbability {
  readonly label: string;
  readonly probability: number;
}

/** The classes of one file, the most probable first, or why it could not be read. */
export type FilePrediction =
  | { readonly path: string; readonly top: readonly ClassProbability[] }
  | { readonly path: string; readonly error: string };

/** How many classes are named where nobody says. */
export const TOPK = 5;

/** How many classes to name, and how files are read: 32 at a time by default. */
export interface PredictOptions extends FileOptions {
  /** Classes to name. Default 5. */
  readonly topk?: number;
  /** Default 'float32'. */
  readonly precision?: Precision;
}

const OPTIONS = { ...FILE_OPTIONS, topk: true, precision: true } satisfies OptionNames<PredictOptions>;

/**
 * Predicts the classes of image files, in batches of their order. A file that is no image is reported in its place. More than a few
 * are decoded in threads, a batch ahead. The model computes in evaluation mode, and is left in its own.
 *
 * @throws TensorError VALUE for options that make no sense, or a model without classes
 * @example
 * const { model, info } = await loadModel('runs/animals/checkpoints/best.safetensors');
 * const [{ top }] = await predict(model, info, ['cat.jpg']);
 */
export async function predict(
  model: ImageModel,
  info: ModelInfo,
  files: readonly string[],
  options: PredictOptions = {},
): Promise<FilePrediction[]> {
  expectOptions('predict', options, OPTIONS);
  const how = { topk: options.topk ?? TOPK, precision: options.precision ?? 'float32' } as const;
  expectWhole('predict', 'topk', how.topk, 1);
  expectClasses(info);
  const results: FilePrediction[] = [];
  for await (const batch of readBatches('predict', files, info, options)) {
    const tops = await classify(model, info, batch.views, how);
    const named = batch.results(tops.map((top) => ({ top })));
    for (const [i, path] of batch.paths.entries()) results.push({ path, ...named[i] });
  }
  return results;
}

/** @throws TensorError VALUE for a model without classes */
export function expectClasses(info: ModelInfo): void {
  if (info.classes.length > 0) return;
  fail('predict', 'VALUE', 'expected a model with classes, got one without; embed() needs none');
}

type How = Required<Pick<PredictOptions, 'topk' | 'precision'>>;

/** The classes of views, the most probable first. */
export async function classify(
  model: ImageModel,
  info: ModelInfo,
  views: readonly Image[],
  how: How,
): Promise<ClassProbability[][]> {
  return views.length === 0 ? [] : settled(model.device, () => classifyViews(model, info, views, how));
}

async function classifyViews(
  model: ImageModel,
  info: ModelInfo,
  views: readonly Image[],
  { topk: most, precision }: How,
): Promise<ClassProbability[][]> {
  const k = Math.min(most, info.classes.length);
  const { values, indices } = inferenceMode(() =>
    inEvaluation(model, () =>
      inPrecision(precision, () => topk(softmax(model.call(modelInput(views, info, model))), k)),
    ),
  );
  try {
    const [probabilities, classes] = await Promise.all([values.data(), indices.data()]);
    return views.map((_, row) =>
      Array.from({ length: k }, (__, i) => ({
        label: info.classes[classes[row * k + i]],
        probability: probabilities[row * k + i],
      })),
    );
  } finally {
    values.dispose();
    indices.dispose();
  }
}
