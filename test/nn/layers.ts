/**
 * Each layer against its formula, written with simple ops, and the distributions that parameters start from.
 */
import test from 'ava';

import {
  AdaptiveAvgPool2d,
  Attention,
  AvgPool2d,
  Conv2d,
  ConvNorm,
  DropPath,
  Dropout,
  GELU,
  LayerNorm,
  LayerScale,
  Linear,
  MaxPool2d,
  Mlp,
  PatchEmbed,
  PostNorm,
  PreNorm,
  Residual,
  Sequential,
  SqueezeExcite,
  TensorError,
  adaptiveAvgPool2d,
  avgPool2d,
  batchNorm,
  conv2d,
  gelu,
  grad,
  initConstant,
  initLecunNormal,
  initNormal,
  initTruncatedNormal,
  initUniform,
  initXavierUniform,
  manualSeed,
  matmul,
  maxPool2d,
  noGrad,
  normal,
  ones,
  rearrange,
  relu,
  softmax,
  variance,
  zeros,
  type FloatTensor,
} from '../../src/index.js';
import { close } from '../helpers/numbers.js';

const data = async (x: FloatTensor): Promise<Float32Array> => (await x.data()) as Float32Array;
const same = async (
  t: Parameters<typeof close>[0],
  actual: FloatTensor,
  expected: FloatTensor,
): Promise<void> => {
  t.deepEqual([...actual.shape], [...expected.shape]);
  await close(t, actual, await data(expected), 2e-5);
};

/** `x W^T + b` */
const affine = (x: FloatTensor, { weight, bias }: Linear): FloatTensor => {
  const product = matmul(x, weight.transpose());
  return bias === undefined ? product : product.add(bias);
};

test('Linear is x W^T + b, with an activation and a residual', async (t) => {
  const x = normal([2, 5, 4]);
  const residual = normal([2, 5, 3]);
  const plain = new Linear(4, 3);
  await same(t, plain.call(x, residual), affine(x, plain).add(residual));
  const active = new Linear(4, 3, { bias: false, activation: 'gelu' });
  await same(t, active.call(x), gelu(affine(x, active)));
  t.is(active.bias, undefined);
});

test('GELU, LayerNorm, LayerScale and Mlp are their formulas', async (t) => {
  const x: FloatTensor = normal([3, 8]);
  await same(t, new GELU().call(x), gelu(x));
  await same(t, new GELU('tanh').call(x), gelu(x, { approximate: 'tanh' }));
  const norm = new LayerNorm(8, { eps: 0.1 });
  initNormal(norm.weight as FloatTensor, 1);
  initNormal(norm.bias as FloatTensor, 1);
  const centred = x.sub(x.mean({ dim: -1, keepdim: true }));
  const deviation = variance(x, { dim: -1, keepdim: true, correction: 0 }).add(0.1).sqrt();
  const unit = centred.div(deviation);
  await same(t, norm.call(x), unit.mul(norm.weight as FloatTensor).add(norm.bias as FloatTensor));
  await same(t, new LayerNorm(8, { eps: 0.1, affine: false }).call(x), unit);
  await same(t, new LayerScale(8, 0.25).call(x), x.mul(0.25));
  const mlp = new Mlp(8, 16);
  await same(t, mlp.call(x, x), affine(gelu(affine(x, mlp.fc1)), mlp.fc2).add(x));
});

test('hooks on the layers of an Mlp see what passes, and may replace it', async (t) => {
  const x: FloatTensor = normal([3, 8]);
  const mlp = new Mlp(8, 16);
  const plain = mlp.call(x);
  const seen: (readonly number[])[] = [];
  const removes = [mlp.fc1, mlp.fc2].map((layer) =>
    layer.registerForwardHook(([input], output) => {
      seen.push(input.shape, output.shape);
      return output.mul(2);
    }),
  );
  const doubled = affine(gelu(affine(x, mlp.fc1)).mul(2), mlp.fc2).mul(2);
  await same(t, mlp.call(x), doubled);
  t.deepEqual(seen, [
    [3, 8],
    [3, 16],
    [3, 16],
    [3, 8],
  ]);
  for (const remove of removes) remove();
  await same(t, mlp.call(x), plain);
});

