import test from 'ava';

import {
  TensorError,
  VisionTransformer,
  crossEntropy,
  describeModel,
  manualSeed,
  noGrad,
  normal,
  zeros,
  type FloatTensor,
  type ViTConfig,
} from '../../src/index.js';
import { goldenTest, relativeError } from '../helpers/golden.js';
import { followsTimm, matchesTimm, timmConfig } from '../helpers/timm.js';

for (const folder of ['timm-vit', 'timm-vit-gap']) {
  goldenTest(`${folder}: features, logits, loss and gradients are timm's`, `models/${folder}`, (t, device) =>
    matchesTimm(t, folder, new VisionTransformer(timmConfig(folder)), device),
  );
}

goldenTest("12 steps of training follow timm's and PyTorch's losses", 'train/timm-vit', (t, device) =>
  followsTimm(t, 'timm-vit', new VisionTransformer(timmConfig('timm-vit')), device),
);

test('images with their channels last are told by their channels', (t) => {
  using model = new VisionTransformer(TINY);
  t.throws(() => model.call(zeros([2, 16, 16, 3])), {
    instanceOf: TensorError,
    message: 'VisionTransformer: expected images [B, 3, H, W], got [2, 16, 16, 3]',
  });
});

test('parameters are counted as they are made', (t) => {
  for (const options of Object.values(FORMS)) {
    using model = new VisionTransformer({ ...TINY, ...options });
    const { parameters } = describeModel({ name: 'test', family: 'vit', config: { ...TINY, ...options } });
    t.is(parameters, model.parameterCount, JSON.stringify(options));
  }
});

const TINY = { imgSize: 16, patchSize: 4, embedDim: 24, depth: 2, numHeads: 2, numClasses: 5 } as const;

const FORMS: Record<string, Partial<ViTConfig>> = {
  'register tokens': { regTokens: 3 },
  'positions on patches alone': { regTokens: 2, noEmbedClass: true },
  'no class token, average pooling': { classToken: false, globalPool: 'avg' },
  'average pooling after the norm': { globalPool: 'avg', fcNorm: false },
  'layer scale': { initValues: 1e-5 },
  'qk norm': { qkNorm: true },
  'norms after the branches': { blockNorm: 'post' },
  'norm before the blocks': { preNorm: true },
  'no qkv bias': { qkvBias: false },
  'rectangular images': { imgSize: [8, 16] },
  'one channel': { inChans: 1 },
  'no head': { numClasses: 0 },
  'weights of the original': { weightInit: 'jax' },
  'all dropouts': {
    dropRate: 0.1,
    posDropRate: 0.1,
    projDropRate: 0.1,
    attnDropRate: 0.1,
    dropPathRate: 0.2,
  },
  'patch dropout': { patchDropRate: 0.5 },
};

for (const [title, options] of Object.entries(FORMS)) {
  test(`${title}: shapes, and a gradient for every parameter that training uses`, async (t) => {
    manualSeed(1);
    const config = { ...TINY, ...options };
    using model = new VisionTransformer(config);
    const [height, width] =
      typeof config.imgSize === 'number' ? [config.imgSize, config.imgSize] : config.imgSize;
    const images = normal([3, config.inChans ?? 3, height, width]);
    const y = model.call(images);
    t.deepEqual([...y.shape], [3, config.numClasses === 0 ? TINY.embedDim : TINY.numClasses]);
    const values = await y.data();
    t.true(values.every(Number.isFinite));
    y.mul(normal(y.shape)).sum().backward();
    for (const [name, parameter] of model.namedParameters()) {
      // The tokens of a pooled-over prefix reach the output through attention, so every parameter has a gradient.
      t.not(parameter.grad, undefined, name);
    }
  });
}

test('evaluation is deterministic, training drops paths', async (t) => {
  manualSeed(3);
  using model = new VisionTransformer({ ...TINY, dropPathRate: 0.5 });
  const images = normal([4, 3, 16, 16]);
  const run = async (): Promise<number[]> => Array.from(await noGrad(() => model.call(images)).data());
  t.notDeepEqual(await run(), await run());
  model.eval();
  t.deepEqual(await run(), await run());
});

