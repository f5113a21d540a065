/**
 * Images of your own as a data set.
 */
import { fail } from '../tensor/error.js';
import type { Dataset } from './dataset.js';
import type { Image } from './image.js';
import { checkIndex } from './labels.js';
import type { ModuleSpec } from './module.js';

/**
 * Images of your own and their classes: what `openDataset` needs to make a data set of them.
 *
 * @example
 * const files = ['cat/0.jpg', 'dog/0.jpg'];
 * const source: DatasetSource = {
 *   classes: ['cat', 'dog'],
 *   length: files.length,
 *   label: (index) => (files[index].startsWith('cat/') ? 0 : 1),
 *   read: (index) => readImage(files[index]),
 * };
 */
export interface DatasetSource {
  readonly classes: readonly string[];
  readonly length: number;
  /** The class of an image, by its place in `classes`. The same at every call. */
  label(index: number): number;
  /**
   * The pixels of an image: those of `readImage`, `decodeImage` or your own. A TensorError IO, which these two throw, is a
   * damaged image: training leaves it out. Any other error ends the epoch.
   */
  read(index: number): Image | Promise<Image>;
  /** For messages. Default 'own data'. */
  readonly name?: string;
  /** Where an image is, for messages. Default: its index. */
  where?(index: number): string;
  /** Lets go of what is open. */
  close?(): void | Promise<void>;
}

/** @internal */
export function openSource(source: DatasetSource, spec?: ModuleSpec): Dataset {
  const { classes, length, name = 'own data' } = source;
  if (!(Number.isInteger(length) && length >= 0))
    fail('openDataset', 'VALUE', `expected a whole number of images in ${name}, got ${length}`);
  for (let i = 0; i < length; i++) {
    const label = source.label(i);
    if (!(Number.isInteger(label) && label >= 0 && label < classes.length)) {
      fail(
        'openDataset',
        'VALUE',
        `expected labels below ${classes.length} in ${name}, got ${label} for image ${i}`,
      );
    }
  }
  const where = (index: number): string => source.where?.(index) ?? `${name}: image ${index}`;
  return {
    name,
    classes,
    length,
    spec,
    label: (index) => source.label(index),
    where,
    async read(index): Promise<Image> {
      checkIndex(name, index, length);
      const image = await source.read(index);
      const { data, height, width } = image;
      if (data.length !== 3 * height * width) {
        fail(
          'dataset',
          'SHAPE',
          `expected ${3 * height * width} bytes of pixels [${height}, ${width}, 3] of ${where(index)}, got ${data.length}`,
        );
      }
      return image;
    },
    close: async () => source.close?.(),
  };
}