test('Attention is softmax(q k^T / sqrt(d)) v by head, with norms of q and k where asked for', async (t) => {
  const x: FloatTensor = normal([2, 5, 8]);
  for (const qkNorm of [false, true]) {
    const layer = new Attention(8, { numHeads: 2, qkNorm });
    const qkv = rearrange(affine(x, layer.qkv), 'b n (k h d) -> k b h n d', { k: 3, h: 2 });
    let [q, k] = [qkv.select(0, 0), qkv.select(0, 1)];
    if (layer.qNorm !== undefined && layer.kNorm !== undefined)
      [q, k] = [layer.qNorm.call(q), layer.kNorm.call(k)];
    const weights = softmax(matmul(q, k.transpose()).div(2));
    const mixed = rearrange(matmul(weights, qkv.select(0, 2)), 'b h n d -> b n (h d)');
    await same(t, layer.call(x, { residual: x }), affine(mixed, layer.proj).add(x));
  }
});

test('PatchEmbed is a linear layer on patches, ordered channel, row, column', async (t) => {
  const images = normal([2, 3, 4, 6]);
  const layer = new PatchEmbed({ patchSize: 2, inChans: 3, embedDim: 5 });
  const patches = rearrange(images, 'b c (h p) (w q) -> b (h w) (c p q)', { p: 2, q: 2 });
  const weight = layer.proj.weight.reshape([5, 12]);
  await same(t, layer.call(images), matmul(patches, weight.transpose()).add(layer.proj.bias as FloatTensor));
});

test('Sequential, Residual, PreNorm and PostNorm compose', async (t) => {
  const x: FloatTensor = normal([2, 4]);
  const [norm, fn] = [new LayerNorm(4), new Linear(4, 4)];
  await same(t, new Sequential([norm, fn]).call(x), fn.call(norm.call(x)));
  await same(t, new Residual(new PreNorm(norm, fn)).call(x), x.add(fn.call(norm.call(x))));
  await same(t, new Residual(new PostNorm(norm, fn)).call(x), x.add(norm.call(fn.call(x))));
  t.deepEqual(Object.keys(new Residual(new PreNorm(norm, fn)).stateDict()).slice(0, 2), [
    'fn.norm.weight',
    'fn.norm.bias',
  ]);
});

test.serial(
  'Dropout drops elements and DropPath whole samples, in training alone, and keep the mean',
  async (t) => {
    manualSeed(4);
    const x = ones([1000, 10]);
    for (const layer of [new Dropout(0.25), new DropPath(0.25)]) {
      const values = await data(layer.call(x));
      t.true(values.every((v) => v === 0 || Math.abs(v - 1 / 0.75) < 1e-6));
      const mean = values.reduce((a, b) => a + b) / values.length;
      t.true(Math.abs(mean - 1) < 0.08, `${mean}`);
      const whole = Array.from(
        { length: 1000 },
        (_, i) => new Set(values.subarray(10 * i, 10 * i + 10)).size,
      );
      t.is(
        whole.every((n) => n === 1),
        layer instanceof DropPath,
      );
      layer.eval();
      t.is(layer.call(x), x);
    }
  },
);

