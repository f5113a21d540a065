/**
 * What a ViT looks at in a photograph: which patches speak for the class that it sees, where each head of the last layer looks,
 * and how far the heads of every layer do.
 *
 *   node dist/examples/explain.js photo.jpg runs/NAME/checkpoints/best.safetensors
 *   node dist/examples/explain.js --smoke     # a drawn picture and an untrained model, nothing is written
 */
import { writeFile } from 'node:fs/promises';

import {
  SampleRandom,
  VisionTransformer,
  applySteps,
  attentionDistance,
  attentionMaps,
  createModel,
  drawShape,
  explain,
  heatmap,
  inputTransform,
  loadModel,
  normalizeInto,
  readImage,
  tensor,
} from '../src/index.js';

const smoke = process.argv.includes('--smoke');
const [photo, checkpoint] = process.argv.slice(2);
if (!smoke && checkpoint === undefined) throw new Error('expected a photograph and a checkpoint, or --smoke');

const small = {
  size: [32, 32],
  mean: [0.5, 0.5, 0.5],
  std: [0.5, 0.5, 0.5],
  interpolation: 'bicubic',
  cropPct: 1,
} as const;
const { model, input, classes } = smoke
  ? { model: createModel('vit_micro_patch4_32', { numClasses: 10 }), input: small, classes: undefined }
  : await loadModel(checkpoint).then(({ model, info }) => ({ model, ...info }));
if (!(model instanceof VisionTransformer)) throw new Error(`expected a ViT in ${checkpoint}`);

// What the model sees of the photograph.
const { steps, size, mean, std } = inputTransform(input);
const view = applySteps(
  smoke ? drawShape(0, 7, 32).image : await readImage(photo),
  steps,
  new SampleRandom(0, 0, 0),
);
const pixels = new Float32Array(3 * size[0] * size[1]);
normalizeInto(view, mean, std, pixels, 0);
const images = tensor(pixels, { shape: [1, 3, ...size] });

const { map, targets } = explain(model, images);
const grid = map.shape.slice(1) as [number, number];
const [seen] = await targets.data();
console.log(`seen as ${classes?.[Number(seen)] ?? `class ${seen}`}`);
const pictures = new Map([['explained.png', await heatmap(view, await map.data(), { grid })]]);

const layers = attentionMaps(model, images); // [1, heads, tokens, tokens] each
const prefixTokens = model.prefixTokens;
const classToken = layers.at(-1)!.select(2, 0).select(0, 0); // [heads, tokens]
for (let head = 0; head < classToken.shape[0]; head++) {
  const patches = classToken.select(0, head).narrow(0, prefixTokens, grid[0] * grid[1]);
  pictures.set(`head-${head}.png`, await heatmap(view, await patches.data(), { grid }));
}
if (!smoke) for (const [path, png] of pictures) await writeFile(path, png);
console.log(`${smoke ? 'drawn' : 'written'}: ${[...pictures.keys()].join(', ')}`);

console.log('how far each head looks, in pixels:');
for (const [i, layer] of layers.entries()) {
  const pixelsOf = attentionDistance(layer, { grid, patchSize: model.config.patchSize, prefixTokens });
  console.log(`  layer ${i}: ${Array.from(await pixelsOf.data(), (far) => far.toFixed(1)).join('  ')}`);
}
