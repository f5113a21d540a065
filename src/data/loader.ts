/**
 * Batches of images, made by worker threads ahead of their use.
 *
 * Each batch is filled in shared memory by all workers together, so that the first one is ready soon. The order of an
 * epoch and every random choice follow from (seed, epoch, sample), never from the workers: any number of them gives the
 * same batches, and an epoch can be resumed at any batch.
 */

import { TensorError, fail } from '../tensor/error.js';
import { type OptionNames, expectOptions } from '../tensor/options.js';
import { type Failure, type ImageCache, type Part, assemble } from './assemble.js';
import {
  type Mix,
  type MixOptions,
  type MixPart,
  checkMix,
  drawMixes,
  mixPairs,
  mixedTargets,
} from './augment/mix.js';
import type { Batch, BatchSource } from './batch.js';
import type { Dataset } from './dataset.js';
import { WorkerPool, defaultWorkers } from './pool.js';
import { SampleRandom } from './sample-random.js';
import { type Transform, expectTransform } from './transforms.js';
import type { Task, WorkerStart } from './loader-worker.js';

/** What a batch is, and how batches are made. */
export interface LoaderOptions {
  readonly batchSize: number;
  readonly transform: Transform;
  /** Another order in each epoch. Default false: the data set's order. */
  readonly shuffle?: boolean;
  /** Of the order and the augmentation. Default 0. */
  readonly seed?: number;
  /**
   * Threads that decode; 0 decodes on the calling thread. Default: one less than `cpuInfo().cores`, from 1 to 8; 0 for a data
   * set without a `spec`, which other threads cannot open.
   */
  readonly workers?: number;
  /** Batches to make ahead. Default 3. */
  readonly prefetch?: number;
  /** Leave out a last batch that is not full. Default false. */
  readonly dropLast?: boolean;
  /** Every `count`-th image from `index` on: for several processes on one data set. */
  readonly shard?: { readonly index: number; readonly count: number };
  /**
   * Repeated augmentation: an epoch shows each of its images that often, one after the other, each time augmented anew.
   * It stays as long as without (rounded down to 256s), and so has fewer different images. Default 1.
   *
   * Source: Hoffer et al., "Augment your batch", 2020; DeiT's sampler.
   */
  readonly repeats?: number;
  /** Mixup and CutMix of the images of each batch, which then has soft targets. Default: none. */
  readonly mix?: MixOptions | undefined;
  /** A damaged image: leave it out and note it in `stats.skipped` (default), or reject. */
  readonly onCorrupt?: 'skip' | 'error';
  /** Keep decoded images of up to 64 x 64 pixels in memory, up to 1 GiB. Default true. */
  readonly cache?: boolean;
}

const OPTIONS = {
  batchSize: true,
  transform: true,
  shuffle: true,
  seed: true,
  workers: true,
  prefetch: true,
  dropLast: true,
  shard: true,
  repeats: true,
  mix: true,
  onCorrupt: true,
  cache: true,
} satisfies OptionNames<LoaderOptions>;

const SHARD = { index: true, count: true } satisfies OptionNames<NonNullable<LoaderOptions['shard']>>;

/** A damaged image that was left out. */
export interface SkippedImage {
  /** Where it is. */
  readonly path: string;
  /** What is wrong with it. */
  readonly reason: string;
}

/** What a loader has done so far. */
export interface LoaderStats {
  /** How long batches were waited for, in seconds. */
  waitSeconds: number;
  /** Images given out. */
  images: number;
  /** Damaged images that were left out; each once. */
  readonly skipped: SkippedImage[];
}

/** The longest side and the most bytes of images that are kept decoded. */
const CACHE_SIDE = 64;
const CACHE_BYTES = 2 ** 30;

/** Draws of repeated images are this far apart, beyond any data set. */
const REPEAT_STRIDE = 2 ** 26;

/** An index of samples for the shuffle's random numbers: no sample has it. */
const ORDER = 2 ** 31 - 1;

/** Repeated augmentation's epochs are a multiple of this, where they are that long. */
const REPEAT_ROUND = 256;

type LoaderPool = WorkerPool<Task, Failure[]>;

interface Filled {
  readonly slot: Float32Array;
  readonly indices: Int32Array;
  readonly labels: Int32Array;
  readonly targets?: Float32Array;
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
  private readonly options: Required<Omit<LoaderOptions, 'workers' | 'cache' | 'mix'>>;
  private readonly mix: MixOptions | undefined;
  private readonly useCache: boolean;
  /** Samples of an epoch, of all shards and of this one. */
  private readonly total: number;
  private readonly perEpoch: number;
  private slots: readonly Float32Array[] = [];
  private cache: ImageCache | undefined;
  private pool: LoaderPool | undefined;
  private ready: Promise<void> | undefined;
  private running = false;
  private readonly noted = new Set<number>();

  /** @throws TensorError VALUE for options that make no sense */
  constructor(dataset: Dataset, options: LoaderOptions) {
    expectOptions('DataLoader', options, OPTIONS);
    expectTransform('DataLoader', options.transform);
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
    const { spec } = dataset;
    this.workers = options.workers ?? (spec === undefined ? 0 : defaultWorkers());
    this.useCache = options.cache ?? true;
    this.mix = options.mix;
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
    if (options.mix !== undefined) checkMix(options.mix);
    expectOptions('DataLoader', shard, SHARD);
    whole('batchSize', batchSize, 1);
    whole('prefetch', prefetch, 1);
    whole('repeats', repeats, 1);
    whole('workers', this.workers, 0);
    if (this.workers > 0 && spec === undefined) {
      fail(
        'DataLoader',
        'VALUE',
        `expected workers: 0 for ${dataset.name}, which other threads cannot open as they could one of moduleData, ` +
          `got ${this.workers}`,
      );
    }
    whole('shard.count', shard.count, 1);
    if (!(Number.isInteger(shard.index) && shard.index >= 0 && shard.index < shard.count)) {
      fail('DataLoader', 'VALUE', `expected a shard.index below ${shard.count}, got ${shard.index}`);
    }
    this.total =
      repeats > 1 && dataset.length >= REPEAT_ROUND
        ? dataset.length - (dataset.length % REPEAT_ROUND)
        : dataset.length;
    this.perEpoch = Math.floor((this.total - shard.index - 1) / shard.count) + 1;
    this.batches = dropLast ? Math.floor(this.perEpoch / batchSize) : Math.ceil(this.perEpoch / batchSize);
  }

