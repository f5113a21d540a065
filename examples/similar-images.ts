/**
 * Finds the images of a folder that are most like one, by the vectors that a model makes of them.
 *
 *   node dist/examples/similar-images.js photos/holiday/7.jpg photos/ runs/photos
 *   node dist/examples/similar-images.js --smoke      # pictures of its own, and an untrained model
 */
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import sharp from 'sharp';

import {
  SHAPE_CLASSES,
  createModel,
  drawShape,
  embed,
  inferenceMode,
  loadPretrained,
  saveModel,
  tensor,
  topk,
} from '../src/index.js';

const smoke = process.argv.includes('--smoke');
const [query, folder, path] = smoke ? await pictures() : process.argv.slice(2);
if (path === undefined) throw new Error("expected an image, a folder and a run's folder, or --smoke");

const names = await readdir(folder, { recursive: true });
const files = names.filter((name) => /\.(jpe?g|png|webp)$/i.test(name)).map((name) => join(folder, name));
const { model, info } = await loadPretrained(path);
const [asked, ...others] = await embed(model, info, [query, ...files]);
if ('error' in asked) throw new Error(asked.error);
const found = others.flatMap((image) => ('error' in image ? [] : [image]));

// The vectors have length 1: their products with the query's, [N, D] x [D], are cosines.
const { values, indices } = inferenceMode(() => {
  const vectors = tensor(found.map(({ embedding }) => [...embedding]));
  return topk(vectors.matmul(tensor(asked.embedding)), Math.min(5, found.length));
});
const [cosines, places] = await Promise.all([values.data(), indices.data()]);
for (const [i, place] of places.entries()) console.log(cosines[i].toFixed(3), found[Number(place)].path);
if (smoke) {
  if (cosines[0] < 0.999) throw new Error('expected the picture itself first');
  await rm(folder, { recursive: true });
}

/** A folder of shapes, one of them the query, and a model. */
async function pictures(): Promise<[query: string, folder: string, path: string]> {
  const root = await mkdtemp(join(tmpdir(), 'tenon-example-'));
  for (let i = 0; i < 24; i++) {
    const { image, label } = drawShape(0, i, 32);
    const { data, height, width } = image;
    const file = join(root, `${i}-${SHAPE_CLASSES[label]}.png`);
    await sharp(data, { raw: { height, width, channels: 3 } }).toFile(file);
  }
  const options = { numClasses: SHAPE_CLASSES.length };
  const untrained = createModel('vit_micro_patch4_32', options);
  const input = {
    size: [32, 32],
    mean: [0.5, 0.5, 0.5],
    std: [0.5, 0.5, 0.5],
    interpolation: 'bicubic',
    cropPct: 1,
  } as const;
  const weights = join(root, 'model.safetensors');
  await saveModel(weights, untrained.stateDict(), {
    name: 'vit_micro_patch4_32',
    options,
    classes: SHAPE_CLASSES,
    input,
  });
  const [first] = (await readdir(root)).filter((name) => name.endsWith('.png'));
  return [join(root, first), root, weights];
}
