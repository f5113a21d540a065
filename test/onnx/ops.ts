/**
 * The translation of each op, run by ONNX Runtime, and what has none.
 */
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import test from 'ava';

import * as tenon from '../../src/index.js';
import {
  BatchNorm2d,
  type ExportOnnxOptions,
  type FloatTensor,
  Linear,
  Module,
  Sequential,
  type Tensor,
  type TensorModule,
  exportOnnx,
  inferenceMode,
  tensor,
} from '../../src/index.js';
import { traceOps } from '../../src/tensor/trace.js';
import { TRANSLATED } from '../../src/onnx/translations/index.js';
import { expectSame, numbersFor } from '../helpers/onnx.js';
import { TINY_INFO, temporaryFolder, tinyModel } from '../helpers/training.js';

/** A function as a model. */
class Computed extends Module {
  constructor(private readonly compute: (x: FloatTensor) => Tensor) {
    super();
  }

  override forward(x: FloatTensor): FloatTensor {
    return this.compute(x) as FloatTensor;
  }
}

const constant = (shape: readonly number[], seed = 7): FloatTensor =>
  tensor(numbersFor(shape, seed), { shape });
const whole = (...values: readonly number[]): Tensor<'int64'> => tensor(values, { dtype: 'int64' });
const bool = (shape: readonly number[]): Tensor<'bool'> => tenon.greater(constant(shape), 0.2);

