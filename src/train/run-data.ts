/**
 * The data of a run: images to train on, and images to evaluate on.
 */
import {
  type Dataset,
  type DatasetSpec,
  type FindDataOptions,
  findData,
  openDataset,
} from '../data/index.js';
import { digestOfData } from '../data/digest.js';
import { fail } from '../tensor/error.js';
import { describeClasses } from './classes.js';
import type { StoredConfig } from './run-folder.js';

/** Both sets, open. */
export interface RunData {
  readonly specs: { readonly train: DatasetSpec; readonly val: DatasetSpec };
  readonly trainSet: Dataset;
  readonly valSet: Dataset;
}

/** Opens what a path names. @throws TensorError IO for data that cannot be used */
export async function openRunData(path: string, options: FindDataOptions): Promise<RunData> {
  const { train, val } = await findData(path, options);
  const trainSet = await openDataset(train);
  try {
    return { specs: { train, val }, trainSet, valSet: await openDataset(val) };
  } catch (error) {
    await trainSet.close();
    throw error;
  }
}

export async function closeRunData({ trainSet, valSet }: RunData): Promise<void> {
  await Promise.all([trainSet.close(), valSet.close()]);
}

/** Tells whether images have been renamed or changed, or have come or gone. */
export function digestOfRunData({ specs: { train, val } }: RunData): Promise<string> {
  return digestOfData([train, val]);
}

/** @throws TensorError VALUE when a run's images are others than when it began */
export async function expectSameData(stored: StoredConfig, data: RunData, path: string): Promise<void> {
  const facts = (train: number, val: number, classes: readonly string[]): string =>
    `${train} training and ${val} validation images of ${describeClasses(classes)}`;
  const { trainSet, valSet } = data;
  const now = facts(trainSet.length, valSet.length, trainSet.classes);
  const then = facts(stored.trainImages, stored.valImages, stored.classes);
  if (now !== then || trainSet.classes.join('\n') !== stored.classes.join('\n'))
    fail('resume', 'VALUE', `expected the data of the run, ${then}, got ${now}`);
  if (stored.images !== undefined && stored.images !== (await digestOfRunData(data))) {
    fail(
      'resume',
      'VALUE',
      `expected the images of the run in ${path}, got others: names or sizes of files differ`,
    );
  }
}

/** The size of a first image that is whole. */
export async function firstImage(dataset: Dataset): Promise<{ height: number; width: number }> {
  for (let i = 0; ; i++) {
    try {
      const { height, width } = await dataset.read(i);
      return { height, width };
    } catch (error) {
      if (i + 1 >= Math.min(dataset.length, 10)) throw error; // a damaged image or two are the loader's affair
    }
  }
}

/** A name for runs on some data: the last part of its path. */
export function nameOf(data: string): string {
  return (
    data
      .split(/[/\\]/)
      .filter((part) => part !== '' && part !== '.' && part !== '..')
      .at(-1) ?? 'run'
  );
}