test.serial(
  'DropPath.residual is x + the branch dropped, computed for the samples that keep it',
  async (t) => {
    const path = new DropPath(0.4);
    const seen = new Set<number>();
    for (let seed = 0; seed < 40; seed++) {
      const batch = 1 + (seed % 5);
      const leaf = (...shape: number[]): FloatTensor => normal(shape, { dtype: 'float64' }).setRequiresGrad();
      const x = leaf(batch, 3, 4);
      const from = seed % 2 === 0 ? x : leaf(batch, 5, 4);
      const weight = leaf(4);
      const inputs = from === x ? [x, weight] : [x, weight, from];
      let samples = 0;
      const branch = (z: FloatTensor): FloatTensor => {
        samples = z.shape[0];
        return z.narrow(1, 0, 3).mul(weight).tanh();
      };
      const dy = normal(x.shape, { dtype: 'float64' });
      const run = async (op: () => FloatTensor): Promise<Float64Array[]> => {
        manualSeed(seed);
        const y = op();
        const gradients = grad(y, inputs, { gradients: [dy] });
        return Promise.all([y, ...gradients].map(async (tensor) => (await tensor?.data()) as Float64Array));
      };

      const actual = await run(() => path.residual(x, branch, { from }));
      const computed = samples;
      const expected = await run(() => x.add(path.call(branch(from))));
      for (const [i, values] of expected.entries()) {
        values.forEach((v, j) => t.true(Math.abs(actual[i][j] - v) <= 1e-14 * Math.max(1, Math.abs(v))));
      }
      const drawn = await run(() => path.residual(x, branch, { from, draws: true }));
      t.deepEqual(drawn, expected);
      t.is(samples, batch, 'a branch that draws is computed for all');
      manualSeed(seed);
      const mask = await data(path.call(ones([batch, 1])));
      const kept = mask.reduce((n, v) => n + Number(v !== 0), 0);
      t.is(computed, Math.max(kept, 1), 'one sample is computed where none is kept');
      seen.add(kept === 0 ? 0 : kept === batch ? 2 : 1);
    }
    t.deepEqual([...seen].sort(), [0, 1, 2], 'none, some and all were kept');
  },
);

test('DropPath.residual gives the branch its residual where nothing is dropped', (t) => {
  const x = ones([2, 3]);
  const sums: unknown[] = [];
  const branch = (z: FloatTensor, sum?: FloatTensor): FloatTensor => {
    sums.push(sum);
    return sum === undefined ? z : z.add(sum);
  };
  const path = new DropPath(0.5);
  path.eval();
  for (const inactive of [path, new DropPath(0)]) {
    t.deepEqual(Array.from(inactive.residual(x, branch).dataSync()), [2, 2, 2, 2, 2, 2]);
  }
  t.deepEqual(sums, [x, x]);
  t.throws(() => new DropPath(0.5).residual(zeros([]), branch), {
    message: 'dropPath: expected at least one dimension, got a scalar',
  });
  t.throws(() => new DropPath(0.5).residual(x, () => zeros([2, 4])), { message: /^(indexAdd|add): / });
  const none = zeros([0, 3]);
  t.deepEqual([...new DropPath(0.5).residual(none, branch).shape], [0, 3]);
});

test('wrong shapes and settings are errors that name the layer', (t) => {
  const cases: [() => unknown, RegExp][] = [
    [() => new Dropout(1), /^Dropout: expected a probability in \[0, 1\), got 1$/],
    [() => new DropPath(-0.1), /^DropPath: expected a probability in \[0, 1\), got -0.1$/],
    [() => new Attention(8, { numHeads: 3 }), /^Attention: expected heads that divide 8 channels, got 3$/],
    [() => new Linear(4, 2).call(zeros([2, 3])), /^linear: .*\[2, 3\]/],
    [
      () => new PatchEmbed({ patchSize: 4, inChans: 3, embedDim: 2 }).call(zeros([1, 3, 6, 8])),
      /^PatchEmbed: expected images \[B, 3, H, W\] with H and W multiples of 4, got \[1, 3, 6, 8\]$/,
    ],
  ];
  for (const [run, message] of cases) t.throws(run, { instanceOf: TensorError, message });
});

