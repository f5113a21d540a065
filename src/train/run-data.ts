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

/** Both sets, open. */
export interface RunData {
  readonly kind: DatasetSpec['kind'];
  readonly trainSet: Dataset;
  readonly valSet: Dataset;
}

/** Opens what a path names. @throws TensorError IO for data that cannot be used */
export async function openRunData(path: string, options: FindDataOptions): Promise<RunData> {
  const { train, val } = await findData(path, options);
  const trainSet = await openDataset(train);
  try {
    return { kind: train.kind, trainSet, valSet: await openDataset(val) };
  } catch (error) {
    await trainSet.close();
    throw error;
  }
}

export async function closeRunData({ trainSet, valSet }: RunData): Promise<void> {
  await Promise.all([trainSet.close(), valSet.close()]);
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