/** What each op is tried as, on inputs of a shape (without the batch). */
const CASES: readonly (readonly [
  ops: string,
  shape: readonly number[],
  compute: (x: FloatTensor) => Tensor,
])[] = [
  ['neg abs exp', [3, 4], (x) => tenon.neg(tenon.exp(tenon.abs(x)))],
  ['log sqrt rsqrt', [6], (x) => tenon.log(tenon.sqrt(x.abs().add(1))).add(tenon.rsqrt(x.abs().add(1)))],
  ['tanh sigmoid relu silu', [6], (x) => x.tanh().add(x.sigmoid()).mul(tenon.relu(x)).sub(tenon.silu(x))],
  [
    'gelu geluTanh erf',
    [6],
    (x) =>
      tenon
        .gelu(x)
        .add(tenon.gelu(x, { approximate: 'tanh' }))
        .mul(tenon.erf(x)),
  ],
  ['sin cos sign clamp', [6], (x) => x.sin().add(x.cos()).mul(x.sign()).clamp(-0.7, 0.8).clamp(-0.6)],
  [
    'add sub mul div pow',
    [2, 3],
    (x) =>
      tenon
        .div(
          1,
          x
            .mul(2)
            .sub(constant([2, 1]))
            .pow(2)
            .add(constant([3]).abs()),
        )
        .add(0.5),
  ],
  ['maximum minimum', [5], (x) => tenon.maximum(tenon.minimum(x, 0.5), constant([5]).mul(0.1))],
  [
    'equal notEqual where',
    [6],
    (x) => tenon.where(tenon.equal(x.sign(), 1), 0.25, x).add(tenon.where(tenon.notEqual(x.sign(), 1), x, 3)),
  ],
  [
    'less lessEqual logicalAnd',
    [6],
    (x) => tenon.where(tenon.logicalAnd(tenon.less(x, 1), tenon.lessEqual(-1, x)), x, 0),
  ],
  [
    'greater greaterEqual logicalOr logicalNot',
    [6],
    (x) =>
      tenon.where(
        tenon.logicalNot(tenon.logicalOr(tenon.greater(x, 1), tenon.greaterEqual(-1, x))),
        x,
        constant([6]),
      ),
  ],
  [
    'to any all',
    [3, 4],
    (x) =>
      tenon
        .any(x.greater(0.9), { dim: 2 })
        .to('float32')
        .add(tenon.all(x.greater(-1), { dim: 2, keepdim: true }).to('int32').to('float32').squeeze(2)),
  ],
  [
    'clone reshape permute transpose',
    [2, 3, 4],
    (x) => x.clone().permute([0, 3, -2, 1]).transpose(1, -1).reshape([x.shape[0], 12, 2]),
  ],
  [
    'expand',
    [1, 4],
    (x) =>
      constant([1, 1, 4])
        .expand([x.shape[0], 3, -1])
        .add(x.expand([-1, 3, 4])),
  ],
  [
    'expand',
    [4],
    (x) =>
      x
        .unsqueeze(1)
        .expand([-1, 2, 4])
        .add(tenon.zeros([x.shape[0], 2, 4])),
  ],
  [
    'slice cat',
    [5, 6],
    (x) =>
      tenon
        .cat([x.slice(null, [1, -1, 2]), x.slice(null, [undefined, 2], null)], 1)
        .slice(null, null, [1, 4]),
  ],
  ['slice flip roll', [5, 6], (x) => tenon.roll(tenon.flip(x, [1, -1]), [2, -1], [1, 2]).select(2, 4)],
  [
    'split',
    [7, 2],
    (x) => {
      const [a, b, c] = tenon.split(x, 3, 1);
      return a.mul(b).add(c);
    },
  ],
  [
    'pad',
    [2, 3],
    (x) =>
      tenon.pad(
        x,
        [
          [0, 1],
          [2, 1],
        ],
        1.5,
      ),
  ],
  [
    'indexSelect gather embedding',
    [5, 3],
    (x) =>
      tenon
        .indexSelect(x, 1, whole(4, 0, 4))
        .add(tenon.gather(x, 1, tenon.zeros([x.shape[0], 3, 3], { dtype: 'int64' }))),
  ],
  [
    'embedding argmax',
    [5],
    (x) => tenon.embedding(tenon.argmax(x, { dim: 1 }).unsqueeze(1), constant([5, 2])),
  ],
  [
    'sum mean max min',
    [3, 4],
    (x) =>
      x
        .sum({ dim: 1 })
        .add(x.mean({ dim: [1], keepdim: true }).squeeze(1))
        .mul(tenon.max(x, { dim: -2 }))
        .sub(tenon.min(x, { dim: 1 })),
  ],
  ['sum to', [3, 4], (x) => x.greater(0).sum({ dim: 2 }).to('float32')],
  [
    'variance',
    [3, 4],
    (x) =>
      tenon
        .variance(x, { dim: [1, 2] })
        .add(tenon.variance(x, { dim: 2, correction: 0, keepdim: true }).squeeze(2).mean({ dim: 1 })),
  ],
  ['argmin', [5], (x) => tenon.argmin(x, { dim: -1, keepdim: true })],
  [
    'softmax logsumexp cumsum',
    [3, 4],
    (x) =>
      tenon
        .softmax(x, { dim: 1 })
        .add(tenon.logSoftmax(x))
        .mul(tenon.logsumexp(x, { dim: 2, keepdim: true }))
        .cumsum(2),
  ],
  [
    'topk',
    [9],
    (x) => {
      const { values, indices } = tenon.topk(x, 3);
      return values.add(indices.to('float32'));
    },
  ],
  ['matmul', [3, 4], (x) => tenon.matmul(tenon.matmul(x, x.transpose(1, 2)), constant([3, 2]))],
  ['matmul', [3, 4], (x) => tenon.einsum('bij,jk->bki', x, constant([4, 5]))],
  [
    'linear',
    [3, 4],
    (x) =>
      tenon.linear(
        tenon.linear(x, constant([6, 4]), constant([6]), { activation: 'silu' }),
        constant([4, 6]),
        undefined,
        { residual: x },
      ),
  ],
  [
    'linear',
    [3, 4],
    (x) =>
      tenon.linear(
        x,
        x
          .sum({ dim: [0, 1] })
          .unsqueeze(0)
          .mul(0)
          .add(constant([2, 4])),
      ),
  ],
  [
    'mlp',
    [3, 4],
    (x) =>
      tenon.mlp(x, constant([8, 4]), constant([8]), constant([4, 8]), undefined, {
        residual: x,
        activation: 'geluTanh',
      }),
  ],
  [
    'layerNorm',
    [3, 8],
    (x) => tenon.layerNorm(tenon.layerNorm(x, undefined, constant([8]), { eps: 0.01 }), constant([8])),
  ],
  [
    'layerNormResidual',
    [3, 8],
    (x) => {
      const [y, s] = tenon.layerNormResidual(x, x.mul(2), constant([8]), constant([8]));
      return y.add(s);
    },
  ],
  [
    'attention',
    [2, 5, 4],
    (x) =>
      tenon.attention(x, x.mul(0.5), x.add(1), { scale: 0.7, bias: constant([2, 5, 5]), mask: bool([5, 5]) }),
  ],
  [
    'attention',
    [2, 5, 4],
    (x) => tenon.attention(x, x, x, { mask: tenon.greater(tenon.arange(5).unsqueeze(1), 0) }),
  ], // the first query sees nothing
  [
    'attentionPacked',
    [6, 24],
    (x) => tenon.attentionPacked(x, { numHeads: 2, queries: 3, bias: constant([2, 3, 6]) }),
  ],
  [
    'windowAttention',
    [7, 6, 24],
    (x) =>
      tenon.windowAttention(x, constant([15, 2]), { window: [2, 3], shift: [1, 2], padding: constant([24]) }),
  ],
  [
    'windowAttention',
    [7, 6, 24],
    (x) => tenon.windowAttention(x, constant([25, 4]), { window: 3, shift: [0, 1], scale: 0.3 }),
  ],
  [
    'conv2d',
    [4, 9, 8],
    (x) =>
      tenon.conv2d(x, constant([6, 2, 3, 2]), constant([6]), {
        stride: [2, 1],
        padding: [1, 0],
        dilation: [1, 2],
        groups: 2,
      }),
  ],
  [
    'conv2d',
    [4, 6, 6],
    (x) =>
      tenon.conv2d(x, constant([4, 1, 3, 3]), undefined, {
        padding: 1,
        groups: 4,
        residual: x,
        activation: 'relu',
      }),
  ],
  [
    'batchNorm',
    [4, 3, 3],
    (x) =>
      tenon.batchNorm(x, constant([4]), undefined, {
        runningMean: constant([4]),
        runningVar: constant([4]).abs().add(1),
        training: false,
        residual: x,
        activation: 'relu',
      }),
  ],
  [
    'batchNorm',
    [4],
    (x) =>
      tenon.batchNorm(x, undefined, constant([4]), {
        runningMean: constant([4]),
        runningVar: constant([4]).abs().add(1),
      }),
  ],
  [
    'maxPool2d',
    [3, 9, 8],
    (x) =>
      tenon.maxPool2d(tenon.maxPool2d(x, 3, { stride: 2, padding: 1, dilation: 1 }), 2, { ceilMode: true }),
  ],
  [
    'avgPool2d',
    [3, 9, 8],
    (x) =>
      tenon.avgPool2d(tenon.avgPool2d(x, 3, { stride: 2, padding: 1 }), 2, {
        stride: 1,
        padding: 1,
        countIncludePad: false,
      }),
  ],
  [
    'adaptiveAvgPool2d',
    [3, 6, 8],
    (x) => tenon.adaptiveAvgPool2d(x, [3, 2]).add(tenon.adaptiveAvgPool2d(x, 1)),
  ],
  [
    'interpolate',
    [2, 5, 4],
    (x) => tenon.interpolate(tenon.interpolate(x, [8, 9]), [7, 12], { mode: 'nearest' }),
  ],
  ['interpolate', [2, 5, 4], (x) => tenon.interpolate(x, [8, 9], { mode: 'bicubic' })],
  ['interpolate', [2, 16, 12], (x) => tenon.interpolate(x, [7, 5], { mode: 'bilinear', antialias: true })],
  ['interpolate', [2, 16, 12], (x) => tenon.interpolate(x, [7, 5], { mode: 'bicubic', antialias: true })],
];

