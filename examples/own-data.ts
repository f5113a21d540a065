/**
 * Trains a small ViT on a data set of your own: the images of a CSV file, read by own-data/csv.ts in all threads that decode.
 *
 *   node dist/examples/own-data.js labels.csv         # a line `path,class` for each image
 *   node dist/examples/own-data.js --smoke            # draws images of its own
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

import sharp from 'sharp';

import {
  DataLoader,
  type Dataset,
  SHAPE_CLASSES,
  Trainer,
  createModel,
  drawShape,
  inputTransform,
  moduleData,
  openDataset,
  subsetData,
} from '../src/index.js';

const smoke = process.argv.includes('--smoke');
const path = smoke ? await drawImages() : process.argv[2];
if (path === undefined) throw new Error('expected a CSV file of images and their classes, or --smoke');

const spec = moduleData(new URL('./own-data/csv.js', import.meta.url), 'openCsv', path);
const { length, classes } = await openDataset(spec);
const part = (isIn: (index: number) => boolean): Promise<Dataset> =>
  openDataset(subsetData(spec, Array.from({ length }, (_, index) => index).filter(isIn)));
const [train, val] = await Promise.all([part((i) => i % 5 !== 0), part((i) => i % 5 === 0)]);
console.log(`${train.length} images to train on, ${val.length} to validate, of ${classes.join(', ')}`);

const size = smoke ? 16 : 96;
const transform = inputTransform({
  size: [size, size],
  mean: [0.5, 0.5, 0.5],
  std: [0.5, 0.5, 0.5],
  interpolation: 'bicubic',
  cropPct: 1,
});
const batchSize = smoke ? 8 : 32;
const trainLoader = new DataLoader(train, {
  batchSize,
  shuffle: true,
  dropLast: true,
  transform,
  workers: 2,
});
const valLoader = new DataLoader(val, { batchSize, transform, workers: 2 });

const model = createModel('vit_tiny_patch16_224', {
  imgSize: size,
  patchSize: size / 4,
  embedDim: 96,
  depth: smoke ? 2 : 6,
  numHeads: 3,
  numClasses: classes.length,
});
const trainer = new Trainer(model, { epochs: smoke ? 2 : 30, lr: 1e-3, warmupEpochs: 1 });
await trainer.run(trainLoader, {
  classes: classes.length,
  val: valLoader,
  onEpoch: ({ epoch, trainLoss, valAccuracy = NaN }) =>
    console.log(`epoch ${epoch + 1}: loss ${trainLoss.toFixed(3)}, accuracy ${valAccuracy.toFixed(3)}`),
});
await Promise.all([trainLoader.close(), valLoader.close()]);
if (smoke) await rm(dirname(path), { recursive: true });

/** Forty pictures of shapes, and the CSV file that names them. */
async function drawImages(): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), 'tenon-example-'));
  const lines: string[] = [];
  for (let i = 0; i < 40; i++) {
    const { image, label } = drawShape(0, i, 32);
    const { data, height, width } = image;
    await sharp(data, { raw: { height, width, channels: 3 } }).toFile(join(root, `${i}.png`));
    lines.push(`${i}.png,${SHAPE_CLASSES[label]}\n`);
  }
  await writeFile(join(root, 'labels.csv'), lines.join(''));
  return join(root, 'labels.csv');
}
