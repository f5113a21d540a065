/**
 * Images in memory, all of one size.
 */
import { fail } from '../tensor/error.js';
import { type OptionNames, expectOptions } from '../tensor/options.js';
import type { Dataset } from './dataset.js';
import type { Image } from './image.js';
import { checkIndex, checkLabels, sharedInt32 } from './labels.js';

/** Images in memory as a data set; see `memoryData`. */
export interface MemorySpec {
  readonly kind: 'memory';
  readonly name: string;
  readonly classes: readonly string[];
  /** `[images, height, width, channels]`; one channel is grey. */
  readonly pixels: Uint8Array;
  readonly height: number;
  readonly width: number;
  readonly channels: 1 | 3;
  readonly labels: Int32Array;
}

/** Images in memory and their classes, all of one size. */
export interface MemoryData {
  /** For messages. Default 'memory'. */
  readonly name?: string;
  readonly classes: readonly string[];
  /** `[images, height, width, channels]` */
  readonly pixels: Uint8Array;
  readonly height: number;
  readonly width: number;
  /** 1 for grey, 3 (default) for RGB. */
  readonly channels?: 1 | 3;
  /** A class for each image. */
  readonly labels: readonly number[] | Int32Array;
}

/** @internal */
export const MEMORY_DATA = {
  name: true,
  classes: true,
  pixels: true,
  height: true,
  width: true,
  channels: true,
  labels: true,
} satisfies OptionNames<MemoryData>;

/**
 * A data set of images in memory. The pixels are copied into shared memory, unless they are there already.
 *
 * @throws TensorError IO when sizes and labels do not fit each other
 * @example
 * const dataset = await openDataset(memoryData({ classes: ['cat', 'dog'], pixels, height: 32, width: 32, labels }));
 */
export function memoryData(data: MemoryData): MemorySpec {
  expectOptions('memoryData', data, MEMORY_DATA);
  const { name = 'memory', classes, height, width, channels = 3 } = data;
  const labels = sharedInt32(data.labels);
  const needed = labels.length * height * width * channels;
  if (data.pixels.length !== needed) {
    fail(
      'openDataset',
      'IO',
      `expected ${needed} bytes of pixels for ${labels.length} images [${height}, ${width}, ${channels}], got ${data.pixels.length}`,
    );
  }
  checkLabels(name, labels, classes.length);
  let { pixels } = data;
  if (!(pixels.buffer instanceof SharedArrayBuffer)) {
    pixels = new Uint8Array(new SharedArrayBuffer(needed));
    pixels.set(data.pixels);
  }
  return { kind: 'memory', name, classes, pixels, height, width, channels, labels };
}

/** @internal */
export function openMemory(spec: MemorySpec): Promise<Dataset> {
  const { name, classes, pixels, height, width, channels, labels } = spec;
  const size = height * width * channels;
  return Promise.resolve({
    name,
    classes,
    length: labels.length,
    spec,
    label: (index) => labels[index],
    where: (index) => `${name}: image ${index}`,
    read(index): Promise<Image> {
      checkIndex(name, index, labels.length);
      const own = pixels.subarray(index * size, (index + 1) * size);
      if (channels === 3) return Promise.resolve({ data: own.slice(), height, width });
      const data = new Uint8Array(3 * size);
      for (let i = 0; i < size; i++) data.fill(own[i], 3 * i, 3 * i + 3);
      return Promise.resolve({ data, height, width });
    },
    close: () => Promise.resolve(),
  });
}
