import { readFileSync } from 'node:fs';

import test from 'ava';

import {
  AdamW,
  SGD,
  TensorError,
  VisionTransformer,
  add,
  attention,
  attentionPacked,
  attentionRows,
  autocast,
  batchNorm,
  binaryCrossEntropy,
  cat,
  checkpoint,
  conv2d,
  copyInto,
  crossEntropy,
  cumsum,
  defineOp,
  einsum,
  equal,
  exp,
  gelu,
  greater,
  inferenceMode,
  keep,
  layerNorm,
  layerNormResidual,
  leakCheck,
  linear,
  log,
  logSoftmax,
  logsumexp,
  manualSeed,
  matmul,
  max,
  maxPool2d,
  mean,
  memoryStats,
  mlp,
  mul,
  normal,
  ones,
  pow,
  relu,
  rsqrt,
  scope,
  softmax,
  sum,
  tanh,
  tensor,
  uniform,
  variance,
  where,
  windowAttention,
  zeros,
  type DType,
  type FloatDType,
  type FloatTensor,
  type Tensor,
} from '../../src/index.js';
import { native } from '../../src/native.js';
import { collectTensors } from '../helpers/garbage.js';
import { asTensor, goldenPath, readGolden, relativeError, sharedTest } from '../helpers/golden.js';

// One after the other: some count the calls of the native module.

const wide = (shape = [4, 4]): FloatTensor => uniform(shape, { low: 0.5, high: 1 });
const half = (shape = [4, 4]): FloatTensor => wide(shape).to('bfloat16');
const labels = tensor([0, 1, 2, 3], { dtype: 'int64' });

/** The op list of docs/guides/precision.md: the result of each op for one float32 and one bfloat16 input. */
const LIST: readonly (readonly [name: string, expected: DType, call: () => Tensor])[] = [
  ['matmul', 'bfloat16', () => matmul(wide(), half())],
  ['einsum', 'bfloat16', () => einsum('ij,jk->ik', wide(), wide())],
  ['linear', 'bfloat16', () => linear(wide(), wide(), wide([4]), { activation: 'gelu' })],
  ['linear, 16-bit residual', 'bfloat16', () => linear(wide(), wide(), wide([4]), { residual: half() })],
  ['linear, float32 residual', 'float32', () => linear(half(), wide(), wide([4]), { residual: wide() })],
  ['attention', 'bfloat16', () => attention(wide([1, 1, 2, 4]), half([1, 1, 2, 4]), wide([1, 1, 2, 4]))],
  [
    'attentionRows',
    'bfloat16',
    () => attentionRows(wide([1, 1, 2, 4]), half([1, 1, 2, 4]), tensor([0n]), { bias: wide([2, 2]) }),
  ],
  ['attentionPacked', 'bfloat16', () => attentionPacked(wide([1, 2, 12]), { numHeads: 1 })],
  ['conv2d', 'bfloat16', () => conv2d(wide([1, 4, 3, 3]), wide([2, 4, 1, 1]), wide([2]))],
  [
    'windowAttention',
    'bfloat16',
    () => windowAttention(wide([1, 2, 2, 12]), wide([9, 1]), { window: 2, shift: 0 }),
  ],
  ['batchNorm, 16-bit', 'bfloat16', () => batchNorm(half(), wide([4]), wide([4]), { residual: wide() })],
  ['batchNorm', 'float32', () => batchNorm(wide(), wide([4]), wide([4]), { residual: half() })],
  ['maxPool2d', 'bfloat16', () => maxPool2d(half([1, 1, 4, 4]), 2)],
  ['layerNorm', 'float32', () => layerNorm(half(), wide([4]), wide([4]))],
  ['layerNormResidual', 'float32', () => layerNormResidual(half(), wide())[0]],
  ['softmax', 'float32', () => softmax(half())],
  ['logSoftmax', 'float32', () => logSoftmax(half())],
  ['logsumexp', 'float32', () => logsumexp(half())],
  ['crossEntropy', 'float32', () => crossEntropy(half(), labels)],
  ['crossEntropy, soft targets', 'float32', () => crossEntropy(half(), wide())],
  ['binaryCrossEntropy', 'float32', () => binaryCrossEntropy(half(), wide())],
  ['sum', 'float32', () => sum(half())],
  ['mean', 'float32', () => mean(half())],
  ['variance', 'float32', () => variance(half())],
  ['cumsum', 'float32', () => cumsum(half(), 0)],
  ['exp', 'float32', () => exp(half())],
  ['log', 'float32', () => log(half())],
  ['rsqrt', 'float32', () => rsqrt(half())],
  ['pow', 'float32', () => pow(half(), 2)],
  ['gelu', 'bfloat16', () => gelu(half())],
  ['relu', 'float32', () => relu(wide())],
  ['tanh', 'bfloat16', () => tanh(half())],
  ['max', 'bfloat16', () => max(half())],
  ['add', 'float32', () => add(wide(), half())],
  ['mul, 16-bit', 'bfloat16', () => mul(half(), half())],
  ['mul, bfloat16 and float16', 'float32', () => mul<FloatDType>(half(), wide().to('float16'))],
  ['cat', 'float32', () => cat([half(), wide(), half()])],
  ['equal', 'bool', () => equal(wide(), half())],
  ['greater', 'bool', () => greater(half(), wide())],
  ['where', 'float32', () => where(half().greater(0.7), wide(), half())],
  ['matmul, float64', 'float64', () => matmul(wide().to('float64'), wide().to('float64'))],
];

