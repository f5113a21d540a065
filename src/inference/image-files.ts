/**
 * Image files as a model sees them.
 */
import type { Image } from '../data/index.js';
import { defaultWorkers } from '../data/pool.js';
import { Preprocessor } from '../data/preprocessor.js';
import type { ModelInfo } from '../models/index.js';
import { type OptionNames, expectArray, expectWhole } from '../tensor/arguments.js';
import { TensorError } from '../tensor/error.js';
import { transformOf } from './input.js';

/** Files that are not worth a thread: to start one takes about as long. */
const FEW = 4;

/** How files are read. */
export interface FileOptions {
  /** Images per batch. */
  readonly batchSize?: number | undefined;
  /** Threads that decode and resize; 0 does it on the calling thread. Default: one less than the cores, from 1 to 8. */
  readonly workers?: number | undefined;
}

export const FILE_OPTIONS = { batchSize: true, workers: true } satisfies OptionNames<FileOptions>;

/** What could be read of a batch of files, and what was wrong with the others. */
export interface FileBatch {
  readonly paths: readonly string[];
  /** What the model sees of each file that could be read, in their order. */
  readonly views: readonly Image[];
  /** For each file what its place among the views has made of it, or why it could not be read. */
  results<R>(ofViews: readonly R[]): (R | { readonly error: string })[];
}

/**
 * Reads files and prepares them as evaluation does, in batches of their order; the next batch while one is worked on.
 *
 * @throws TensorError VALUE for options that make no sense; MEMORY when a thread has died
 */
export async function* readBatches(
  op: string,
  files: readonly string[],
  info: ModelInfo,
  { batchSize = 32, workers = defaultWorkers() }: FileOptions,
): AsyncGenerator<FileBatch> {
  expectArray(op, 'files', files);
  expectWhole(op, 'batchSize', batchSize, 1);
  expectWhole(op, 'workers', workers, 0);
  const { steps } = transformOf(op, info.input);
  const preprocessor = new Preprocessor({ steps, workers: files.length > FEW ? workers : 0 });
  const readView = async (path: string): Promise<Image | { readonly error: string }> => {
    try {
      return await preprocessor.view(path);
    } catch (error) {
      if (!(error instanceof TensorError && error.code === 'IO')) throw error;
      return { error: error.message };
    }
  };
  const read = async (start: number): Promise<FileBatch> => {
    const paths = files.slice(start, start + batchSize);
    const all = await Promise.all(paths.map(readView));
    const views = all.filter((view): view is Image => !('error' in view));
    return {
      paths,
      views,
      results: (ofViews) => {
        let at = 0;
        return all.map((view) => ('error' in view ? view : ofViews[at++]));
      },
    };
  };
  try {
    let next = read(0);
    for (let start = 0; start < files.length; start += batchSize) {
      const batch = await next;
      next = read(start + batchSize);
      next.catch(() => undefined); // it is awaited in its turn, if that comes
      yield batch;
    }
  } finally {
    await preprocessor.close();
  }
}
