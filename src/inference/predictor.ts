/**
 * A model that answers: loaded once, with its preprocessing and the names of its classes, for images that come one by one and at
 * the same time, as those of a server do.
 *
 * What is prepared while a batch is computed is the next batch. Under load the batches grow by themselves and a lone image never
 * waits for others, so that there is no time to wait and none to set.
 */
import type { Image, ImageSource } from '../data/index.js';
import { Preprocessor } from '../data/preprocessor.js';
import { knownSource } from '../data/view.js';
import { type Model, type ModelInfo, loadPretrained } from '../models/index.js';
import { modelPath } from '../models/source.js';
import { foldBatchNorm } from '../nn/index.js';
import { type OptionNames, expectOptions, expectWhole } from '../tensor/arguments.js';
import { fail } from '../tensor/error.js';
import { type Device } from '../tensor/index.js';
import { EMBEDDING_OPTIONS, type EmbeddingOptions, embeddingOf, featuresOf } from './embed.js';
import { EXPLAIN_OPTIONS, type ExplainFilesOptions, type ImageExplanation, explainViews } from './explain.js';
import type { FileOptions } from './image-files.js';
import { type ClassProbability, TOPK, classify, expectClasses } from './predict.js';
import { type Precision, expectPrecision } from './precision.js';
import { transformOf } from './input.js';

/** The classes of an image, the most probable first. */
export interface ImagePrediction {
  readonly top: readonly ClassProbability[];
}

/** How a predictor works. */
export interface PredictorOptions {
  /** Classes to name. Default 5. */
  readonly topk?: number | undefined;
  /** The most images that are computed at once. Default 32. */
  readonly batchSize?: number | undefined;
  /** The most images that are accepted and not yet answered; more are refused at once, with BUSY. Default 256. */
  readonly maxPending?: number | undefined;
  /** Default 'float32'. */
  readonly precision?: Precision | undefined;
  /** Threads that decode and resize; 0 does it on the calling thread. Default: one less than the cores, from 1 to 8. */
  readonly workers?: number | undefined;
  /** Pixels of the largest image, whose decoding takes three bytes for each. Default 2^26, 67 million. */
  readonly maxPixels?: number | undefined;
  /** Whether `close` frees the model. Default false: who made it does. */
  readonly ownsModel?: boolean | undefined;
}

/** Which model, where, and how it works. */
export interface OpenPredictorOptions extends Omit<PredictorOptions, 'ownsModel'> {
  /** The registered model, for weights that do not say whose they are. */
  readonly model?: string | undefined;
  /** Where the model is to be. Default 'cpu'. */
  readonly device?: Device | undefined;
}

const DEFAULTS = {
  topk: TOPK,
  batchSize: 32,
  maxPending: 256,
  precision: 'float32' as Precision,
  maxPixels: 2 ** 26,
  ownsModel: false,
};

/** What one image is asked with. */
export interface RequestOptions {
  /** Gives the image up: it rejects with the signal's reason at once, and is left out where it has not been computed. */
  readonly signal?: AbortSignal | undefined;
}

/** What is explained, and how. */
export type PredictorExplainOptions = Omit<ExplainFilesOptions, keyof FileOptions> & RequestOptions;

const SHARED = {
  topk: true,
  batchSize: true,
  maxPending: true,
  precision: true,
  workers: true,
  maxPixels: true,
} as const;

const OPTIONS = { ...SHARED, ownsModel: true } satisfies OptionNames<PredictorOptions>;

const OPEN_OPTIONS = { ...SHARED, model: true, device: true } satisfies OptionNames<OpenPredictorOptions>;

const REQUEST = { signal: true } satisfies OptionNames<RequestOptions>;

/** An image as a vector. */
export interface ImageEmbedding {
  /** `[D]` */
  readonly embedding: Float32Array;
}

/** What is made of the features, and when the image is given up. */
export interface PredictorEmbedOptions extends EmbeddingOptions, RequestOptions {}

const EMBED_REQUEST = { ...EMBEDDING_OPTIONS, ...REQUEST } satisfies OptionNames<PredictorEmbedOptions>;

const EXPLAIN_REQUEST = { ...EXPLAIN_OPTIONS, ...REQUEST } satisfies OptionNames<PredictorExplainOptions>;

/** What a model says of several views at once. */
type Question<T> = (views: readonly Image[]) => Promise<readonly T[]>;

/** An image that is ready for the model. */
interface Ready<T = unknown> {
  readonly question: Question<T>;
  readonly view: Image;
  readonly signal: AbortSignal | undefined;
  readonly resolve: (answer: T) => void;
  readonly reject: (reason: unknown) => void;
}

/**
 * Names what is in images that come at the same time, and gives them as vectors. The model computes in evaluation mode, and is left
 * in its own; its weights must stay as they are.
 *
 * @example
 * const predictor = new Predictor(model, info, { topk: 3 });
 * const [{ top }] = await Promise.all([predictor.predict(await readFile('cat.jpg')), predictor.predict('dog.jpg')]);
 */
