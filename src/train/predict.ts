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
    const { paths, images, failed } = await readImages(batch);
    const [values, classes] = await classify(model, modelInput(images, info), k, precision);
    for (const path of batch) {
      const error = failed.get(path);
      if (error !== undefined) {
        results.push({ path, error });
        continue;
      }
      const row = paths.indexOf(path) * k;
      const top = Array.from({ length: k }, (_, i) => ({
        label: info.classes[classes[row + i]],
        probability: values[row + i],
      }));
      results.push({ path, top });
    }
  }
  return results;
}

/** Images as a model takes them. */
export interface ModelInput {
  /** What the model sees, before it is normalised. */
  readonly views: readonly Image[];
  /** `[count, 3, height, width]`, normalised. */
  readonly pixels: Float32Array;
  readonly shape: readonly [count: number, channels: 3, height: number, width: number];
}

/** Prepares images as evaluation does. */
export function modelInput(images: readonly Image[], info: ModelInfo): ModelInput {
  const { steps, size, mean, std } = inputTransform(info.input);
  const values = 3 * size[0] * size[1];
  const still = new SampleRandom(0, 0, 0); // evaluation draws nothing
  const views = images.map((image) => applySteps(image, steps, still));
  const pixels = new Float32Array(images.length * values);
  for (const [i, view] of views.entries()) normalizeInto(view, mean, std, pixels, i * values);
  return { views, pixels, shape: [images.length, 3, ...size] };
}

/** The input as a tensor, where the model is. */
export function tensorOf({ pixels, shape }: ModelInput, model: ImageModel): Tensor<'float32'> {
  return tensor(pixels, { shape, device: model.device });
}

/** Image files, read. */
export interface ReadImages {
  /** The files that could be read, and what is in them. */
  readonly paths: readonly string[];
  readonly images: readonly Image[];
  /** What was wrong with the others. */
  readonly failed: ReadonlyMap<string, string>;
}

/** Reads image files. One that is no image is left out and named. */
export async function readImages(files: readonly string[]): Promise<ReadImages> {
  const paths: string[] = [];
  const images: Image[] = [];
  const failed = new Map<string, string>();
  for (const path of files) {
    try {
      images.push(await readImage(path));
      paths.push(path);
    } catch (error) {
      if (!(error instanceof TensorError)) throw error;
      failed.set(path, error.message);
    }
  }
  return { paths, images, failed };
}

async function classify(
  model: ImageModel,
  input: ModelInput,
  k: number,
  precision: Precision,
): Promise<[probabilities: ArrayLike<number>, classes: ArrayLike<number>]> {
  if (input.views.length === 0) return [[], []];
  const { values, indices } = inferenceMode(() =>
    inPrecision(precision, () => topk(softmax(model.call(tensorOf(input, model))), k)),
  );
  try {
    return await Promise.all([values.data(), indices.data()]);
  } finally {
    values.dispose();
    indices.dispose();
  }
}