for (const [i, [ops, shape, compute]] of CASES.entries()) {
  test(`${ops} (${i}) gives the same numbers`, async (t) => {
    const model = new Computed(compute);
    const path = join(await temporaryFolder(t), 'model.onnx');
    await expectSame(t, model, await exportOnnx(path, model, { shape }), shape);
  });
}

test('every translation has been tried', (t) => {
  const seen = new Set<string>();
  for (const [, shape, compute] of CASES) {
    inferenceMode(() =>
      traceOps(
        (name, _args, run) => {
          seen.add(name);
          return run();
        },
        () => void compute(constant([2, ...shape])),
      ),
    );
  }
  t.deepEqual(
    TRANSLATED.filter((name) => !seen.has(name)),
    [],
  );
});

/** The first element, which no op sees. */
const peeked = (x: FloatTensor): FloatTensor => x.add((x.dataSync() as Float32Array)[0]);

const REFUSED: readonly (readonly [
  what: string,
  compute: (x: FloatTensor) => Tensor,
  message: RegExp | string,
])[] = [
  [
    'an op without translation',
    (x) => tenon.scatterAdd(x, 1, tenon.zeros([x.shape[0], 4], { dtype: 'int64' }), x),
    /^exportOnnx: expected ops that have a translation \(abs, .*, windowAttention\), got 'scatterAdd'$/,
  ],
  ['an op of training', (x) => tenon.dropout(x, 0.5), /got 'dropout'$/],
  [
    'a batch’s own statistics',
    (x) => tenon.batchNorm(x, undefined, undefined),
    "exportOnnx: expected 'batchNorm' with running statistics, as in evaluation, got one that takes those of the batch",
  ],
  [
    'numbers that were read of the input',
    peeked,
    /^exportOnnx: expected a model that runs the same ops for every batch, got -?[\d.]+ and -?[\d.]+ in 'add'$/,
  ],
  [
    'a tensor that was read of the input',
    (x) => x.mul(tensor((x.dataSync() as Float32Array).slice(0, 4))),
    "exportOnnx: expected tensors that come of the input by ops, or are the same for every input, got constant (Tensor float32 [4] cpu) in 'mul', whose values changed with the input",
  ],
  [
    'random numbers',
    (x) => x.add(tenon.normal([4])),
    /got constant \(Tensor float32 \[4\] cpu\) in 'add', whose values changed/,
  ],
  [
    'other ops for another batch',
    (x) => (x.shape[0] > 2 ? x.exp() : x.sin()),
    'exportOnnx: expected a model that runs the same ops for every batch, got sin and exp as op number 1',
  ],
  [
    'more ops for a larger batch',
    (x) => tenon.cat(tenon.split(x, 1, 0), 1),
    /expected a model that runs the same ops for every batch, got 2 and 3 items in 'split'$/,
  ],
  ['sizes that are no multiple', (x) => x.slice([1]), /got 1 and 2 in 'slice'$/],
  [
    'a number that grows with the batch',
    (x) => x.sum({ dim: 0 }).div(x.shape[0]),
    "exportOnnx: expected numbers for 'div' that no batch changes, got one that grows with it",
  ],
  [
    'a pool to a size that does not divide the image',
    (x) =>
      tenon.adaptiveAvgPool2d(
        tenon.pad(x.reshape([-1, 1, 2, 2]), [
          [4, 4],
          [0, 0],
        ]),
        3,
      ),
    "exportOnnx: expected 'adaptiveAvgPool2d' to a size that divides the image, got [3, 3] of [10, 2]",
  ],
  [
    'the log-sum-exp of attention',
    (x) =>
      tenon.attentionWithLse(x.reshape([-1, 1, 2, 2]), x.reshape([-1, 1, 2, 2]), x.reshape([-1, 1, 2, 2]))
        .lse,
    /expected a model that reads only the first result of 'attention', got one that reads result 2/,
  ],
  [
    'several results',
    (x) => [x] as unknown as Tensor,
    'exportOnnx: expected a model that gives one tensor, got an array',
  ],
];

