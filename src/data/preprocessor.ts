/**
 * Images prepared for a model in threads: decoded, resized and cropped. Without them decoding is off the calling thread anyway, but
 * the rest is not: photographs of 12 megapixels, eight at a time, held the event loop for a tenth of a second.
 */
import type { Image } from './image.js';
import { WorkerPool, defaultWorkers } from './pool.js';
import { type KnownSource, type ViewOptions, viewOf } from './view.js';

/** How images are prepared, and by how many threads. */
export interface PreprocessorOptions extends ViewOptions {
  /** Threads; 0 works on the calling thread. Default: one less than `cpuInfo().cores`, from 1 to 8. */
  readonly workers?: number | undefined;
}

/** Images that a thread has at a time: the next is there when one is done, or while sharp, on another thread, decodes one. */
const PER_THREAD = 2;

/** Threads that prepare images, in the order in which they came. */
export class Preprocessor {
  readonly workers: number;
  private readonly start: ViewOptions;
  private readonly pool: WorkerPool<KnownSource, Image> | undefined;
  /** The threads' free places, those of the idlest last, and who waits for one. */
  private readonly places: number;
  private readonly free: number[];
  private readonly waiting: ((thread: number) => void)[] = [];

  constructor({ workers = defaultWorkers(), ...start }: PreprocessorOptions) {
    this.workers = workers;
    this.start = start;
    this.places = Math.max(1, workers * PER_THREAD);
    this.free = Array.from({ length: this.places }, (_, i) => i % Math.max(1, workers));
    if (workers === 0) return;
    const script = new URL('./preprocessor-worker.js', import.meta.url);
    this.pool = new WorkerPool({ op: 'Preprocessor', code: 'MEMORY' }, script, workers, start);
  }

  /**
   * What a model sees of an image, before it is normalised. Bytes and pixels must stay as they are until then.
   *
   * @throws TensorError IO when it cannot be read; MEMORY when a thread has died; the signal's reason, where it has been aborted
   *   before the image has had its turn
   */
  async view(source: KnownSource, signal?: AbortSignal): Promise<Image> {
    const { pool } = this;
    const thread = this.free.pop() ?? (await new Promise<number>((resolve) => this.waiting.push(resolve)));
    try {
      signal?.throwIfAborted();
      if (pool === undefined) return await viewOf(source, this.start);
      if (this.free.length === this.places - 1) pool.hold();
      return await pool.run(thread, ...ownMemory(source));
    } finally {
      const next = this.waiting.shift();
      if (next !== undefined) next(thread);
      else if (this.free.push(thread) === this.places) pool?.letGo();
    }
  }

  /** Ends the threads. */
  async close(): Promise<void> {
    await this.pool?.close('expected to stay open until its images are prepared, got closed');
  }
}

/** A copy for another thread: sent as it is, a view would take all of its buffer along. */
function ownMemory(source: KnownSource): [source: KnownSource, transfer: ArrayBuffer[]] {
  if (typeof source === 'string') return [source, []];
  const isBytes = source instanceof Uint8Array;
  const data = new Uint8Array(isBytes ? source : source.data);
  return [isBytes ? data : { ...source, data }, [data.buffer]];
}
