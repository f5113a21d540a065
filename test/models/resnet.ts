import test from 'ava';

import {
  ResNet,
  SGD,
  type Tensor,
  TensorError,
  createModel,
  crossEntropy,
  describeModel,
  foldBatchNorm,
  manualSeed,
  modelEntry,
  noGrad,
  normal,
  randint,
  scope,
  type ResNetConfig,
} from '../../src/index.js';
import { goldenPath, goldenTest, relativeError, sharedTest } from '../helpers/golden.js';
import { matchesTimm, haveTimmShapes } from '../helpers/timm.js';
import { matchesTransformers } from '../helpers/transformers.js';

const TINY = { imgSize: 32, layers: [1, 1], channels: [8, 16], stemWidth: 8, numClasses: 5 } as const;

for (const block of ['basic', 'bottleneck'] as const) {
  // timm's plain stem is 64 wide, whatever the stem_width of the configuration.
  const config = { block, layers: [1, 1, 1, 1], channels: [8, 16, 24, 32], numClasses: 5 };
  goldenTest(
    `a ${block} ResNet's features, logits, loss and gradients are timm's`,
    `models/timm-resnet-${block}`,
    (t, device) => matchesTimm(t, `timm-resnet-${block}`, new ResNet(config), device),
  );
}

goldenTest(
  "a ResNet's logits, hidden states, loss and gradients are those of transformers",
  'models/hf-resnet',
  (t, device) => matchesTransformers(t, 'hf-resnet', (model) => (model as ResNet).stages, device),
);

sharedTest('ResNets have the names and shapes of timm', goldenPath('state_dicts'), (t) => {
  haveTimmShapes(t, 'resnet*', 4, 'layers', (s, i) => `layer${s + 1}.${i}.`);
});

test('multiply-accumulates are those of the table in the specification', (t) => {
  const expected = { resnet18: 1.81, resnet34: 3.66, resnet50: 4.09, resnet_nano_32: 0.04 };
  for (const [name, gmacs] of Object.entries(expected)) {
    t.true(Math.abs(describeModel(modelEntry(name)).gflops / 2 - gmacs) < 0.03, name);
  }
});

const FORMS: Record<string, Partial<ResNetConfig>> = {
  'basic blocks': {},
  bottlenecks: { block: 'bottleneck' },
  'stride in the first convolution': { block: 'bottleneck', strideIn: '1x1' },
  'a first stage that halves the map': { downsampleFirst: true },
  'small images': { stem: '3x3' },
  'one channel': { inChans: 1 },
  'no head': { numClasses: 0 },
  'drop path and dropout': { dropPathRate: 0.2, dropRate: 0.1, zeroInitLast: false },
};

for (const [title, options] of Object.entries(FORMS)) {
  test(`${title}: shapes, counts, and a gradient for every parameter`, async (t) => {
    manualSeed(1);
    const config = { ...TINY, ...options };
    using model = new ResNet(config);
    t.is(describeModel({ name: 'test', family: 'resnet', config }).parameters, model.parameterCount);
    const y = model.call(normal([3, config.inChans ?? 3, 32, 32]));
    const width = 16 * (config.block === 'bottleneck' ? 4 : 1);
    t.deepEqual([...y.shape], [3, config.numClasses === 0 ? width : 5]);
    t.true((await y.data()).every(Number.isFinite));
    y.mul(normal(y.shape)).sum().backward();
    for (const [name, parameter] of model.namedParameters()) t.not(parameter.grad, undefined, name);
  });
}

test('training lowers the loss, counts its batches and moves the running statistics; evaluation does not', async (t) => {
  manualSeed(2);
  using model = createModel('resnet_nano_32', { layers: [1, 1, 1], numClasses: 4 });
  const [images, labels] = [normal([16, 3, 32, 32]), randint([16], 0, 4)];
  const optimizer = new SGD(model.parameters(), { lr: 0.5, momentum: 0.9 });
  const losses: Tensor<'float32'>[] = [];
  for (let step = 0; step < 12; step++) {
    losses.push(
      scope(() => {
        const loss = crossEntropy(model.call(images), labels);
        loss.backward();
        optimizer.step();
        optimizer.zeroGrad();
        return loss as Tensor<'float32'>;
      }),
    );
  }
  t.true((await losses[11].item()) < 0.5 * (await losses[0].item()));
  t.is(await model.bn1.numBatchesTracked.item(), 12);
  const variance = await model.bn1.runningVar.data();
  noGrad(() => model.eval().call(images));
  t.deepEqual(await model.bn1.runningVar.data(), variance);
  t.is(await model.bn1.numBatchesTracked.item(), 12);
});

test('folded batch norms give the same logits, and are gone from the state dict', async (t) => {
  manualSeed(3);
  for (const block of ['basic', 'bottleneck'] as const) {
    using model = new ResNet({ ...TINY, block, zeroInitLast: false });
    const images = normal([4, 3, 32, 32]);
    noGrad(() => model.call(images)); // running statistics of its own
    const wanted = await noGrad(() => model.eval().call(images)).data();
    const got = await noGrad(() => foldBatchNorm(model).call(images)).data();
    t.true(relativeError(got, wanted) < 1e-5);
    const names = Object.keys(model.stateDict());
    t.deepEqual(
      names.filter((name) => /bn|downsample\.1/.test(name)),
      [],
    );
    t.true(names.includes('conv1.bias') && names.includes('layer2.0.downsample.0.bias'));
    t.throws(() => foldBatchNorm(model), { message: /foldInto: expected a batch norm to fold, got one/ });
  }
});

test('settings that make no sense are errors that name them', (t) => {
  const bad: [object, RegExp][] = [
    [{ channels: [8] }, /ResNet: expected channels for 2 stages, got 1/],
    [{ layers: [1, 0] }, /expected layers\[1\] to be a whole number of at least 1, got 0/],
    [{ block: 'wide' }, /ResNet: expected block to be basic or bottleneck, got 'wide'/],
    [{ patchSize: 16 }, /ResNet: expected settings among .*, got 'patchSize'/],
  ];
  for (const [options, message] of bad) {
    t.throws(() => new ResNet({ ...TINY, ...options }), { instanceOf: TensorError, message });
  }
});
