import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import test from 'ava';

import { type TrainConfig, type TrainSettings, resolveSettings, train } from '../../src/index.js';
import { augmentation, mixing } from '../../src/train/augmentation.js';
import { type DataFacts, parseSettings, resolveConfig } from '../../src/train/config.js';
import { TINY, cliHere, temporaryFolder, tinyPhotos } from '../helpers/training.js';

const PHOTOS: DataFacts = { kind: 'folder', name: 'photos', height: 480, width: 640 };
const CIFAR: DataFacts = { kind: 'tar', name: 'cifar', height: 32, width: 32 };
const config = (settings: TrainSettings, facts = PHOTOS): TrainConfig =>
  resolveConfig('photos', settings, facts);

test('the learning rate grows with the images of an update', (t) => {
  const lr = (settings: TrainSettings): number => config(settings).lr;
  t.is(lr({}), 1e-3);
  t.is(lr({ recipe: 'deit', batchSize: 256, gradAccumSteps: 4 }), 1e-3);
  t.is(lr({ recipe: 'deit', batchSize: 128 }), 1.25e-4);
  t.is(lr({ lrBase: 0.1, lrBaseSize: 256, batchSize: 64 }), 0.025);
  t.is(lr({ recipe: 'vit-small-data', lrBase: 0.1, lrBaseSize: 256, batchSize: 64 }), 0.025);
  t.is(lr({ recipe: 'deit', lr: 3e-4 }), 3e-4);
  t.is(lr({ lrBase: 1, lr: 3e-4 }), 3e-4);
  t.is(resolveConfig('shapes', {}, { ...CIFAR, kind: 'shapes' }).lr, 2e-3);
});

test('large images take the size of a named model, small ones keep their own', (t) => {
  const size = (settings: TrainSettings, facts = PHOTOS): unknown => config(settings, facts).imgSize;
  t.is(size({}), 224);
  t.is(size({ model: 'vit_base_patch16_384' }), 384);
  t.is(size({ model: 'vit_micro_patch4_32' }), 32);
  t.is(size({ model: 'resnet18' }), 224);
  t.is(size({ model: 'vit_base_patch16_384', imgSize: 96 }), 96);
  t.is(size({ model: 'vit_base_patch16_384' }, CIFAR), 32);
  t.throws(() => size({ model: 'vit_bass' }), { message: /^createModel: expected a registered model/ });
});

test("DeiT's and Swin's recipes are the papers' at a batch of 1024", (t) => {
  const shared = {
    epochs: 300,
    opt: 'adamw',
    lr: 1e-3,
    minLr: 1e-5,
    warmupLr: 1e-6,
    weightDecay: 0.05,
    smoothing: 0.1,
    aa: 'rand-m9-mstd0.5-inc1',
    reprob: 0.25,
    remode: 'pixel',
    mixup: 0.8,
    cutmix: 1,
    mixupSwitchProb: 0.5,
    cropPct: 0.875,
    mean: [0.485, 0.456, 0.406],
  } as const;
  const deit = config({ recipe: 'deit', batchSize: 1024 });
  t.like(deit, {
    ...shared,
    warmupEpochs: 5,
    clipGrad: 0,
    dropPath: 0.1,
    augRepeats: 3,
    modelEmaDecay: 0.99996,
  });
  const swin = config({ recipe: 'swin', batchSize: 1024 });
  t.like(swin, { ...shared, warmupEpochs: 20, clipGrad: 5, dropPath: 0.2, augRepeats: 0, modelEmaDecay: 0 });
  t.like(config({ recipe: 'swin', batchSize: 512 }), { lr: 5e-4, warmupLr: 5e-7, minLr: 5e-6 });
});