export class Predictor {
  readonly model: Model;
  readonly info: ModelInfo;
  /** Images computed, in how many batches. */
  readonly stats = { images: 0, batches: 0 };
  private readonly options: Readonly<typeof DEFAULTS>;
  private readonly preprocessor: Preprocessor;
  private readonly ready: Ready[] = [];
  /** Whether a batch of what is ready has its turn to come. */
  private scheduled = false;
  /** The work on the device that is last in turn. */
  private last: Promise<unknown> = Promise.resolve();
  private accepted = 0;
  private closing: Promise<void> | undefined;
  private drained: (() => void) | undefined;
  private readonly classes: Question<readonly ClassProbability[]> = (views) =>
    classify(this.model, this.info, views, this.options);
  private readonly features: Question<Float32Array> = (views) =>
    featuresOf(this.model, this.info, views, this.options.precision);

  /** @throws TensorError VALUE for options that make no sense */
  constructor(model: Model, info: ModelInfo, options: PredictorOptions = {}) {
    expectOptions('Predictor', options, OPTIONS);
    this.model = model;
    this.info = info;
    const { steps } = transformOf('Predictor', info.input);
    const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
    const { workers, ...rest } = { ...DEFAULTS, ...given } as typeof DEFAULTS &
      Pick<PredictorOptions, 'workers'>;
    for (const key of ['topk', 'batchSize', 'maxPending', 'maxPixels'] as const)
      expectWhole('Predictor', key, rest[key], 1);
    if (workers !== undefined) expectWhole('Predictor', 'workers', workers, 0);
    expectPrecision('Predictor', rest.precision);
    this.preprocessor = new Preprocessor({ steps, workers, maxPixels: rest.maxPixels });
    this.options = rest;
  }

  /** Images that are accepted and not yet answered. */
  get pending(): number {
    return this.accepted;
  }

  /**
   * The classes of an image: the bytes of a file (JPEG, PNG, WebP, GIF, TIFF, AVIF), its path, or RGB pixels. The bytes must stay as
   * they are until then. The numbers are those of the model called with this image alone, but for the rounding of other batches.
   *
   * @throws TensorError IO for what is no image, a damaged or too large one, which alone fails; BUSY when `maxPending` images wait;
   *   DISPOSED after `close`; VALUE or SHAPE for what is neither bytes, a path nor pixels, VALUE for a model without classes; MEMORY
   *   or KERNEL for a failure of the machine; or the signal's reason
   * @example
   * const { top } = await predictor.predict(body, { signal: AbortSignal.timeout(5000) });
   * console.log(top[0].label, top[0].probability);
   */
  async predict(source: ImageSource, options: RequestOptions = {}): Promise<ImagePrediction> {
    expectOptions('predict', options, REQUEST);
    const { signal } = options;
    expectClasses(this.info);
    return { top: await this.ask('predict', this.classes, source, signal) };
  }

  /**
   * An image as a vector, to find alike ones by: see `embed`. It goes through the same threads, limit and batches as predictions.
   *
   * @throws TensorError VALUE for features that are not finite; and as `predict`
   * @example
   * const { embedding } = await predictor.embed(body);
   */
  async embed(source: ImageSource, options: PredictorEmbedOptions = {}): Promise<ImageEmbedding> {
    expectOptions('embed', options, EMBED_REQUEST);
    const features = await this.ask('embed', this.features, source, options.signal);
    return { embedding: embeddingOf(features, options) };
  }

  /**
   * Which parts of an image speak for a class, as a map and a picture; see `explain`. In float32, one image at a time, between the
   * batches: it takes several times as long as a prediction.
   *
   * @throws TensorError VALUE for a class that the model has not, or a method; and as `predict`
   * @example
   * const { label, png } = await predictor.explain(body, { label: 'cat' });
   */
  async explain(source: ImageSource, options: PredictorExplainOptions = {}): Promise<ImageExplanation> {
    expectOptions('explain', options, EXPLAIN_REQUEST);
    const { signal, ...how } = options;
    return this.accept('explain', source, signal, (view) =>
      this.inTurn(async () => {
        signal?.throwIfAborted();
        return (await explainViews(this.model, this.info, [view], how))[0];
      }),
    );
  }

  /**
   * Takes no more images, answers those that it has taken, ends the threads, and frees a model of its own. A second call waits for
   * the same.
   *
   * @example
   * process.once('SIGTERM', () => server.close(() => predictor.close()));
   */
  close(): Promise<void> {
    this.closing ??= (async () => {
      if (this.accepted > 0) await new Promise<void>((resolve) => (this.drained = resolve));
      await this.preprocessor.close();
      if (this.options.ownsModel) this.model.dispose();
    })();
    return this.closing;
  }

