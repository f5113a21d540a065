/**
 * A thread of the loader: opens the data set, and fills or mixes the parts of batches that it is sent.
 */
import { parentPort, workerData } from 'node:worker_threads';

import { type ErrorCode, TensorError } from '../tensor/error.js';
import { type Failure, type ImageCache, type Part, assemble } from './assemble.js';
import { type MixPart, mixPairs } from './augment/mix.js';
import { type Dataset, type DatasetSpec, openDataset } from './dataset.js';
import type { Transform } from './transforms.js';

/** What a worker starts with. */
export interface WorkerStart {
  readonly spec: DatasetSpec;
  readonly transform: Transform;
  readonly cache: ImageCache | undefined;
}

/** A part to fill, or to mix. */
export type Task = { readonly part: Part } | { readonly mix: MixPart };

/** A task, and its answer. */
export type Job = { readonly id: number } & Task;

export type Answer =
  | { readonly id: number; readonly failures: readonly Failure[] }
  | { readonly id: number; readonly error: string; readonly op: string; readonly code: ErrorCode };

const port = parentPort;
if (port === null) throw new Error('worker.js: expected to run as a thread of the DataLoader');
const { spec, transform, cache } = workerData as WorkerStart;
let opening: Promise<Dataset> | undefined;

port.on('message', (job: Job) => {
  void answer(job).then((message) => port.postMessage(message));
});

async function answer(job: Job): Promise<Answer> {
  const { id } = job;
  try {
    if ('mix' in job) {
      mixPairs(job.mix);
      return { id, failures: [] };
    }
    opening ??= openDataset(spec);
    return { id, failures: await assemble(await opening, transform, cache, job.part) };
  } catch (error) {
    if (error instanceof TensorError) return { id, error: error.message, op: error.op, code: error.code };
    return { id, error: (error as Error).message, op: 'DataLoader', code: 'IO' };
  }
}