test("MAE's recipe fine-tunes as the paper does at a batch of 1024", (t) => {
  const mae = config({ recipe: 'mae-finetune', batchSize: 256, gradAccumSteps: 4 });
  t.like(mae, {
    epochs: 100,
    lr: 2e-3, // 5e-4 for 256 images
    warmupEpochs: 5,
    warmupLr: 0,
    minLr: 1e-6,
    weightDecay: 0.05,
    layerDecay: 0.65,
    dropPath: 0.1,
    reprob: 0.25,
    mixup: 0.8,
    cutmix: 1,
    smoothing: 0.1,
    aa: 'rand-m9-mstd0.5-inc1',
  });
  // A pretrained model starts from 1e-4, unless something says otherwise.
  const pretrained = {
    name: 'vit_base_patch16_224',
    options: {},
    classes: [],
    input: {
      size: [224, 224],
      mean: [0.1, 0.2, 0.3],
      std: [1, 1, 1],
      interpolation: 'bicubic',
      cropPct: 0.9,
    },
  } as const;
  const begun = resolveConfig('photos', { recipe: 'mae-finetune', batchSize: 512 }, PHOTOS, pretrained);
  t.like(begun, { lr: 1e-3, model: 'vit_base_patch16_224', mean: [0.1, 0.2, 0.3], layerDecay: 0.65 });
});

test('flags go before the recipe, the recipe before what follows from the data', (t) => {
  t.like(config({ recipe: 'deit', epochs: 7, aa: 'none', mixup: 0, dropPath: undefined }), {
    epochs: 7,
    aa: 'none',
    mixup: 0,
    cutmix: 1,
    dropPath: 0.1,
  });
  t.like(config({ recipe: 'deit' }, CIFAR), { cropPct: 1, cropPadding: 4, imgSize: 32 });
  t.like(config({ recipe: 'vit-small-data' }, CIFAR), {
    epochs: 100,
    warmupEpochs: 10,
    mixupProb: 0.5,
    lr: 1e-3,
  });
});

test('settings become steps, in the order of timm', (t) => {
  const kinds = (settings: TrainSettings): string[] =>
    augmentation(config(settings), [224, 224]).steps.map(({ kind }) => kind);
  t.deepEqual(kinds({}), ['randomResizedCrop', 'horizontalFlip']);
  t.deepEqual(kinds({ hflip: 0, vflip: 0.5, cropPadding: 4 }), ['resize', 'randomCrop', 'verticalFlip']);
  const jitter = { colorJitter: 0.3 } as const;
  t.deepEqual(kinds({ ...jitter, hflip: 0 }), ['randomResizedCrop', 'colourJitter']);
  t.deepEqual(kinds({ ...jitter, aa: 'rand-m9' }), ['randomResizedCrop', 'horizontalFlip', 'augment']);
  t.deepEqual(kinds({ ...jitter, aa: '3a' }), [
    'randomResizedCrop',
    'horizontalFlip',
    'augment',
    'colourJitter',
  ]);

  const { steps, erasing } = augmentation(config({ recipe: 'deit', recount: 2 }), [224, 224]);
  const step = steps.find(({ kind }) => kind === 'augment');
  t.like(step, { mode: 'bicubic', fill: [124, 116, 104] });
  t.deepEqual(erasing, { p: 0.25, mode: 'pixel', count: 2 });
  t.is(augmentation(config({}), [224, 224]).erasing, undefined);
  const own = augmentation(config({ colorJitter: [0.1, 0, 0.3] }), [224, 224]).steps.at(-1);
  t.deepEqual(own, { kind: 'colourJitter', brightness: 0.1, contrast: 0, saturation: 0.3 });
});

test('settings become a way of mixing, or none', (t) => {
  t.is(mixing(config({})), undefined);
  t.is(mixing(config({ recipe: 'deit', noAug: true })), undefined);
  t.deepEqual(mixing(config({ recipe: 'swin', mixupMode: 'pair', mixupOffEpoch: 175 })), {
    mixup: 0.8,
    cutmix: 1,
    cutmixMinmax: undefined,
    prob: 1,
    switchProb: 0.5,
    mode: 'pair',
    offEpoch: 175,
  });
  t.like(mixing(config({ cutmixMinmax: [0.2, 0.8] })), { mixup: 0, cutmix: 0, cutmixMinmax: [0.2, 0.8] });
});

