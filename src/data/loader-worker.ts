/**
 * A thread of the loader: opens the data set, and fills or mixes the parts of batches that it is sent.
 */
import { parentPort, workerData } from 'node:worker_threads';

import { TensorError } from '../tensor/error.js';
import { type Failure, type ImageCache, type Part, assemble } from './assemble.js';
import { type MixPart, mixPairs } from './augment/mix.js';
import { type Dataset, type DatasetSpec, openDataset } from './dataset.js';
import { answerTasks } from './tasks.js';
import type { Transform } from './transforms.js';

/** What a worker starts with. */
export interface WorkerStart {
  readonly spec: DatasetSpec;
  readonly transform: Transform;
  readonly cache: ImageCache | undefined;
}

/** A part to fill, or to mix. */
export type Task = { readonly part: Part } | { readonly mix: MixPart };

const { spec, transform, cache } = workerData as WorkerStart;
let opening: Promise<Dataset> | undefined;

/** @throws TensorError IO, as the thread's own, when data has gone away */
async function open(): Promise<Dataset> {
  try {
    return await openDataset(spec);
  } catch (error) {
    if (error instanceof TensorError) throw error;
    throw new TensorError((error as Error).message, 'DataLoader', 'IO');
  }
}

// An error of a data set's own is not a damaged image: it ends the epoch as it is, as it does without workers.
answerTasks<Task, Failure[]>(parentPort, undefined, async (task) => {
  if ('mix' in task) {
    mixPairs(task.mix);
    return [];
  }
  opening ??= open();
  return assemble(await opening, transform, cache, task.part);
});
