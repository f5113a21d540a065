/**
 * What a user means by "this data": from a path to training and validation sets.
 */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

import { fail } from '../tensor/error.js';
import { type OptionNames, expectOptions } from '../tensor/options.js';
import { cifarFiles, listCifar } from './cifar.js';
import type { DatasetSpec } from './dataset.js';
import { listFolder, splitFolder } from './folder.js';
import { listMnist, mnistFiles } from './mnist.js';
import { shapesData } from './shapes-dataset.js';
import { listTar } from './tar.js';

/** How to part data that comes in one piece. */
export interface FindDataOptions {
  /** Share of a folder's images to keep for validation, where it has no folder of them. Default 0.2. */
  readonly valFraction?: number;
  /** Of that choice, and of `shapes`. Default 0. */
  readonly seed?: number;
}

const OPTIONS = { valFraction: true, seed: true } satisfies OptionNames<FindDataOptions>;

const TRAIN = ['train', 'training'];
const VAL = ['val', 'valid', 'validation', 'test'];

/**
 * The training and validation sets of:
 * - `'shapes'`, the built-in pictures;
 * - a folder with `train/` and `val/` (or `valid`, `validation`, `test`), each with a folder of images for each class;
 * - a folder with a folder of images for each class, of which a share is kept for validation;
 * - a folder of tar shards `train*.tar` and `val*.tar` (or `valid`, `validation`, `test`) in the WebDataset layout;
 * - a folder of CIFAR's binary files, or of MNIST's IDX files.
 *
 * @throws TensorError IO when there is nothing of that kind
 * @example
 * const { train, val } = await findData('photos');
 */
export async function findData(
  path: string,
  options: FindDataOptions = {},
): Promise<{ train: DatasetSpec; val: DatasetSpec }> {
  expectOptions('findData', options, OPTIONS);
  const { valFraction = 0.2, seed = 0 } = options;
  if (path === 'shapes' && !existsSync(path)) return shapesData({ seed });
  if (!existsSync(path))
    fail('findData', 'IO', `expected 'shapes' or a folder, got ${path}, which does not exist`);
  if (!statSync(path).isDirectory())
    fail('findData', 'IO', `expected 'shapes' or a folder, got the file ${path}`);

  const cifar = cifarFiles(path);
  if (cifar !== undefined) {
    const { train, val, labelBytes } = cifar;
    return { train: await listCifar(path, train, labelBytes), val: await listCifar(path, val, labelBytes) };
  }
  const mnist = mnistFiles(path);
  if (mnist !== undefined) return { train: await listMnist(mnist.train), val: await listMnist(mnist.val) };

  const names = readdirSync(path).sort();
  const shards = names.filter((name) => name.endsWith('.tar'));
  if (shards.length > 0) {
    const part = (prefixes: readonly string[]): string[] =>
      shards
        .filter((name) => prefixes.some((prefix) => name.startsWith(prefix)))
        .map((name) => join(path, name));
    const [train, val] = [part(TRAIN), part(VAL)];
    if (train.length === 0 || val.length === 0) {
      fail(
        'findData',
        'IO',
        `expected shards train*.tar and val*.tar or test*.tar in ${path}, got ${shards.join(', ')}`,
      );
    }
    const listed = listTar(train);
    return { train: listed, val: listTar(val, listed.classes) };
  }

  const folder = (wanted: readonly string[]): string | undefined =>
    wanted.map((name) => join(path, name)).find((full) => existsSync(full) && statSync(full).isDirectory());
  const [train, val] = [folder(TRAIN), folder(VAL)];
  if (train !== undefined) {
    const listed = await listFolder(train);
    if (val === undefined) return splitFolder(listed, valFraction, seed);
    return { train: listed, val: await listFolder(val, listed.classes) };
  }
  return splitFolder(await listFolder(path), valFraction, seed);
}
