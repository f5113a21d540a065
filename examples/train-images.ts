/**
 * Training with the parts that `tenon train` is made of, on images that the program makes itself: stripes, in three
 * directions. Writes a model that `tenon predict` can use.
 *
 *   node dist/examples/train-images.js [--smoke]
 */
import { mkdir } from 'node:fs/promises';
import {
  DataLoader,
  IMAGENET_MEAN,
  IMAGENET_STD,
  Trainer,
  createModel,
  inputTransform,
  memoryData,
  openDataset,
  saveModel,
  type Dataset,
} from '../src/index.js';

const epochs = process.argv.includes('--smoke') ? 1 : 10;
const classes = ['across', 'down', 'slanted'];
const input = {
  size: [32, 32],
  mean: IMAGENET_MEAN,
  std: IMAGENET_STD,
  interpolation: 'bicubic',
  cropPct: 1,
} as const;

function stripes(count: number, seed: number): Promise<Dataset> {
  const labels = Array.from({ length: count }, (_, i) => i % 3);
  const pixels = Uint8Array.from({ length: count * 32 * 32 }, (_, at) => {
    const [image, y, x] = [Math.floor(at / 1024), Math.floor(at / 32) % 32, at % 32];
    const along = [y, x, (x + y) / Math.SQRT2][labels[image]];
    return 128 + 100 * Math.sin(along + seed + image * 0.7);
  });
  return openDataset(memoryData({ classes, pixels, height: 32, width: 32, channels: 1, labels }));
}

const train = new DataLoader(await stripes(600, 0), {
  batchSize: 32,
  shuffle: true,
  transform: { ...inputTransform(input), steps: [{ kind: 'randomCrop', size: input.size, padding: 4 }] },
});
const val = new DataLoader(await stripes(150, 99), { batchSize: 50, transform: inputTransform(input) });

const options = {
  imgSize: 32,
  patchSize: 8,
  embedDim: 48,
  depth: 2,
  numHeads: 3,
  numClasses: classes.length,
};
const model = createModel('vit_micro_patch4_32', options);
const trainer = new Trainer(model, { epochs, lr: 2e-3, warmupEpochs: 1, smoothing: 0.1, clipGrad: 1 });

await trainer.run(train, {
  classes: classes.length,
  val,
  onEpoch: ({ epoch, trainLoss, valAccuracy }) => {
    console.log(`epoch ${epoch + 1}: loss ${trainLoss.toFixed(3)}, accuracy ${valAccuracy?.toFixed(3)}`);
  },
});

await mkdir('runs', { recursive: true });
await saveModel('runs/stripes.safetensors', trainer.weights, {
  name: 'vit_micro_patch4_32',
  options,
  classes,
  input,
});
await Promise.all([train.close(), val.close()]);
