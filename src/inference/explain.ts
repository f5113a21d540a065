/**
 * Pictures of what a model sees in image files.
 */
import type { Image } from '../data/index.js';
import { type ExplainOptions, explain, heatmap } from '../explain/index.js';
import type { Model, ModelInfo } from '../models/index.js';
import { gather, softmax } from '../ops/index.js';
import { type OptionNames, expectOptions } from '../tensor/arguments.js';
import { fail } from '../tensor/error.js';
import { scope } from '../tensor/index.js';
import { FILE_OPTIONS, type FileOptions, readBatches } from './image-files.js';
import { modelInput, viewsOf } from './input.js';

/** What a model sees of a class in an image. */
export interface ImageExplanation {
  /** The class that is explained, and how probable the model takes it to be. */
  readonly label: string;
  readonly probability: number;
  /** `[rows, columns]` of the map, row by row. */
  readonly map: Float32Array;
  readonly grid: readonly [rows: number, columns: number];
  /** The map over what the model saw of the image, as PNG. */
  readonly png: Uint8Array;
}

/** What a model sees in a file, or why the file could not be read. */
export type FileExplanation =
  ({ readonly path: string } & ImageExplanation) | { readonly path: string; readonly error: string };

/** Which class, how, how the pictures look, and how files are read: 8 at a time by default. */
export interface ExplainFilesOptions extends Omit<ExplainOptions, 'target'>, FileOptions {
  /** A class to explain in all images. Default: each image's most probable. */
  readonly label?: string | undefined;
  /** See `heatmap`. */
  readonly opacity?: number | undefined;
  readonly minSize?: number | undefined;
}

/** What is explained, how, and how it is drawn. */
export const EXPLAIN_OPTIONS = {
  method: true,
  stage: true,
  headFusion: true,
  discardRatio: true,
  startLayer: true,
  label: true,
  opacity: true,
  minSize: true,
} satisfies OptionNames<Omit<ExplainFilesOptions, keyof FileOptions>>;

const OPTIONS = { ...EXPLAIN_OPTIONS, ...FILE_OPTIONS } satisfies OptionNames<ExplainFilesOptions>;

/**
 * Explains image files, one after the other: which parts of an image speak for a class. A file that is no image is reported in
 * its place.
 *
 * @throws TensorError VALUE for a class that the model has not, or a method; see `explain`
 * @example
 * const { model, info } = await loadModel('runs/animals/checkpoints/best.safetensors');
 * for await (const seen of explainFiles(model, info, ['cat.jpg'])) if ('png' in seen) await writeFile('seen.png', seen.png);
 */
export async function* explainFiles(
  model: Model,
  info: ModelInfo,
  files: readonly string[],
  options: ExplainFilesOptions = {},
): AsyncGenerator<FileExplanation> {
  expectOptions('explainFiles', options, OPTIONS);
  const { batchSize = 8, workers } = options;
  for await (const batch of readBatches('explainFiles', files, info, { batchSize, workers })) {
    const seen = batch.results(await explainViews(model, info, batch.views, options));
    for (const [i, path] of batch.paths.entries()) yield { path, ...seen[i] };
  }
}

/** @internal Explains images, `batchSize` at a time. */
export function explainImages(
  model: Model,
  info: ModelInfo,
  images: readonly Image[],
  options: ExplainFilesOptions = {},
): Promise<ImageExplanation[]> {
  return explainViews(model, info, viewsOf(images, info), options);
}

/** @internal The same for what the model sees of them. */
export async function explainViews(
  model: Model,
  info: ModelInfo,
  views: readonly Image[],
  options: ExplainFilesOptions = {},
): Promise<ImageExplanation[]> {
  const { label, batchSize = 8, workers: _, opacity, minSize, ...how } = options;
  const target = label === undefined ? undefined : classNumber(label, info.classes);
  const explanations: ImageExplanation[] = [];
  for (let start = 0; start < views.length; start += batchSize) {
    const batch = views.slice(start, start + batchSize);
    const { map, targets, share } = scope(() => {
      const { map, targets, logits } = explain(model, modelInput(batch, info, model), { ...how, target });
      return { map, targets, share: gather(softmax(logits), 1, targets.unsqueeze(1)) };
    });
    const grid = map.shape.slice(1) as [number, number];
    const [maps, classes, shares] = await Promise.all([map.data(), targets.data(), share.data()]);
    for (const tensor of [map, targets, share]) tensor.dispose();
    for (const [i, view] of batch.entries()) {
      const own = maps.slice(i * grid[0] * grid[1], (i + 1) * grid[0] * grid[1]);
      explanations.push({
        label: info.classes[Number(classes[i])],
        probability: Number(shares[i]),
        map: own,
        grid,
        png: await heatmap(view, own, { grid, opacity, minSize }),
      });
    }
  }
  return explanations;
}

function classNumber(label: string, classes: readonly string[]): number {
  const at = classes.indexOf(label);
  if (at >= 0) return at;
  const some = classes.slice(0, 10).join(', ') + (classes.length > 10 ? ', ...' : '');
  return fail('explain', 'VALUE', `expected one of the model's classes (${some}), got '${label}'`);
}
