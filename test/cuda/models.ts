/**
 * Whole models on an emulated GPU: their steps are the CPU's, up to rounding, and repeat bit by bit.
 */
import '../helpers/emulated-cuda.js';

import test from 'ava';

import {
  AdamW,
  DistilledVisionTransformer,
  type Model as ExplainedModel,
  type FloatTensor,
  type Module,
  RegNet,
  ResNet,
  SwinTransformer,
  Trainer,
  VisionTransformer,
  crossEntropy,
  explain,
  inferenceMode,
  manualSeed,
  normal,
  scope,
  tensor,
  to,
} from '../../src/index.js';
import { goldenPath, relativeError, sharedTest } from '../helpers/golden.js';
import { matchesTimm, timmConfig } from '../helpers/timm.js';
import { tinyBatches, tinyModel } from '../helpers/training.js';

// One after the other: all draw from the same random numbers.

type Model = Module<[images: FloatTensor], FloatTensor>;

const COMMON = { imgSize: 16, numClasses: 5, dropRate: 0.1, dropPathRate: 0.2 };
const TRANSFORMER = { ...COMMON, embedDim: 16, projDropRate: 0.1 };
const VIT = { ...TRANSFORMER, patchSize: 4, depth: 2, numHeads: 2, attnDropRate: 0.1, patchDropRate: 0.25 };
const SWIN = { ...TRANSFORMER, patchSize: 2, windowSize: 3, depths: [2, 2], numHeads: [2, 4] };
const CNN = { ...COMMON, stemWidth: 6, zeroInitLast: false }; // or most gradients start as 0

const MODELS: Readonly<Record<string, () => Model>> = {
  'a ViT': () => new VisionTransformer(VIT),
  'a ViT with registers, layer scale and a pooled head': () =>
    new VisionTransformer({ ...VIT, regTokens: 2, initValues: 0.1, qkNorm: true, globalPool: 'avg' }),
  'a Swin whose windows divide no map': () => new SwinTransformer(SWIN),
  'a ResNet': () => new ResNet({ ...CNN, block: 'bottleneck', layers: [2, 1], channels: [4, 6] }),
  'a RegNetY': () => new RegNet({ ...CNN, depths: [1, 2], widths: [8, 12], groupWidth: 4 }),
  'a DeiT': () => new DistilledVisionTransformer({ ...VIT, patchDropRate: 0 }),
};

/** Losses, gradients, weights and logits of two steps of training. */
async function train(make: () => Model, device: 'cpu' | 'cuda'): Promise<Record<string, number[]>> {
  manualSeed(4);
  using model = make().to(device);
  // Epsilon keeps gradients that are nothing but rounding from becoming steps.
  const optimizer = new AdamW(model.parameters(), { lr: 0.01, weightDecay: 0.05, eps: 1e-3 });
  using images = normal([2, 3, 16, 16], { device });
  using labels = tensor([1, 3], { dtype: 'int64', device });
  const values = async (tensors: readonly FloatTensor[]): Promise<number[]> =>
    (await Promise.all(tensors.map((x) => x.data()))).flatMap((data) => Array.from(data));
  const found: Record<string, number[]> = {};
  for (const step of [1, 2]) {
    using loss = scope(() => {
      const y = crossEntropy(model.call(images), labels, { labelSmoothing: 0.1 });
      y.backward();
      return y;
    });
    found[`loss ${step}`] = await values([loss]);
    found[`gradients ${step}`] = await values(model.parameters().flatMap(({ grad }) => grad ?? []));
    optimizer.step({ maxNorm: 1 });
    optimizer.zeroGrad();
    found[`weights ${step}`] = await values(model.parameters());
  }
  using logits = inferenceMode(() => model.eval().call(images));
  found['logits'] = await values([logits]);
  optimizer.dispose();
  return found;
}

for (const [name, make] of Object.entries(MODELS)) {
  test.serial(`${name} trains on cuda as on the CPU, and twice to the same bits`, async (t) => {
    const cpu = await train(make, 'cpu');
    const cuda = await train(make, 'cuda');
    for (const [what, expected] of Object.entries(cpu)) {
      const error = relativeError(cuda[what], expected);
      t.true(error < 1e-5, `${what}: ${error}`);
    }
    t.notDeepEqual(cuda['weights 1'], cuda['weights 2']);
    t.deepEqual(await train(make, 'cuda'), cuda);
  });
}

test.serial('the Trainer runs on cuda as on the CPU, in float32 and under autocast', async (t) => {
  for (const [precision, bound] of [
    ['float32', 1e-5],
    ['bf16', 2e-2],
  ] as const) {
    const losses = async (device: 'cpu' | 'cuda'): Promise<number[]> => {
      const found: number[] = [];
      const model = tinyModel({ dropRate: 0.3, dropPathRate: 0.2 }).to(device);
      const trainer = new Trainer(model, {
        epochs: 2,
        lr: 1e-2,
        clipGrad: 1,
        modelEmaDecay: 0.9,
        seed: 5,
        precision,
      });
      await trainer.run(tinyBatches(12, 4), { classes: 3, onStep: ({ loss }) => void found.push(loss) });
      model.dispose();
      return found;
    };
    const [cpu, cuda] = [await losses('cpu'), await losses('cuda')];
    t.is(cuda.length, 6);
    const error = relativeError(cuda, cpu);
    t.true(error < bound, `${precision}: ${error}`);
  }
});

for (const [name, make] of [
  ['timm-vit', () => new VisionTransformer(timmConfig('timm-vit'))],
  ['timm-swin', () => new SwinTransformer(timmConfig('timm-swin'))],
] as const) {
  sharedTest(`${name}: features, logits, loss and gradients are timm's`, goldenPath(`models/${name}`), (t) =>
    matchesTimm(t, name, make(), 'cuda'),
  );
}

for (const name of ['a ViT', 'a DeiT', 'a Swin whose windows divide no map', 'a RegNetY']) {
  test.serial(`what ${name} sees on cuda is what it sees on the CPU`, async (t) => {
    const maps: Record<'cpu' | 'cuda', number[]> = { cpu: [], cuda: [] };
    for (const device of ['cpu', 'cuda'] as const) {
      manualSeed(4);
      using model = MODELS[name]().to(device);
      using images = to(normal([2, 3, 16, 16]), device);
      const { map, targets, logits } = explain(model as ExplainedModel, images, { target: 3 });
      t.is(map.device, device === 'cpu' ? 'cpu' : 'cuda:0');
      maps[device] = Array.from(await map.data());
      for (const tensor of [map, targets, logits]) tensor.dispose();
    }
    t.true(maps.cpu.some((value) => value !== 0));
    t.true(relativeError(maps.cuda, maps.cpu) < 1e-4, JSON.stringify(maps));
  });
}