  /** Takes an image, prepares it and has it worked on. It counts until that has ended, even where nobody waits for it any more. */
  private accept<T>(
    op: string,
    source: ImageSource,
    signal: AbortSignal | undefined,
    work: (view: Image) => Promise<T>,
  ): Promise<T> {
    const known = knownSource(op, source);
    const { maxPending } = this.options;
    if (this.closing !== undefined) fail(op, 'DISPOSED', 'expected an open predictor, got a closed one');
    if (this.accepted >= maxPending) {
      fail(op, 'BUSY', `expected fewer than ${maxPending} images that wait, got one more`);
    }
    signal?.throwIfAborted();
    this.accepted += 1;
    const result = this.preprocessor
      .view(known, signal)
      .then(work)
      .finally(() => {
        this.accepted -= 1;
        if (this.accepted === 0) this.drained?.();
      });
    return signal === undefined ? result : orAborted(result, signal);
  }

  /** Runs work on the device when what came before has ended. */
  private inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.last.then(work);
    this.last = result.catch(() => undefined);
    return result;
  }

  /** Has a question answered for an image, in a batch with others. */
  private ask<T>(
    op: string,
    question: Question<T>,
    source: ImageSource,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    return this.accept(
      op,
      source,
      signal,
      (view) =>
        new Promise<T>((resolve, reject) => {
          this.ready.push({ question, view, signal, resolve, reject } as Ready<T> as Ready);
          this.schedule();
        }),
    );
  }

  /** A batch is made when its turn comes, of all that is ready by then. */
  private schedule(): void {
    if (this.scheduled || this.ready.length === 0) return;
    this.scheduled = true;
    void this.inTurn(async () => {
      const batch = this.ready.splice(0, this.options.batchSize);
      this.scheduled = false;
      this.schedule();
      await this.compute(batch);
    });
  }

  private async compute(batch: readonly Ready[]): Promise<void> {
    const wanted = batch.filter(({ signal, reject }) => {
      if (signal?.aborted === true) reject(signal.reason);
      return signal?.aborted !== true;
    });
    for (const question of new Set(wanted.map((image) => image.question))) {
      const images = wanted.filter((image) => image.question === question);
      try {
        const answers = await question(images.map(({ view }) => view));
        for (const [i, { resolve }] of images.entries()) resolve(answers[i]);
      } catch (error) {
        for (const { reject } of images) reject(error);
      }
      this.stats.images += images.length;
      this.stats.batches += 1;
    }
  }
}

/** A promise, or the signal's reason where that comes first. */
function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason as Error);
    signal.addEventListener('abort', onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}

/** @internal A model to predict with: its batch norms are folded into its convolutions. */
export async function loadForInference(
  op: string,
  path: string,
  { model: name, device }: Pick<OpenPredictorOptions, 'model' | 'device'>,
): Promise<{ model: Model; info: ModelInfo }> {
  const { model, info } = await loadPretrained(modelPath(op, path), {
    model: name,
    ...(device !== undefined && { device }),
  });
  return { model: foldBatchNorm(model).freeze().eval(), info };
}

/**
 * Loads a model to predict with: a run's folder (its best model), a folder of transformers or timm, or a file. A black image is
 * predicted first: that sets up what the first one does, so that no request pays for it, and finds a model that gives no numbers.
 *
 * @throws TensorError IO when there is no model or its files are damaged; VALUE for weights that do not fit, give numbers that are
 *   not finite, or options that make no sense; DEVICE for a device that is not there
 * @example
 * const predictor = await openPredictor('runs/photos', { topk: 3, precision: 'bf16' });
 * const { top } = await predictor.predict(await readFile('cat.jpg'));
 * await predictor.close();
 */
export async function openPredictor(path: string, options: OpenPredictorOptions = {}): Promise<Predictor> {
  expectOptions('openPredictor', options, OPEN_OPTIONS);
  const { model: name, device, ...rest } = options;
  const { model, info } = await loadForInference('openPredictor', path, { model: name, device });
  let predictor: Predictor | undefined;
  try {
    predictor = new Predictor(model, info, { ...rest, ownsModel: true });
    const [height, width] = info.input.size;
    const black = { data: new Uint8Array(height * width * 3), height, width };
    const [number] =
      info.classes.length > 0
        ? (await predictor.predict(black)).top.map(({ probability }) => probability)
        : (await predictor.embed(black, { normalize: false })).embedding;
    if (!Number.isFinite(number)) {
      fail('openPredictor', 'VALUE', `expected a model that gives finite numbers in ${path}, got ${number}`);
    }
    predictor.stats.images = predictor.stats.batches = 0;
    return predictor;
  } catch (error) {
    if (predictor === undefined) model.dispose();
    await predictor?.close();
    throw error;
  }
}