for (const [what, compute, message] of REFUSED) {
  test(`${what}: an error, and no file`, async (t) => {
    const folder = await temporaryFolder(t);
    const path = join(folder, 'model.onnx');
    await t.throwsAsync(exportOnnx(path, new Computed(compute), { shape: [4] }), {
      message,
      code: 'VALUE',
    } as object);
    t.deepEqual(await readdir(folder), []);
  });
}

test('a model that changes its tensors is refused', async (t) => {
  const count = tenon.buffer(tenon.zeros([1]));
  const model = new Computed((x) => {
    tenon.copyInto(count, count.add(1));
    return x.mul(2);
  });
  const path = join(await temporaryFolder(t), 'model.onnx');
  await t.throwsAsync(exportOnnx(path, model, { shape: [4] }), {
    message: 'exportOnnx: expected a model that changes no tensor in place, got one that does',
  });
});

test('arguments that make no sense are refused', async (t) => {
  const folder = await temporaryFolder(t);
  const path = join(folder, 'model.onnx');
  using model = new Linear(4, 2);
  const refuse = (message: string, ...args: readonly unknown[]): Promise<unknown> =>
    t.throwsAsync(exportOnnx(...(args as Parameters<typeof exportOnnx>)), {
      message: `exportOnnx: ${message}`,
    });
  await refuse('expected the path of a file, got undefined', undefined, model);
  await refuse('expected a model, got an object', path, {});
  await refuse('expected a shape for a model that does not say what its images are, got none', path, model);
  await refuse('expected each size to be a whole number of at least 1, got 0', path, model, {
    shape: [0, 4],
  });
  await refuse('expected an array, got 4 for shape', path, model, { shape: 4 });
  await refuse("expected options { info, shape, output }, got one named 'opset'", path, model, { opset: 17 });
  await refuse("expected a name for the result other than 'images', got ''", path, model, {
    shape: [4],
    output: '',
  });
  using vit = tinyModel();
  const info = { ...TINY_INFO, classes: ['cat', 'dog'] };
  await refuse('expected outputs [batch, 2], one for each class, got [batch, 3]', path, vit, { info });
  // Errors of the model are its own.
  await t.throwsAsync(exportOnnx(path, model, { shape: [5] }), { message: /^linear: / });
  t.deepEqual(await readdir(folder), []);
});

test('a path that cannot be written is an error of the file system', async (t) => {
  const folder = await temporaryFolder(t);
  using model = new Linear(4, 2);
  const options: ExportOnnxOptions = { shape: [4] };
  const missing = join(folder, 'none/model.onnx');
  await t.throwsAsync(exportOnnx(missing, model, options), {
    message: `writeFileAtomic: expected to write ${missing}, got no such folder`,
  });
  await mkdir(join(folder, 'taken.onnx'));
  await writeFile(join(folder, 'taken.onnx/file'), '');
  await t.throwsAsync(exportOnnx(join(folder, 'taken.onnx'), model, options), { code: 'IO' } as object);
  t.deepEqual(await readdir(folder), ['taken.onnx']);
});

test('weights that are used twice, and by two names, are there once', async (t) => {
  const shared = new Linear(4, 4);
  const model: TensorModule = new Sequential([shared, new BatchNorm2d(4), shared]).eval();
  const path = join(await temporaryFolder(t), 'model.onnx');
  const exported = await exportOnnx(path, model, { shape: [4] });
  await expectSame(t, model, exported, [4]);
  t.true(exported.bytes < 4 * (model.parameterCount + 8) + 1500, `${exported.bytes}`);
  model.dispose();
});
