/**
 * A thread of the loader: opens the data set, and fills or mixes the parts of batches that it is sent.
 */
import { parentPort, workerData } from 'node:worker_threads';

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

answerTasks<Task, Failure[]>(parentPort, { op: 'DataLoader', code: 'IO' }, async (task) => {
  if ('mix' in task) {
    mixPairs(task.mix);
    return [];
  }
  opening ??= openDataset(spec);
  return assemble(await opening, transform, cache, task.part);
});