test.serial('every op of the list computes in its dtype', (t) => {
  scope(() => {
    const got = autocast('bfloat16', () => LIST.map(([name, , call]) => [name, call().dtype]));
    t.deepEqual(
      got,
      LIST.map(([name, expected]) => [name, expected]),
    );
    t.is(autocast('float16', () => matmul(wide(), wide())).dtype, 'float16');
  });
});

test.serial('a region ends where it ends, also by an error, and float32 switches it off inside', (t) => {
  const product = (): DType => scope(() => matmul(wide(), wide()).dtype);
  t.is(
    autocast('bfloat16', () => autocast('float32', product)),
    'float32',
  );
  t.is(autocast('bfloat16', () => [autocast('float16', product), product()]).join(), 'float16,bfloat16');
  t.throws(() => autocast('bfloat16', () => matmul(zeros([2, 3]), zeros([2, 3]))), { code: 'SHAPE' });
  t.is(product(), 'float32');
});

test.serial('gradients have the dtypes of the inputs, whatever forward computed in', async (t) => {
  const [x, w, b, r] = [wide(), wide(), wide([4]), wide()].map((leaf) => leaf.setRequiresGrad());
  const h = half().setRequiresGrad();
  const loss = autocast('bfloat16', () => {
    const y = linear(x, w, b, { activation: 'gelu', residual: r });
    return sum(mul(add(layerNorm(y), h), cat([y.narrow(0, 0, 2), h.narrow(0, 2, 2)])));
  });
  loss.backward();
  t.deepEqual(
    [x, w, b, r, h].map((leaf) => leaf.grad?.dtype),
    ['float32', 'float32', 'float32', 'float32', 'bfloat16'],
  );
  // The same in float64, from the same numbers.
  const [x2, w2, b2, r2, h2] = [x, w, b, r, h].map((leaf) => leaf.detach().to('float64').setRequiresGrad());
  const y = gelu(linear(x2, w2, b2)).add(r2);
  sum(mul(add(layerNorm(y), h2), cat([y.narrow(0, 0, 2), h2.narrow(0, 2, 2)]))).backward();
  for (const [leaf, exact] of [
    [x, x2],
    [w, w2],
    [b, b2],
    [r, r2],
    [h, h2],
  ] as const) {
    const error = relativeError(await (leaf.grad as Tensor).data(), await (exact.grad as Tensor).data());
    t.true(error > 0 && error < 2e-2, `${error}`); // some five roundings to 8 bits
  }
});

test.serial(
  "a float32 weight's gradient is the product of 16-bit operands, not rounded to 16 bits",
  async (t) => {
    manualSeed(5);
    for (const dtype of ['bfloat16', 'float16'] as const) {
      const rounded = (shape: number[]): FloatTensor => normal(shape).to(dtype).to('float32');
      const [x, dy] = [rounded([300, 24]), rounded([300, 16])];
      const [w, b, v] = [rounded([16, 24]), rounded([16]), rounded([16, 16])].map((leaf) =>
        leaf.setRequiresGrad(),
      );
      const exact = (a: FloatTensor, c: FloatTensor): FloatTensor =>
        matmul(a.to('float64').transpose(0, 1), c.to('float64'));
      const check = async (leaf: FloatTensor, expected: FloatTensor): Promise<void> => {
        const gradient = leaf.grad as FloatTensor;
        t.is(gradient.dtype, 'float32');
        const error = relativeError(await gradient.data(), await expected.data());
        t.true(error < 1e-6, `${dtype}: ${error}`);
        leaf.grad = undefined;
      };
      autocast(dtype, () => linear(x, w, b)).backward({ gradient: dy.to(dtype) });
      await check(w, exact(dy, x));
      await check(b, dy.to('float64').sum({ dim: 0 }));

      autocast(dtype, () => mlp(x, w, b, v, undefined, { activation: 'relu' })).backward({
        gradient: dy.to(dtype),
      });
      const after = autocast(dtype, () => linear(x, w, b, { activation: 'relu' }).detach());
      await check(v, exact(dy, after));
      t.is(w.grad?.dtype, 'float32');
    }
  },
);