test('patch dropout keeps the share it promises, of each image its own', async (t) => {
  manualSeed(5);
  using model = new VisionTransformer({ ...TINY, patchDropRate: 0.5 });
  const seen: number[] = [];
  const stop = model.blocks.at(0)?.registerForwardHook((_, result) => {
    seen.push(result.shape[1]);
    return undefined;
  });
  await model.call(normal([2, 3, 16, 16])).data();
  stop?.();
  t.deepEqual(seen, [1 + 8]);
});

const POOLED: Record<string, Partial<ViTConfig>> = {
  'a plain block': {},
  'layer scale': { initValues: 0.1 },
  'norms after the branches': { blockNorm: 'post', initValues: 0.5 },
  'normalised q and k': { qkNorm: true },
  'register tokens': { regTokens: 2 },
};
for (const [name, options] of Object.entries(POOLED)) {
  test(`the last block computes the class token alone, with the logits and gradients of all: ${name}`, async (t) => {
    manualSeed(6);
    using model = new VisionTransformer({ ...TINY, ...options });
    const images = normal([2, 3, 16, 16]);
    const labels = zeros([2], { dtype: 'int64' });
    const gradients = async (logits: FloatTensor): Promise<number[][]> => {
      crossEntropy(logits, labels).backward();
      const all = model
        .parameters()
        .map(async (parameter) => Array.from((await parameter.grad?.data()) ?? []));
      const values = [Array.from(await logits.data()), ...(await Promise.all(all))];
      for (const parameter of model.parameters()) parameter.grad = undefined;
      return values;
    };
    const whole = await gradients(model.forwardHead(model.forwardFeatures(images)));
    const pooled = await gradients(model.call(images));
    const largest = Math.max(...whole.map((values) => Math.hypot(...values)));
    whole.forEach((expected, i) => {
      t.is(pooled[i].length, expected.length);
      // What a bias in front of the scores adds is the same for all keys: its gradient is rounding alone.
      const isRounding = Math.hypot(...expected) < 1e-6 * largest;
      if (isRounding) t.true(Math.hypot(...pooled[i]) < 1e-6 * largest, `gradient ${i}`);
      else t.true(relativeError(pooled[i], expected) < 1e-4, `gradient ${i}`);
    });
  });
}

test('a hook in the last block sees every token', async (t) => {
  using model = new VisionTransformer(TINY).eval();
  const seen: number[] = [];
  const stop = model.blocks.at(-1)?.mlp.registerForwardHook((_, result) => {
    seen.push(result.shape[1]);
    return undefined;
  });
  await model.call(zeros([1, 3, 16, 16])).data();
  stop?.();
  t.deepEqual(seen, [1 + 16]);
  t.false(model.isHooked);
});

test('other image sizes: an error by default, resized positions when asked for', async (t) => {
  using fixed = new VisionTransformer(TINY);
  const error = t.throws(() => fixed.call(zeros([1, 3, 32, 32])), { instanceOf: TensorError });
  t.regex(error.message, /expected images of 16 x 16 pixels, got \[1, 3, 32, 32\]/);
  using dynamic = new VisionTransformer({ ...TINY, dynamicImgSize: true }).eval();
  t.deepEqual([...dynamic.call(zeros([1, 3, 24, 32])).shape], [1, 5]);
  const same = await dynamic.call(zeros([1, 3, 16, 16])).data();
  t.is(same.length, 5);
});

test('settings that make no sense are errors that name them', (t) => {
  const bad: [Partial<ViTConfig>, RegExp][] = [
    [{ numHeads: 5 }, /heads that divide 24 channels, got 5/],
    [{ patchSize: 5 }, /an image size that patches of 5 divide, got 16 x 16/],
    [{ classToken: false }, /globalPool 'avg' without a class token/],
    [{ depth: 0 }, /depth to be a whole number of at least 1, got 0/],
    [{ dropPathRate: 1 }, /a probability in \[0, 1\), got 1/],
  ];
  for (const [options, message] of bad) {
    t.throws(() => new VisionTransformer({ ...TINY, ...options }), { instanceOf: TensorError, message });
  }
});
