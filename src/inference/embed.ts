/**
 * Images as vectors, to compare, search and cluster them by: the pooled features that a model's head reads. Files here, whatever
 * else comes in a `Predictor`.
 */
import type { Image } from '../data/index.js';
import type { Model, ModelInfo } from '../models/index.js';
import { inEvaluation } from '../nn/module.js';
import { type OptionNames, expectOptions } from '../tensor/arguments.js';
import { fail } from '../tensor/error.js';
import { inferenceMode } from '../tensor/index.js';
import { FILE_OPTIONS, type FileOptions, readBatches } from './image-files.js';
import { modelInput } from './input.js';
import { type Precision, expectPrecision, inPrecision } from './precision.js';
import { settled } from './settle.js';

/** What becomes of the features. */
export interface EmbeddingOptions {
  /**
   * Divide each vector by its length, so that the dot product of two is the cosine between them: 1 for the same image. Default true;
   * false leaves the features as the head reads them.
   */
  readonly normalize?: boolean | undefined;
}

export const EMBEDDING_OPTIONS = { normalize: true } satisfies OptionNames<EmbeddingOptions>;

/** What becomes of the features, and how files are read: 32 at a time by default. */
export interface EmbedOptions extends FileOptions, EmbeddingOptions {
  /** Default 'float32'. */
  readonly precision?: Precision | undefined;
}

const OPTIONS = {
  ...FILE_OPTIONS,
  ...EMBEDDING_OPTIONS,
  precision: true,
} satisfies OptionNames<EmbedOptions>;

/** The vector of one file, or why it could not be read. */
export type FileEmbedding =
  | { readonly path: string; readonly embedding: Float32Array }
  | { readonly path: string; readonly error: string };

/**
 * Image files as vectors: the pooled features `[D]` of each, which `forwardHead` gives with `preLogits`, by default of length 1. A
 * file that is no image is reported in its place. More than a few are decoded in threads, a batch ahead. The model computes in
 * evaluation mode, and is left in its own.
 *
 * @throws TensorError VALUE for options that make no sense, or features that are not finite
 * @example
 * const { model, info } = await loadPretrained('runs/animals');
 * const [{ embedding }] = await embed(model, info, ['cat.jpg']);
 */
export async function embed(
  model: Model,
  info: ModelInfo,
  files: readonly string[],
  options: EmbedOptions = {},
): Promise<FileEmbedding[]> {
  expectOptions('embed', options, OPTIONS);
  const precision = expectPrecision('embed', options.precision ?? 'float32');
  const results: FileEmbedding[] = [];
  for await (const batch of readBatches('embed', files, info, options)) {
    const features = await featuresOf(model, info, batch.views, precision);
    const embeddings = batch.results(features.map((of) => ({ embedding: embeddingOf(of, options) })));
    for (const [i, path] of batch.paths.entries()) results.push({ path, ...embeddings[i] });
  }
  return results;
}

/** The pooled features of views. */
export async function featuresOf(
  model: Model,
  info: ModelInfo,
  views: readonly Image[],
  precision: Precision,
): Promise<Float32Array[]> {
  if (views.length === 0) return [];
  return settled(model.device, async () => {
    const features = inferenceMode(() =>
      inEvaluation(model, () =>
        inPrecision(precision, () => {
          const seen = model.forwardFeatures(modelInput(views, info, model));
          return model.forwardHead(seen, { preLogits: true }).to('float32');
        }),
      ),
    );
    try {
      const size = features.shape[1];
      const values = await features.data();
      return views.map((_, row) => values.slice(row * size, (row + 1) * size));
    } finally {
      features.dispose();
    }
  });
}

/** What is made of the features of an image. @throws TensorError VALUE unless they are finite */
export function embeddingOf(features: Float32Array, { normalize = true }: EmbeddingOptions): Float32Array {
  const length = Math.hypot(...features);
  if (!Number.isFinite(length)) {
    fail('embed', 'VALUE', `expected a model that gives finite features, got ones of length ${length}`);
  }
  return normalize && length > 0 ? features.map((value) => value / length) : features;
}
