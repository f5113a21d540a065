/**
 * Batches of images, made by worker threads ahead of their use.
 *
 * Each batch is filled in shared memory by all workers together, so that the first one is ready soon. The order of an
 * epoch and every random choice follow from (seed, epoch, sample), never from the workers: any number of them gives the
 * same batches, and an epoch can be resumed at any batch.
 */
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';

import { TensorError, fail } from '../tensor/error.js';
import { type Failure, type ImageCache, type Part, assemble } from './assemble.js';
import type { Batch, BatchSource } from './batch.js';
import type { Dataset } from './dataset.js';
import { SampleRandom } from './sample-random.js';
import type { Transform } from './transforms.js';
import type { Answer, Job, WorkerStart } from './worker.js';

/** What a batch is, and how batches are made. */
export interface LoaderOptions {
  readonly batchSize: number;
  readonly transform: Transform;
  /** Another order in each epoch. Default false: the data set's order. */
  readonly shuffle?: boolean;
  /** Of the order and the augmentation. Default 0. */
  readonly seed?: number;
  /** Threads that decode; 0 decodes on the calling thread. Default: one less than the processor's, from 1 to 8. */
  readonly workers?: number;
  /** Batches to make ahead. Default 3. */
  readonly prefetch?: number;
  /** Leave out a last batch that is not full. Default false. */
  readonly dropLast?: boolean;
  /** Every `count`-th image from `index` on: for several processes on one data set. */
  readonly shard?: { readonly index: number; readonly count: number };
  /** How often an epoch shows each image, each time augmented anew. Default 1. */
  readonly repeats?: number;
  /** A damaged image: leave it out and note it in `stats.skipped` (default), or reject. */
  readonly onCorrupt?: 'skip' | 'error';
  /** Keep decoded images of up to 64 x 64 pixels in memory, up to 1 GiB. Default true. */
  readonly cache?: boolean;
}

/** What a loader has done so far. */
export interface LoaderStats {
  /** How long batches were waited for, in seconds. */
  waitSeconds: number;
  /** Images given out. */
  images: number;
  /** Damaged images that were left out, with their path and what is wrong; each once. */
  readonly skipped: string[];
}

/** The longest side and the most bytes of images that are kept decoded. */
const CACHE_SIDE = 64;
const CACHE_BYTES = 2 ** 30;

/** Draws of repeated images are this far apart, beyond any data set. */
const REPEAT_STRIDE = 2 ** 26;

/** An index of samples for the shuffle's random numbers: no sample has it. */
const ORDER = 2 ** 31 - 1;

interface Filled {
  readonly slot: Float32Array;
  readonly indices: Int32Array;
}

/**
 * Loads a data set in batches.
 *
 * @example
 * const loader = new DataLoader(dataset, { batchSize: 64, transform, shuffle: true, seed: 1 });
 * for await (const batch of loader.epoch(0)) {
 *   const images = tensor(batch.images, { shape: [batch.size, ...batch.shape] });
 *   batch.release();
 * }
 * await loader.close();
 */
export class DataLoader implements BatchSource {
  readonly dataset: Dataset;
  /** Batches of an epoch. */
  readonly batches: number;
  readonly workers: number;
  readonly stats: LoaderStats = { waitSeconds: 0, images: 0, skipped: [] };
  private readonly options: Required<Omit<LoaderOptions, 'workers' | 'cache'>>;
  private readonly useCache: boolean;
  private readonly perEpoch: number;
  private slots: readonly Float32Array[] = [];
  private cache: ImageCache | undefined;
  private pool: WorkerPool | undefined;
  private ready: Promise<void> | undefined;
  private running = false;
  private readonly noted = new Set<number>();

  /** @throws TensorError VALUE for options that make no sense */
  constructor(dataset: Dataset, options: LoaderOptions) {
    this.dataset = dataset;
    this.options = {
      shuffle: false,
      seed: 0,
      prefetch: 3,
      dropLast: false,
      shard: { index: 0, count: 1 },
      repeats: 1,
      onCorrupt: 'skip',
      ...options,
    };
    this.workers = options.workers ?? Math.max(1, Math.min(8, availableParallelism() - 1));
    this.useCache = options.cache ?? true;
    const { batchSize, dropLast, shard, repeats, prefetch } = this.options;
    const whole = (name: string, value: number, least: number): void => {
      if (!Number.isInteger(value) || value < least) {
        fail(
          'DataLoader',
          'VALUE',
          `expected ${name} to be a whole number of at least ${least}, got ${value}`,
        );
      }
    };
    whole('batchSize', batchSize, 1);
    whole('prefetch', prefetch, 1);
    whole('repeats', repeats, 1);
    whole('workers', this.workers, 0);
    whole('shard.count', shard.count, 1);
    if (!(Number.isInteger(shard.index) && shard.index >= 0 && shard.index < shard.count)) {
      fail('DataLoader', 'VALUE', `expected a shard.index below ${shard.count}, got ${shard.index}`);
    }
    const total = dataset.length * repeats;
    this.perEpoch = Math.floor((total - shard.index - 1) / shard.count) + 1;
    this.batches = dropLast ? Math.floor(this.perEpoch / batchSize) : Math.ceil(this.perEpoch / batchSize);
  }