test.serial('a weight of 16 bits has a gradient of 16 bits', (t) => {
  for (const [own, region] of [
    ['bfloat16', 'float32'],
    ['bfloat16', 'bfloat16'],
    ['bfloat16', 'float16'],
  ] as const) {
    const [x, w] = [ones([3, 4], { dtype: own }), ones([2, 4], { dtype: own }).setRequiresGrad()];
    autocast(region, () => linear(x, w))
      .sum()
      .backward();
    t.is(w.grad?.dtype, own, `${own} in ${region}`);
  }
});

/** Runs `fn` and counts the casts in it. */
function casts(fn: () => void): number {
  const { to } = native;
  let count = 0;
  (native as { to: typeof to }).to = (...args) => {
    count += 1;
    return to(...args);
  };
  try {
    fn();
  } finally {
    (native as { to: typeof to }).to = to;
  }
  return count;
}

test.serial('a weight is cast once, and again only when it has changed, through a view too', async (t) => {
  const w = keep(ones([4, 4]).setRequiresGrad());
  const x = half();
  const product = (): Tensor => autocast('bfloat16', () => matmul(x, w));
  t.is(
    casts(() => void [product(), product()]),
    1,
  );
  copyInto(w.detach().narrow(0, 0, 4), zeros([4, 4]));
  let after = product();
  t.is(
    casts(() => void (after = product())),
    0,
  );
  t.deepEqual([...(await after.data())], new Array<number>(16).fill(0));
  t.is(
    casts(() => void autocast('float16', () => matmul(x.to('float16'), w))),
    2,
    'another dtype is another cast',
  );
});

test.serial("an optimizer writes the 16-bit weights itself, rounded from the step's float32", async (t) => {
  for (const make of [
    (w: FloatTensor) => new AdamW([w], { lr: 1e-3 }),
    (w: FloatTensor) => new SGD([w], { lr: 1e-3, momentum: 0.9 }),
  ]) {
    manualSeed(1);
    const w = keep(wide().setRequiresGrad());
    const optimizer = make(w);
    const x = half();
    autocast('bfloat16', () => sum(matmul(x, w))).backward();
    t.is(
      casts(() => void optimizer.step()),
      0,
    );
    const eye = tensor([
      [1, 0, 0, 0],
      [0, 1, 0, 0],
      [0, 0, 1, 0],
      [0, 0, 0, 1],
    ]).to('bfloat16');
    let seen: Tensor = eye;
    t.is(
      casts(() => void (seen = autocast('bfloat16', () => matmul<'bfloat16'>(eye, w as never)))),
      0,
    );
    t.deepEqual(await seen.data(), await w.detach().to('bfloat16').data());
  }
});

test.serial('16-bit parameters train with float32 state', async (t) => {
  for (const dtype of ['bfloat16', 'float16'] as const) {
    const w = tensor([1, 2], { dtype, requiresGrad: true });
    const optimizer = new AdamW([w], { lr: 0.25, weightDecay: 0 });
    for (let step = 0; step < 2; step++) {
      w.sum().backward();
      optimizer.step();
      optimizer.zeroGrad();
    }
    t.deepEqual([...(await w.data())], [0.5, 1.5]);
    const { tensors } = optimizer.stateDict();
    t.is(tensors['m.0'].dtype, 'float32');
    t.true(Math.abs((await tensors['m.0'].data())[0] - 0.19) < 1e-7);
  }
});

