import test from 'ava';

import {
  SwinTransformer,
  TensorError,
  describeModel,
  manualSeed,
  modelEntry,
  noGrad,
  normal,
  zeros,
  type SwinConfig,
} from '../../src/index.js';
import { goldenPath, goldenTest, sharedTest } from '../helpers/golden.js';
import { followsTimm, matchesTimm, timmConfig, haveTimmShapes } from '../helpers/timm.js';

const TINY = {
  imgSize: 16,
  patchSize: 2,
  windowSize: 4,
  embedDim: 16,
  depths: [2, 2],
  numHeads: [2, 4],
  numClasses: 5,
} as const;

goldenTest("a Swin's features, logits, loss and gradients are timm's", 'models/timm-swin', (t, device) =>
  matchesTimm(t, 'timm-swin', new SwinTransformer(timmConfig('timm-swin')), device),
);

goldenTest("12 steps of training follow timm's and PyTorch's losses", 'train/timm-swin', (t, device) =>
  followsTimm(t, 'timm-swin', new SwinTransformer(timmConfig('timm-swin')), device),
);

sharedTest('every Swin has the names and shapes of timm', goldenPath('state_dicts'), (t) => {
  haveTimmShapes(t, 'swin_*', 5, 'depths', (s, i) => `layers.${s}.blocks.${i}.`);
});

test('multiply-accumulates are those of the table in the specification', (t) => {
  const expected = {
    swin_tiny_patch4_window7_224: 4.491,
    swin_small_patch4_window7_224: 8.741,
    swin_base_patch4_window7_224: 15.431,
    swin_base_patch4_window12_384: 47.083,
    swin_large_patch4_window7_224: 34.476,
    swin_large_patch4_window12_384: 103.919,
  };
  for (const [name, gmacs] of Object.entries(expected)) {
    t.is(Number((describeModel(modelEntry(name)).gflops / 2).toFixed(3)), gmacs, name);
  }
});

const FORMS: Record<string, Partial<SwinConfig>> = {
  'windows that divide no map': { windowSize: 3 },
  'windows larger than the second map': { windowSize: 7, imgSize: 28 },
  'odd maps to merge': { imgSize: [18, 10] },
  'rectangular images': { imgSize: [8, 16] },
  'absolute positions': { absolutePositions: true },
  'no qkv bias': { qkvBias: false, windowSize: 3 },
  'one channel': { inChans: 1 },
  'no head': { numClasses: 0 },
  'all dropouts': {
    dropRate: 0.1,
    posDropRate: 0.1,
    projDropRate: 0.1,
    attnDropRate: 0.1,
    dropPathRate: 0.2,
  },
};

for (const [title, options] of Object.entries(FORMS)) {
  test(`${title}: shapes, counts, and a gradient for every parameter`, async (t) => {
    manualSeed(1);
    const config = { ...TINY, ...options };
    using model = new SwinTransformer(config);
    const { parameters } = describeModel({ name: 'test', family: 'swin', config });
    t.is(parameters, model.parameterCount);
    const [height, width] =
      typeof config.imgSize === 'number' ? [config.imgSize, config.imgSize] : config.imgSize;
    const y = model.call(normal([3, config.inChans ?? 3, height, width]));
    t.deepEqual([...y.shape], [3, config.numClasses === 0 ? 2 * TINY.embedDim : TINY.numClasses]);
    t.true((await y.data()).every(Number.isFinite));
    y.mul(normal(y.shape)).sum().backward();
    for (const [name, parameter] of model.namedParameters()) t.not(parameter.grad, undefined, name);
  });
}

test('windows shift by half in every second block, and not where they hold the whole map', (t) => {
  using model = new SwinTransformer({ ...TINY, windowSize: 7, imgSize: [28, 14], depths: [2, 2] });
  const windows = [...model.layers].map(({ blocks }) =>
    [...blocks].map(({ attn }) => [attn.window, attn.shift]),
  );
  t.deepEqual(windows, [
    [
      [
        [7, 7],
        [0, 0],
      ],
      [
        [7, 7],
        [3, 0],
      ],
    ],
    [
      [
        [7, 4],
        [0, 0],
      ],
      [
        [7, 4],
        [0, 0],
      ],
    ],
  ]);
});

test('drop paths grow linearly over all blocks, and act in training alone', async (t) => {
  manualSeed(3);
  using model = new SwinTransformer({ ...TINY, dropPathRate: 0.6 });
  const rates = [...model.layers].flatMap(({ blocks }) => [...blocks].map((block) => block.dropPath1.p));
  t.deepEqual(
    rates.map((p) => Number(p.toFixed(6))),
    [0, 0.2, 0.4, 0.6],
  );
  const images = normal([4, 3, 16, 16]);
  const run = async (): Promise<number[]> => Array.from(await noGrad(() => model.call(images)).data());
  t.notDeepEqual(await run(), await run());
  model.eval();
  t.deepEqual(await run(), await run());
});

test('other image sizes: an error by default, as they come when asked for', (t) => {
  using fixed = new SwinTransformer(TINY);
  t.throws(() => fixed.call(zeros([1, 3, 32, 32])), {
    instanceOf: TensorError,
    message: /SwinTransformer: expected images of 16 x 16 pixels, got \[1, 3, 32, 32\]/,
  });
  using dynamic = new SwinTransformer({ ...TINY, dynamicImgSize: true, absolutePositions: true }).eval();
  t.deepEqual([...dynamic.call(zeros([1, 3, 22, 4])).shape], [1, 5]);
});

test('positions, absolute and relative, have no weight decay', (t) => {
  using model = new SwinTransformer({ ...TINY, depths: [1, 1], absolutePositions: true });
  t.deepEqual(model.noWeightDecay, [
    'absolute_pos_embed',
    'layers.0.blocks.0.attn.relative_position_bias_table',
    'layers.1.blocks.0.attn.relative_position_bias_table',
  ]);
});

test('settings that make no sense are errors that name them', (t) => {
  const bad: [Partial<SwinConfig>, RegExp][] = [
    [{ numHeads: [3, 4] }, /WindowAttention: expected heads that divide 16 channels, got 3/],
    [{ numHeads: [2] }, /SwinTransformer: expected numHeads for 2 stages, got 1/],
    [{ depths: [2, 0] }, /expected depths\[1\] to be a whole number of at least 1, got 0/],
    [{ windowSize: 0 }, /expected windowSize to be a whole number of at least 1, got 0/],
    [{ patchSize: 5 }, /SwinTransformer: expected an image size that patches of 5 divide, got 16 x 16/],
  ];
  for (const [options, message] of bad) {
    t.throws(() => new SwinTransformer({ ...TINY, ...options }), { instanceOf: TensorError, message });
  }
});