  /** The samples of an epoch, in order: an image's index, and for each repeat the data set's length more. */
  private order(epoch: number): Int32Array {
    const { shuffle, seed, shard, repeats } = this.options;
    const { length } = this.dataset;
    const all = Int32Array.from({ length }, (_, i) => i);
    if (shuffle) new SampleRandom(seed, epoch, ORDER).shuffle(all);
    if (repeats === 1 && shard.count === 1) return all;
    return Int32Array.from({ length: this.perEpoch }, (_, i) => {
      const at = i * shard.count + shard.index;
      return all[Math.floor(at / repeats)] + (at % repeats) * length;
    });
  }

  /** Starts the workers, makes the batches' memory, and decides what to keep decoded. */
  private prepare(): Promise<void> {
    this.ready ??= (async () => {
      const { batchSize, prefetch, transform } = this.options;
      const bytes = 4 * batchSize * 3 * transform.size[0] * transform.size[1];
      this.slots = Array.from({ length: prefetch + 1 }, () => new Float32Array(new SharedArrayBuffer(bytes)));
      this.cache = this.useCache ? await this.makeCache() : undefined;
      const { spec } = this.dataset;
      if (this.workers > 0 && spec !== undefined) {
        const start: WorkerStart = { spec, transform, cache: this.cache };
        const script = new URL('./loader-worker.js', import.meta.url);
        this.pool = new WorkerPool({ op: 'DataLoader', code: 'IO' }, script, this.workers, start);
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

  /** Has a batch filled, and mixed, by all workers. */
  private async fill(
    pool: LoaderPool | undefined,
    slot: Float32Array,
    epoch: number,
    batch: number,
    samples: Int32Array,
  ): Promise<Filled> {
    const { seed, transform, onCorrupt } = this.options;
    const length = this.dataset.length;
    const jobs = deal(samples.length, this.workers).map((places): Part => {
      const indices = places.map((place) => samples[place] % length);
      // A repeat draws numbers of its own; the first showing those of the image.
      const draws = places.map(
        (place, i) => indices[i] + Math.floor(samples[place] / length) * REPEAT_STRIDE,
      );
      return { images: slot, places, indices, draws, seed, epoch };
    });
    const failures = await Promise.all(
      jobs.map((part, p) =>
        pool === undefined ? assemble(this.dataset, transform, this.cache, part) : pool.run(p, { part }),
      ),
    );
    let indices: Int32Array = samples.map((sample) => sample % length);
    const failed = failures.flat().sort((a, b) => a.place - b.place);
    if (failed.length > 0) {
      if (onCorrupt === 'error') throw new TensorError(failed[0].message, 'DataLoader', 'IO');
      indices = this.leaveOut(slot, indices, failed);
    }
    const labels = indices.map((index) => this.dataset.label(index));
    if (this.mix === undefined) return { slot, indices, labels };
    const mixes = this.drawMixes(this.mix, epoch, batch, labels.length);
    await this.mixImages(pool, slot, mixes);
    return { slot, indices, labels, targets: mixedTargets(labels, mixes, this.dataset.classes.length) };
  }

  /** How a batch is mixed: its random numbers are its own. */
  private drawMixes(mix: MixOptions, epoch: number, batch: number, size: number): Mix[] {
    const { seed, shard, transform } = this.options;
    const off = mix.offEpoch !== undefined && epoch >= mix.offEpoch;
    const random = new SampleRandom(seed, epoch, -1 - (batch * shard.count + shard.index)); // no sample's index
    return drawMixes(size, off ? { mixup: 0, cutmix: 0 } : mix, ...transform.size, random);
  }

  private async mixImages(
    pool: LoaderPool | undefined,
    slot: Float32Array,
    mixes: readonly Mix[],
  ): Promise<void> {
    if (mixes.every(({ share }) => share === 1)) return;
    const [height, width] = this.options.transform.size;
    const parts = deal(Math.floor(mixes.length / 2), this.workers).map((firsts): MixPart => ({
      images: slot,
      height,
      width,
      mixes,
      firsts,
    }));
    if (pool === undefined) parts.forEach(mixPairs);
    else await Promise.all(parts.map((mix, p) => pool.run(p, { mix })));
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
        // A message of ours ends with what came, which is what is wrong; one of a data set of your own is all there is.
        this.stats.skipped.push({
          path: this.dataset.where(index),
          reason: message.replace(/^.*, got /s, ''),
        });
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
          const filling = this.fill(pool, slot, epoch, next, order.subarray(start, start + batchSize));
          next += 1;
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
        const { slot, indices, labels, targets } = await filling;
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
          labels,
          ...(targets && { targets }),
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
    await pool?.close('expected to stay open until its epoch ends, got closed');
  }
}

/** The numbers below `count`, dealt to workers in turn. */
function deal(count: number, workers: number): number[][] {
  const parts = Math.max(1, Math.min(workers, count));
  return Array.from({ length: parts }, (_, p) =>
    Array.from({ length: Math.ceil((count - p) / parts) }, (__, i) => p + i * parts),
  );
}
