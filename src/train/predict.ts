/**
 * Naming what is in image files.
 */
import { type Image, applySteps, normalizeInto, readImage, SampleRandom } from '../data/index.js';
import type { ModelInfo } from '../models/index.js';
import { softmax, tensor, topk } from '../ops/index.js';
import { type Tensor, TensorError, inferenceMode } from '../tensor/index.js';
import type { ImageModel } from './evaluate.js';
import { type Precision, inPrecision } from './precision.js';
import { inputTransform } from './setup.js';

/** The classes of one image, the most probable first, or why it could not be read. */
export type FilePrediction =
  | {
      readonly path: string;
      readonly top: readonly { readonly label: string; readonly probability: number }[];
    }
  | { readonly path: string; readonly error: string };

/** How many classes to name, and how many images at a time. */
export interface PredictOptions {
  /** Classes to name. Default 5. */
  readonly topk?: number;
  /** Images per batch. Default 32. */
  readonly batchSize?: number;
  /** Default 'float32'. */
  readonly precision?: Precision;
}

/**
 * Predicts the classes of image files. A file that is no image is reported in its place.
 *
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
  const { batchSize = 32, precision = 'float32' } = options;
  const k = Math.min(options.topk ?? 5, info.classes.length);
  model.eval();
  const results: FilePrediction[] = [];
  for (let start = 0; start < files.length; start += batchSize) {
    const batch = files.slice(start, start + batchSize);
    const images = await readImages(batch, info);
    const [values, classes] = await classify(model, images, k, precision);
    for (const path of batch) {
      const error = images.failed.get(path);
      if (error !== undefined) {
        results.push({ path, error });
        continue;
      }
      const row = images.read.indexOf(path) * k;
      const top = Array.from({ length: k }, (_, i) => ({
        label: info.classes[classes[row + i]],
        probability: values[row + i],
      }));
      results.push({ path, top });
    }
  }
  return results;
}

/** Image files as a model takes them. */
export interface ReadImages {
  /** The files that could be read, in order. */
  readonly read: readonly string[];
  /** What was wrong with the others. */
  readonly failed: ReadonlyMap<string, string>;
  /** What the model sees, before it is normalised. */
  readonly views: readonly Image[];
  /** `[read, 3, height, width]` */
  readonly pixels: Float32Array;
  readonly shape: readonly [count: number, channels: 3, height: number, width: number];
}

/** Reads image files as evaluation does. A file that is no image is left out and named. */
export async function readImages(files: readonly string[], info: ModelInfo): Promise<ReadImages> {
  const { steps, size, mean, std } = inputTransform(info.input);
  const values = 3 * size[0] * size[1];
  const still = new SampleRandom(0, 0, 0); // evaluation draws nothing
  const pixels = new Float32Array(files.length * values);
  const read: string[] = [];
  const views: Image[] = [];
  const failed = new Map<string, string>();
  for (const path of files) {
    try {
      const view = applySteps(await readImage(path), steps, still);
      normalizeInto(view, mean, std, pixels, read.length * values);
      read.push(path);
      views.push(view);
    } catch (error) {
      if (!(error instanceof TensorError)) throw error;
      failed.set(path, error.message);
    }
  }
  const shape = [read.length, 3, ...size] as const;
  return { read, failed, views, pixels: pixels.subarray(0, read.length * values), shape };
}

/** Images as a tensor. */
export function tensorOf({ pixels, shape }: ReadImages, model: ImageModel): Tensor<'float32'> {
  return tensor(pixels, { shape, device: model.device });
}

async function classify(
  model: ImageModel,
  images: ReadImages,
  k: number,
  precision: Precision,
): Promise<[probabilities: ArrayLike<number>, classes: ArrayLike<number>]> {
  if (images.read.length === 0) return [[], []];
  const { values, indices } = inferenceMode(() =>
    inPrecision(precision, () => topk(softmax(model.call(tensorOf(images, model))), k)),
  );
  try {
    return await Promise.all([values.data(), indices.data()]);
  } finally {
    values.dispose();
    indices.dispose();
  }
}