test.serial('what checkpoint computes again is what it computed', async (t) => {
  const w = keep(wide().setRequiresGrad());
  const x = wide().setRequiresGrad();
  const block = (x: FloatTensor): FloatTensor => softmax(matmul(x, w));
  const gradients = async (run: () => FloatTensor): Promise<number[]> => {
    autocast('bfloat16', () => run().pow(2).sum()).backward();
    const all = await Promise.all([x, w].map((leaf) => (leaf.grad as Tensor).data()));
    for (const leaf of [x, w]) leaf.grad = undefined;
    return all.flatMap((values) => [...values]);
  };
  t.deepEqual(await gradients(() => checkpoint(block, x)), await gradients(() => block(x)));
});

test.serial('backward inside a region computes in the dtypes of forward', (t) => {
  const seen: DType[] = [];
  const scaled = defineOp({
    name: 'scaled',
    autocast: 'keep',
    forward(ctx, x: FloatTensor, w: FloatTensor): FloatTensor {
      ctx.save(x, w);
      return mul(x, sum(w));
    },
    backward({ saved: [x, w] }, dy) {
      const dx = matmul(dy as FloatTensor, w as FloatTensor);
      seen.push(x.dtype, dx.dtype);
      return [dx];
    },
  });
  const [x, w] = [wide().setRequiresGrad(), wide()];
  autocast('bfloat16', () => {
    sum(scaled(x, w)).backward();
  });
  t.deepEqual(seen, ['float32', 'float32']);
});

test.serial('a step leaves nothing behind, and disposing of a weight frees its copy', async (t) => {
  const before = await collectTensors();
  const w = keep(wide().setRequiresGrad());
  const optimizer = new SGD([w], { lr: 0.1 });
  const step = (): void =>
    scope(() => {
      autocast('bfloat16', () => sum(gelu(matmul(wide(), w)))).backward();
      optimizer.step();
      optimizer.zeroGrad();
    });
  step(); // makes the copy
  await leakCheck(step);
  await leakCheck(() => void inferenceMode(() => autocast('bfloat16', () => matmul(wide(), w))).dispose());
  w.dispose();
  t.is(memoryStats().tensors, before);
});

test.serial('a wrong dtype or an asynchronous function is an error', (t) => {
  const message = (run: () => unknown): string => t.throws(run, { instanceOf: TensorError }).message;
  t.is(
    message(() => autocast('float64' as 'float32', () => 1)),
    "autocast: expected bfloat16, float16 or float32, got 'float64'",
  );
  t.is(
    message(() => autocast('bfloat16', () => Promise.resolve(1))),
    'autocast: expected a synchronous function, got a promise',
  );
});

// PyTorch 2.13's own errors on this model, by its CPU autocast, against the same reference.
for (const [dtype, ofLogits, ofGradients] of [
  ['bfloat16', 5.05e-3, 5.84e-3],
  ['float16', 4.43e-4, 6.86e-4],
] as const) {
  sharedTest(
    `a ViT in ${dtype} is within twice PyTorch's error of the exact logits and gradients`,
    goldenPath('models/timm-vit'),
    async (t) => {
      const json = JSON.parse(readFileSync(goldenPath('models/timm-vit/config.json'), 'utf8')) as Record<
        string,
        number
      >;
      const model = new VisionTransformer({
        imgSize: json['img_size'],
        patchSize: json['patch_size'],
        embedDim: json['embed_dim'],
        depth: json['depth'],
        numHeads: json['num_heads'],
        numClasses: json['num_classes'],
      });
      const { tensors: weights } = readGolden('models/timm-vit/model.safetensors');
      model.loadStateDict(
        Object.fromEntries(Object.entries(weights).map(([name, values]) => [name, asTensor(values)])),
      );
      const { tensors: io } = readGolden('models/timm-vit/io.safetensors');
      const [logits, loss] = autocast(dtype, () => {
        const logits = model.call(asTensor(io['pixel_values']) as FloatTensor);
        return [logits, crossEntropy(logits, asTensor(io['labels']) as Tensor<'int64'>)] as const;
      });
      t.is(logits.dtype, dtype);
      const error = relativeError(await logits.data(), io['logits'].data);
      t.true(error < 2 * ofLogits, `logits: ${error}`);
      loss.backward();
      const got: number[] = [];
      const expected: number[] = [];
      for (const [name, { grad }] of model.namedParameters()) {
        t.is(grad?.dtype, 'float32');
        got.push(...(await (grad as Tensor).data()));
        expected.push(...(io[`grad.${name}`].data as Float32Array));
      }
      const gradientError = relativeError(got, expected);
      t.true(gradientError < 2 * ofGradients, `gradients: ${gradientError}`);
    },
  );
}
