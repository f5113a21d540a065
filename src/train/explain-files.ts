/**
 * Pictures of what a model sees in image files.
 */
import { type ExplainOptions, explain, heatmap } from '../explain/index.js';
import type { Model, ModelInfo } from '../models/index.js';
import { gather, softmax } from '../ops/index.js';
import { fail } from '../tensor/error.js';
import { scope } from '../tensor/index.js';
import { readImages, tensorOf } from './predict.js';

/** What a model sees of a class in an image, or why the image could not be read. */
export type FileExplanation =
  | {
      readonly path: string;
      /** The class that is explained, and how probable the model takes it to be. */
      readonly label: string;
      readonly probability: number;
      /** `[rows, columns]` of the map, row by row. */
      readonly map: Float32Array;
      readonly grid: readonly [rows: number, columns: number];
      /** The map over what the model saw of the image, as PNG. */
      readonly png: Uint8Array;
    }
  | { readonly path: string; readonly error: string };

/** Which class, how, and how the pictures look. */
export interface ExplainFilesOptions extends Omit<ExplainOptions, 'target'> {
  /** A class to explain in all images. Default: each image's most probable. */
  readonly label?: string | undefined;
  /** Images at a time. Default 8. */
  readonly batchSize?: number;
  /** See `heatmap`. Default 0.7. */
  readonly opacity?: number;
}

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
  const { label, batchSize = 8, opacity, ...how } = options;
  const target = label === undefined ? undefined : classNumber(label, info.classes);
  for (let start = 0; start < files.length; start += batchSize) {
    const batch = files.slice(start, start + batchSize);
    const images = await readImages(batch, info);
    if (images.read.length === 0) {
      for (const path of batch) yield { path, error: images.failed.get(path) ?? '' };
      continue;
    }
    const seen = scope(() => {
      const { map, targets, logits } = explain(model, tensorOf(images, model), { ...how, target });
      return { map, targets, share: gather(softmax(logits), 1, targets.unsqueeze(1)) };
    });
    const grid = seen.map.shape.slice(1) as [number, number];
    const [maps, targets, shares] = await Promise.all([
      seen.map.data(),
      seen.targets.data(),
      seen.share.data(),
    ]);
    for (const tensor of Object.values(seen)) tensor.dispose();
    const size = grid[0] * grid[1];
    for (const path of batch) {
      const i = images.read.indexOf(path);
      if (i < 0) {
        yield { path, error: images.failed.get(path) ?? '' };
        continue;
      }
      const map = maps.slice(i * size, (i + 1) * size);
      yield {
        path,
        label: info.classes[Number(targets[i])],
        probability: Number(shares[i]),
        map,
        grid,
        png: await heatmap(images.views[i], map, { grid, ...(opacity === undefined ? {} : { opacity }) }),
      };
    }
  }
}

function classNumber(label: string, classes: readonly string[]): number {
  const at = classes.indexOf(label);
  if (at >= 0) return at;
  const some = classes.slice(0, 10).join(', ');
  return fail(
    'explain',
    'VALUE',
    `expected one of the model's classes (${some}${classes.length > 10 ? ', ...' : ''}), got '${label}'`,
  );
}
