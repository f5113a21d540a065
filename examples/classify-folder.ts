/**
 * Trains a small ViT on a folder of photographs, one folder for each class, and names what is on one of them.
 *
 *   node dist/examples/classify-folder.js photos/
 *   node dist/examples/classify-folder.js --smoke     # draws a folder of its own
 */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import sharp from 'sharp';

import {
  DataLoader,
  Trainer,
  type Transform,
  createModel,
  drawShape,
  findData,
  inputTransform,
  openDataset,
  predict,
  SHAPE_CLASSES,
} from '../src/index.js';

const smoke = process.argv.includes('--smoke');
const path = smoke ? await drawFolder() : process.argv[2];
if (path === undefined) throw new Error('expected a folder of images by class, or --smoke');

const specs = await findData(path); // without a folder for validation, a fifth of each class is kept for it
const [train, val] = await Promise.all([openDataset(specs.train), openDataset(specs.val)]);
console.log(`${train.length} images to train on, ${val.length} to validate, of ${train.classes.join(', ')}`);

const size = smoke ? 16 : 96;
const patchSize = smoke ? 4 : 12;
const input = {
  size: [size, size],
  mean: [0.5, 0.5, 0.5],
  std: [0.5, 0.5, 0.5],
  interpolation: 'bicubic',
  cropPct: 0.9,
} as const;
const augmented: Transform = {
  ...input,
  steps: [
    { kind: 'randomResizedCrop', size, scale: [0.3, 1] },
    { kind: 'horizontalFlip', p: 0.5 },
  ],
};
const batchSize = smoke ? 8 : 32;
const trainLoader = new DataLoader(train, { batchSize, shuffle: true, dropLast: true, transform: augmented });
const valLoader = new DataLoader(val, { batchSize, transform: inputTransform(input) });

const shape = { imgSize: size, patchSize, embedDim: 96, depth: smoke ? 2 : 6, numHeads: 3 };
const options = { ...shape, numClasses: train.classes.length };
const model = createModel('vit_tiny_patch16_224', options);
const trainer = new Trainer(model, { epochs: smoke ? 2 : 30, lr: 1e-3, warmupEpochs: 1, smoothing: 0.1 });
await trainer.run(trainLoader, {
  classes: train.classes.length,
  val: valLoader,
  onEpoch: ({ epoch, trainLoss, valAccuracy = NaN }) =>
    console.log(`epoch ${epoch + 1}: loss ${trainLoss.toFixed(3)}, accuracy ${valAccuracy.toFixed(3)}`),
});
await Promise.all([trainLoader.close(), valLoader.close()]);

const info = { name: 'vit_tiny_patch16_224', options, classes: train.classes, input };
const file = val.where(0);
const [guess] = await predict(model, info, [file], { topk: 3 });
if ('error' in guess) throw new Error(guess.error);
console.log(
  `${file}: ${guess.top.map(({ label, probability }) => `${label} ${(100 * probability).toFixed(1)} %`).join(', ')}`,
);
if (smoke) await rm(path, { recursive: true });

/** A folder of three shapes, eleven pictures of each. */
async function drawFolder(): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), 'tenon-example-'));
  for (let i = 0; i < 11 * SHAPE_CLASSES.length; i++) {
    const { image, label } = drawShape(0, i, 32);
    if (label >= 3) continue;
    const folder = join(root, SHAPE_CLASSES[label]);
    await mkdir(folder, { recursive: true });
    const { data, height, width } = image;
    await sharp(data, { raw: { height, width, channels: 3 } }).toFile(join(folder, `${i}.png`));
  }
  return root;
}