test('settings that a program gives are checked as those of the command line, before anything is written', async (t) => {
  const output = join(await temporaryFolder(t), 'runs');
  const message = async (settings: unknown): Promise<string> =>
    (await t.throwsAsync(train('shapes', { ...(settings as TrainSettings), output }))).message;
  t.is(await message({ lr: '1e-3' }), 'train: lr: expected number, got "1e-3"');
  t.is(await message({ opt: 'lion' }), 'train: opt: expected one of "adamw"|"adam"|"sgd", got "lion"');
  t.is(await message({ epochs: NaN }), 'train: epochs: expected number, got NaN');
  t.is(await message({ seed: 1n }), 'train: seed: expected number, got 1n');
  t.is(await message({ mean: [0.5] }), 'train: mean: expected three numbers, got [0.5]');
  t.false(existsSync(output));
  await t.throwsAsync(resolveSettings('shapes', { hflip: 2 }), {
    message: 'resolveSettings: hflip: expected number to be <=1, got 2',
  });
});

test('a setting of augmentation that is none is an error with its key', (t) => {
  const message = (values: unknown): string => t.throws(() => parseSettings(values, 'a.yaml'))?.message ?? '';
  t.is(
    message({ aa: 'rand-x9' }),
    'a.yaml: aa: expected sections m, n, p, mstd, mmax, inc and t, not \'x9\', got "rand-x9"',
  );
  t.is(
    message({ recipe: 'resnet' }),
    'a.yaml: recipe: expected one of "deit"|"swin"|"vit-small-data"|"mae-finetune", got "resnet"',
  );
  t.is(
    message({ colorJitter: [1, 2] }),
    'a.yaml: colorJitter: expected a number of at least 0, or three, got [1,2]',
  );
  t.is(
    message({ cutmixMinmax: [0.8, 0.2] }),
    'a.yaml: cutmixMinmax: expected a first number below the second, got [0.8,0.2]',
  );
  t.regex(message({ mixUp: 0.8 }), /mixUp/);
});

test.serial(
  'a run with a whole recipe trains, is evaluated on images as they are, and says that it mixes',
  async (t) => {
    const folder = await temporaryFolder(t);
    const photos = await tinyPhotos(join(folder, 'photos'));
    const run = (name: string): ReturnType<typeof train> =>
      train(photos, { ...TINY, recipe: 'deit', epochs: 2, warmupEpochs: 0, output: folder, name });
    const [first, second] = [await run('a'), await run('b')];
    t.is(first.summary?.trainLoss, second.summary?.trainLoss);
    t.true(Number(first.summary?.trainLoss) > 0.3);
    t.is(first.summary?.valAccuracy, second.summary?.valAccuracy);

    const printed = await cliHere(folder, [
      'train',
      'photos',
      '--recipe',
      'deit',
      '--print-config',
      '--epochs',
      '30',
    ]);
    t.regex(printed.stdout, /^# tenon train photos --config <this file>\nrecipe: "deit"\n/);
    await writeFile(join(folder, 'printed.yaml'), printed.stdout);
    const again = await cliHere(folder, ['train', 'photos', '--config', 'printed.yaml', '--print-config']);
    t.is(again.stdout, printed.stdout);
    t.like(await resolveSettings(photos, { recipe: 'deit' }), { epochs: 300, imgSize: 16, cropPadding: 2 });

    const { stdout } = await cliHere(folder, [
      'train',
      'photos',
      '--recipe',
      'vit-small-data',
      '--epochs',
      '1',
      '--warmup-epochs',
      '0',
      ...'--patch-size 8 --embed-dim 16 --depth 1 --num-heads 2 -b 4 -j 0'.split(' '),
    ]);
    t.regex(stdout, /\nImages are mixed: training accuracy is that of the class with the larger share\n/);
  },
);