test.serial('parameters start from the distributions that their names say', async (t) => {
  manualSeed(8);
  const moments = async (
    fill: (x: FloatTensor) => void,
  ): Promise<{ std: number; mean: number; most: number }> => {
    const x = zeros([100, 200]);
    fill(x);
    const values = await data(x);
    const mean = values.reduce((a, b) => a + b) / values.length;
    const std = Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length);
    return { std, mean, most: values.reduce((a, b) => Math.max(a, Math.abs(b)), 0) };
  };
  const cases: [name: string, fill: (x: FloatTensor) => void, std: number, most: number][] = [
    ['normal', (x) => initNormal(x, 0.5), 0.5, 0.5 * 6],
    ['truncated normal', (x) => initTruncatedNormal(x, 0.02), 0.02, 0.02 * 6],
    ['wide truncated normal', (x) => initTruncatedNormal(x, 100), 2 / Math.sqrt(3), 2],
    ['uniform', (x) => initUniform(x, 3), 3 / Math.sqrt(3), 3],
    ['Xavier', (x) => initXavierUniform(x), Math.sqrt(2 / 300), Math.sqrt(6 / 300)],
    ['LeCun', (x) => initLecunNormal(x), Math.sqrt(1 / 200), (2 * Math.sqrt(1 / 200)) / 0.8796],
  ];
  for (const [name, fill, std, most] of cases) {
    const got = await moments(fill);
    t.true(Math.abs(got.std / std - 1) < 0.03, `${name}: standard deviation ${got.std}, expected ${std}`);
    t.true(Math.abs(got.mean) < 0.03 * std, `${name}: mean ${got.mean}`);
    t.true(got.most <= most * 1.0001 && got.most > 0, `${name}: up to ${got.most}, expected at most ${most}`);
  }
  t.deepEqual(await moments((x) => initConstant(x, 0.5)), { std: 0, mean: 0.5, most: 0.5 });
});

test('Conv2d, pooling and SqueezeExcite are their ops', async (t) => {
  const x: FloatTensor = normal([2, 4, 6, 6]);
  const conv = new Conv2d(4, 6, 3, { stride: 2, padding: 1, groups: 2 });
  t.deepEqual([...conv.weight.shape], [6, 2, 3, 3]);
  await same(t, conv.call(x), conv2d(x, conv.weight, conv.bias, { stride: 2, padding: 1, groups: 2 }));
  await same(
    t,
    new MaxPool2d(3, { stride: 2, padding: 1 }).call(x),
    maxPool2d(x, 3, { stride: 2, padding: 1 }),
  );
  await same(t, new AvgPool2d(2).call(x), avgPool2d(x, 2));
  await same(t, new AdaptiveAvgPool2d(1).call(x), adaptiveAvgPool2d(x, 1));
  const se = new SqueezeExcite(4, 2);
  const hidden = relu(conv2d(x.mean({ dim: [2, 3], keepdim: true }), se.fc1.weight, se.fc1.bias));
  await same(t, se.call(x), x.mul(conv2d(hidden, se.fc2.weight, se.fc2.bias).sigmoid()));
});

test('BatchNorm2d learns its statistics in training, uses them in evaluation, and folds into a convolution', async (t) => {
  const layer = new ConvNorm(3, 5, 3, { padding: 1 });
  const { conv, bn } = layer;
  const x: FloatTensor = normal([4, 3, 6, 6]).add(2);
  const residual: FloatTensor = normal([4, 5, 6, 6]);
  t.deepEqual(Object.keys(bn.stateDict()).sort(), [
    'bias',
    'num_batches_tracked',
    'running_mean',
    'running_var',
    'weight',
  ]);
  const z = conv.call(x);
  await same(t, layer.call(x, { residual, activation: 'relu' }), relu(batchNorm(z).add(residual)));
  await same(t, bn.runningMean, z.mean({ dim: [0, 2, 3] }).mul(0.1));
  t.is(Number(await bn.numBatchesTracked.item()), 1);
  layer.eval();
  const { runningMean, runningVar } = bn;
  const wanted = relu(batchNorm(z, bn.weight, bn.bias, { runningMean, runningVar }).add(residual));
  await same(t, layer.call(x, { residual, activation: 'relu' }), wanted);
  noGrad(() => bn.foldInto(conv));
  await same(t, layer.call(x, { residual, activation: 'relu' }), wanted);
  await same(t, bn.call(x), x);
  t.deepEqual(Object.keys(layer.stateDict()), ['conv.weight', 'conv.bias']);
});
