/**
 * Filling a batch's memory, sample by sample: what the loader's workers do, and the loader itself without workers.
 */
import { TensorError } from '../tensor/error.js';
import { erase } from './augment/erase.js';
import type { Dataset } from './dataset.js';
import type { Image } from './image.js';
import { SampleRandom } from './sample-random.js';
import { type Transform, applySteps, normalizeInto } from './transforms.js';

/** Decoded images that all workers share, where they are small enough to keep: all of one size. */
export interface ImageCache {
  readonly height: number;
  readonly width: number;
  /** `[images, height, width, 3]` */
  readonly pixels: Uint8Array;
  /** 1 for an image that is there. */
  readonly present: Uint8Array;
}

/** Some samples of a batch. */
export interface Part {
  /** The batch's memory, `[batch, 3, height, width]`. */
  readonly images: Float32Array;
  /** For each sample: its place in the batch, in the data set, and in the epoch's random numbers. */
  readonly places: readonly number[];
  readonly indices: readonly number[];
  readonly draws: readonly number[];
  readonly seed: number;
  readonly epoch: number;
}

/** A sample that could not be read. */
export interface Failure {
  readonly place: number;
  readonly message: string;
}

async function readCached(dataset: Dataset, index: number, cache: ImageCache | undefined): Promise<Image> {
  if (cache === undefined) return dataset.read(index);
  const { height, width, pixels, present } = cache;
  const size = height * width * 3;
  const own = pixels.subarray(index * size, (index + 1) * size);
  if (Atomics.load(present, index) === 1) return { data: own, height, width };
  const image = await dataset.read(index);
  if (image.height === height && image.width === width) {
    own.set(image.data); // two workers would write the same bytes
    Atomics.store(present, index, 1);
  }
  return image;
}

/** Reads, transforms and normalises the samples of a part. Returns those that failed. */
export async function assemble(
  dataset: Dataset,
  transform: Transform,
  cache: ImageCache | undefined,
  part: Part,
): Promise<Failure[]> {
  const { steps, size, mean, std, erasing } = transform;
  const stride = 3 * size[0] * size[1];
  const failures: Failure[] = [];
  for (const [i, place] of part.places.entries()) {
    const index = part.indices[i];
    try {
      const image = await readCached(dataset, index, cache);
      const random = new SampleRandom(part.seed, part.epoch, part.draws[i]);
      const ready = applySteps(image, steps, random);
      if (ready.height !== size[0] || ready.width !== size[1]) {
        throw new TensorError(
          `DataLoader: expected the transform to give ${size.join(' x ')} pixels, got ${ready.height} x ${ready.width}`,
          'DataLoader',
          'SHAPE',
        );
      }
      normalizeInto(ready, mean, std, part.images, place * stride);
      if (erasing !== undefined) erase(part.images, place * stride, size[0], size[1], erasing, random);
    } catch (error) {
      // A damaged image is an error of its own kind; any other ends the epoch.
      if (!(error instanceof TensorError) || error.code !== 'IO') throw error;
      failures.push({ place, message: error.message });
    }
  }
  return failures;
}
