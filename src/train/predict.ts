/**
 * Naming what is in image files.
 */
import { applySteps, normalizeInto, readImage, SampleRandom } from '../data/index.js';
import type { ModelInfo } from '../models/index.js';
import { softmax, tensor, topk } from '../ops/index.js';
import { TensorError, inferenceMode } from '../tensor/index.js';
import type { ImageModel } from './evaluate.js';
import { type Precision, inPrecision } from './precision.js';
import { inputTransform } from './run.js';

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
  const { steps, size, mean, std } = inputTransform(info.input);
  const pixels = 3 * size[0] * size[1];
  const still = new SampleRandom(0, 0, 0); // evaluation draws nothing
  model.eval();
  const results: FilePrediction[] = [];
  for (let start = 0; start < files.length; start += batchSize) {
    const batch = files.slice(start, start + batchSize);
    const input = new Float32Array(batch.length * pixels);
    const read: string[] = [];
    const failed = new Map<string, string>();
    for (const path of batch) {
      try {
        normalizeInto(
          applySteps(await readImage(path), steps, still),
          mean,
          std,
          input,
          read.length * pixels,
        );
        read.push(path);
      } catch (error) {
        if (!(error instanceof TensorError)) throw error;
        failed.set(path, error.message);
      }
    }
    const images = input.subarray(0, read.length * pixels);
    const [values, classes] = await classify(model, images, size, k, precision);
    for (const path of batch) {
      const error = failed.get(path);
      if (error !== undefined) {
        results.push({ path, error });
        continue;
      }
      const row = read.indexOf(path) * k;
      const top = Array.from({ length: k }, (_, i) => ({
        label: info.classes[classes[row + i]],
        probability: values[row + i],
      }));
      results.push({ path, top });
    }
  }
  return results;
}

async function classify(
  model: ImageModel,
  input: Float32Array,
  [height, width]: readonly [height: number, width: number],
  k: number,
  precision: Precision,
): Promise<[probabilities: ArrayLike<number>, classes: ArrayLike<number>]> {
  const count = input.length / (3 * height * width);
  if (count === 0) return [[], []];
  const { values, indices } = inferenceMode(() =>
    inPrecision(precision, () =>
      topk(softmax(model.call(tensor(input, { shape: [count, 3, height, width], device: model.device }))), k),
    ),
  );
  try {
    return await Promise.all([values.data(), indices.data()]);
  } finally {
    values.dispose();
    indices.dispose();
  }
}