  /** The samples of an epoch, in order: positions among all, of which repeats are each one. */
  private order(epoch: number): Int32Array {
    const { shuffle, seed, shard, repeats } = this.options;
    const all = Int32Array.from({ length: this.dataset.length * repeats }, (_, i) => i);
    if (shuffle) {
      const random = new SampleRandom(seed, epoch, ORDER);
      for (let i = all.length - 1; i > 0; i--) {
        const j = random.int(i + 1);
        const swapped = all[i];
        all[i] = all[j];
        all[j] = swapped;
      }
    }
    return shard.count === 1 ? all : all.filter((_, i) => i % shard.count === shard.index);
  }

  /** Starts the workers, makes the batches' memory, and decides what to keep decoded. */
  private prepare(): Promise<void> {
    this.ready ??= (async () => {
      const { batchSize, prefetch, transform } = this.options;
      const bytes = 4 * batchSize * 3 * transform.size[0] * transform.size[1];
      this.slots = Array.from({ length: prefetch + 1 }, () => new Float32Array(new SharedArrayBuffer(bytes)));
      this.cache = this.useCache ? await this.makeCache() : undefined;
      if (this.workers > 0) {
        this.pool = new WorkerPool(this.workers, { spec: this.dataset.spec, transform, cache: this.cache });
      }
    })();
    return this.ready;
  }

  private async makeCache(): Promise<ImageCache | undefined> {
    const first = await this.dataset.read(0).catch(() => undefined); // the epoch will say what is wrong with it
    if (first === undefined) return undefined;
    const { height, width } = first;
    const bytes = this.dataset.length * height * width * 3;
    if (Math.max(height, width) > CACHE_SIDE || bytes > CACHE_BYTES) return undefined;
    return {
      height,
      width,
      pixels: new Uint8Array(new SharedArrayBuffer(bytes)),
      present: new Uint8Array(new SharedArrayBuffer(this.dataset.length)),
    };
  }

  /** Has a batch filled by all workers. */
  private async fill(
    pool: WorkerPool | undefined,
    slot: Float32Array,
    epoch: number,
    samples: Int32Array,
  ): Promise<Filled> {
    const { seed, transform, onCorrupt } = this.options;
    const length = this.dataset.length;
    const parts = Math.max(1, Math.min(this.workers, samples.length));
    const jobs = Array.from({ length: parts }, (_, p): Part => {
      const places = Array.from(samples.keys()).filter((place) => place % parts === p);
      const indices = places.map((place) => samples[place] % length);
      // A repeat draws numbers of its own; the first showing those of the image.
      const draws = places.map(
        (place, i) => indices[i] + Math.floor(samples[place] / length) * REPEAT_STRIDE,
      );
      return { images: slot, places, indices, draws, seed, epoch };
    });
    const failures = await Promise.all(
      jobs.map((part, p) =>
        pool === undefined ? assemble(this.dataset, transform, this.cache, part) : pool.run(p, part),
      ),
    );
    const indices = samples.map((sample) => sample % length);
    const failed = failures.flat().sort((a, b) => a.place - b.place);
    if (failed.length === 0) return { slot, indices };
    if (onCorrupt === 'error') throw new TensorError(failed[0].message, 'DataLoader', 'IO');
    return { slot, indices: this.leaveOut(slot, indices, failed) };
  }

  /** Closes the gaps that damaged images left in a batch. */
  private leaveOut(slot: Float32Array, indices: Int32Array, failed: readonly Failure[]): Int32Array {
    const { size } = this.options.transform;
    const stride = 3 * size[0] * size[1];
    const messages = new Map(failed.map(({ place, message }) => [place, message]));
    const kept: number[] = [];
    for (const [place, index] of indices.entries()) {
      const message = messages.get(place);
      if (message === undefined) {
        if (kept.length !== place)
          slot.copyWithin(kept.length * stride, place * stride, (place + 1) * stride);
        kept.push(index);
      } else if (!this.noted.has(index)) {
        this.noted.add(index);
        this.stats.skipped.push(message);
      }
    }
    return Int32Array.from(kept);
  }

  /**
   * The batches of an epoch, from `firstBatch` on. Each must be released before its memory can be used again.
   *
   * @throws TensorError IO for a damaged image with `onCorrupt: 'error'`, or when a worker dies or the loader is closed;
   *   VALUE when an epoch runs already, or no batch is released
   */
  async *epoch(epoch: number, firstBatch = 0): AsyncGenerator<Batch> {
    if (this.running)
      fail(
        'DataLoader',
        'VALUE',
        'expected one epoch at a time, got a second one before the first has ended',
      );
    this.running = true;
    let ended = false;
    const { batchSize, transform } = this.options;
    const stride = 3 * transform.size[0] * transform.size[1];
    const shape = [3, ...transform.size] as const;
    const pending: Promise<Filled>[] = [];
    try {
      await this.prepare();
      const { pool } = this;
      pool?.hold();
      const free = [...this.slots];
      const order = this.order(epoch);
      let next = firstBatch;
      const launch = (): void => {
        for (let slot = free.pop(); slot !== undefined; slot = free.pop()) {
          if (next >= this.batches) return;
          const start = next * batchSize;
          next += 1;
          const filling = this.fill(pool, slot, epoch, order.subarray(start, start + batchSize));
          filling.catch(() => undefined); // it is awaited below, in its turn
          pending.push(filling);
        }
      };
      launch();
      for (let batch = firstBatch; batch < this.batches; batch++) {
        const filling = pending.shift();
        if (filling === undefined) {
          return fail(
            'DataLoader',
            'VALUE',
            `expected batches to be released, got ${this.options.prefetch + 1} held`,
          );
        }
        const started = performance.now();
        const { slot, indices } = await filling;
        this.stats.waitSeconds += (performance.now() - started) / 1000;
        this.stats.images += indices.length;
        let released = false;
        const release = (): void => {
          if (released || ended) return;
          released = true;
          free.push(slot);
          launch();
        };
        if (indices.length === 0) {
          release(); // every image of it was damaged
          continue;
        }
        yield {
          images: slot.subarray(0, indices.length * stride),
          labels: indices.map((index) => this.dataset.label(index)),
          indices,
          size: indices.length,
          number: batch,
          shape,
          release,
        };
      }
    } finally {
      ended = true;
      await Promise.allSettled(pending); // workers must be done with the memory
      this.pool?.letGo();
      this.running = false;
    }
  }

  /** Ends the workers and lets go of the memory. The data set stays open, and another epoch starts new workers. */
  async close(): Promise<void> {
    await this.ready;
    const { pool } = this;
    this.pool = undefined;
    this.ready = undefined;
    this.cache = undefined;
    this.slots = [];
    await pool?.close();
  }
}

/** Worker threads and the parts they are filling. */
class WorkerPool {
  private readonly threads: Worker[];
  private readonly waiting = new Map<
    number,
    { readonly resolve: (failures: Failure[]) => void; readonly reject: (error: Error) => void }
  >();
  private nextId = 0;
  private failure: Error | undefined;

  constructor(count: number, start: WorkerStart) {
    this.threads = Array.from({ length: count }, () => {
      const thread = new Worker(new URL('./worker.js', import.meta.url), { workerData: start });
      thread.unref();
      thread.on('message', (answer: Answer) => this.settle(answer));
      thread.on('error', (error: Error) =>
        this.fail(`expected its worker threads to live, got ${error.message}`),
      );
      thread.on('exit', (code) => this.fail(`expected its worker threads to live, got exit code ${code}`));
      return thread;
    });
  }

  run(thread: number, part: Part): Promise<Failure[]> {
    if (this.failure !== undefined) return Promise.reject(this.failure);
    const id = this.nextId++;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.threads[thread].postMessage({ id, part } satisfies Job);
    });
  }

  private settle(answer: Answer): void {
    const job = this.waiting.get(answer.id);
    this.waiting.delete(answer.id);
    if ('error' in answer) job?.reject(new TensorError(answer.error, answer.op, answer.code));
    else job?.resolve([...answer.failures]);
  }

  private fail(reason: string): void {
    this.failure ??= new TensorError(`DataLoader: ${reason}`, 'DataLoader', 'IO');
    for (const { reject } of this.waiting.values()) reject(this.failure);
    this.waiting.clear();
  }

  /** Keeps the process alive while batches are awaited. */
  hold(): void {
    for (const thread of this.threads) thread.ref();
  }

  letGo(): void {
    for (const thread of this.threads) thread.unref();
  }

  async close(): Promise<void> {
    this.fail('expected to stay open until its epoch ends, got closed');
    await Promise.all(this.threads.map((thread) => thread.terminate()));
  }
}
