/**
 * A transformer block's two layers as one op, against the formula and against the ops that it stands for.
 */
import test from 'ava';

import {
  type FloatDType,
  type FloatTensor,
  grad,
  inferenceMode,
  memoryStats,
  resetPeakMemory,
  scope,
  setRequiresGrad,
  uniform,
  zeros,
} from '../../src/index.js';
import { type Activation, linear } from '../../src/ops/linear.js';
import * as ops from '../../src/ops/mlp.js';
import { gelu, geluTanh, silu } from '../helpers/functions.js';
import { relativeError } from '../helpers/golden.js';
import { type Nd, combine, permuted, product, random, reshaped } from '../helpers/nd.js';
import { forbidden, opCases } from '../helpers/op-case.js';

interface Options {
  readonly activation?: Exclude<Activation, 'none'>;
  readonly residual?: Nd;
}

const ACTIVATIONS = { relu: (x: number): number => Math.max(x, 0), gelu, geluTanh, silu };
const activations = Object.keys(ACTIVATIONS) as (keyof typeof ACTIVATIONS)[];

function layer(x: Nd, weight: Nd, bias?: Nd): Nd {
  const y = product(x, permuted(weight, [1, 0]));
  return bias === undefined ? y : combine((a, b) => a + b, y, bias);
}

const w = (...shape: number[]): Nd => random(shape, -1, 1);

opCases(ops, {
  mlp: {
    reference: (
      x: Nd,
      w1: Nd,
      b1: Nd | undefined,
      w2: Nd,
      b2: Nd | undefined,
      { activation = 'gelu', residual }: Options = {},
    ) => {
      const rows = x.shape.length === 1 ? reshaped(x, [1, x.size]) : x;
      const y = layer(layer(rows, w1, b1).map(ACTIVATIONS[activation]), w2, b2);
      const shaped = reshaped(y, [...x.shape.slice(0, -1), w2.shape[0]]);
      return residual === undefined ? shaped : combine((a, b) => a + b, shaped, residual);
    },
    roundings: 4, // what lies between the layers is rounded too
    samples: [
      [w(3, 5), w(7, 5), w(7), w(2, 7), w(2)],
      [w(5), w(7, 5), undefined, w(5, 7), undefined, { residual: w(5) }],
      ...activations.map((activation) => [
        w(2, 3, 5),
        w(9, 5),
        w(9),
        w(6, 9),
        w(6),
        { activation, residual: w(2, 3, 6) },
      ]),
      // rows of whole packs, as a library wants them that does all at once
      ...activations.map((activation) => [w(8, 16), w(32, 16), w(32), w(16, 32), w(16), { activation }]),
      [w(0, 5), w(7, 5), w(7), w(2, 7), w(2)],
      [w(3, 0), w(7, 0), w(7), w(2, 7), w(2)],
      [w(65, 32), w(96, 32), w(96), w(32, 96), w(32), { residual: w(65, 32) }],
    ],
    errors: [
      [
        () => ops.mlp(zeros([2, 3]), zeros([4, 5]), undefined, zeros([3, 4]), undefined),
        'SHAPE',
        'mlp: expected x [..., 5] for a weight1 [4, 5], got [2, 3]',
      ],
      [
        () => ops.mlp(zeros([2, 3]), zeros([4, 3]), undefined, zeros([3, 5]), undefined),
        'SHAPE',
        'mlp: expected a weight2 [out, 4] for a weight1 [4, 3], got [3, 5]',
      ],
      [
        () => ops.mlp(zeros([2, 3]), zeros([4, 3]), zeros([3]), zeros([3, 4]), undefined),
        'SHAPE',
        'mlp: expected bias1 [4], got [3]',
      ],
      [
        () => ops.mlp(zeros([2, 3]), zeros([4, 3]), undefined, zeros([3, 4]), zeros([4])),
        'SHAPE',
        'mlp: expected bias2 [3], got [4]',
      ],
      [
        () =>
          ops.mlp(zeros([2, 3]), zeros([4, 3]), undefined, zeros([5, 4]), undefined, {
            residual: zeros([2, 3]),
          }),
        'SHAPE',
        'mlp: expected residual [2, 5], got [2, 3]',
      ],
      [
        forbidden(ops.mlp, zeros([2, 3]), zeros([4, 3]), undefined, zeros([3, 4], { dtype: 'float64' })),
        'DTYPE',
        'mlp: dtypes differ: x is float32, weight2 is float64; convert one with to()',
      ],
      [
        forbidden(ops.mlp, zeros([2, 3]), zeros([4, 3]), undefined, zeros([3, 4]), undefined, {
          activation: 'none',
        }),
        'VALUE',
        "mlp: expected an activation of gelu, geluTanh, relu or silu, got 'none'",
      ],
    ],
  },
});

const operands = (rows: number): [FloatTensor, FloatTensor, FloatTensor, FloatTensor, FloatTensor] => {
  const parameter = (...shape: number[]): FloatTensor =>
    setRequiresGrad(uniform(shape, { low: -1, high: 1 }));
  return [parameter(rows, 16), parameter(64, 16), parameter(64), parameter(16, 64), parameter(16)];
};

test('mlp and its gradients are those of two linear layers', async (t) => {
  const [x, w1, b1, w2, b2] = operands(300);
  const dy = uniform([300, 16], { low: -1, high: 1 });
  for (const activation of activations) {
    const both = [
      ops.mlp(x, w1, b1, w2, b2, { activation, residual: x }),
      linear(linear(x, w1, b1, { activation }), w2, b2, { residual: x }),
    ].map((y) => [y, ...grad([y], [x, w1, b1, w2, b2], { gradients: [dy] })] as FloatTensor[]);
    for (const [i, actual] of both[0].entries()) {
      const error = relativeError(await actual.data(), await both[1][i].data());
      t.true(error < 1e-6, `${activation}, ${i}: ${error}`);
    }
  }
});

test('only what the wanted gradients need is computed', async (t) => {
  const [x, w1, b1, w2, b2] = operands(4096);
  const all = [x, w1, b1, w2, b2];
  const complete = grad([ops.mlp(x, w1, b1, w2, b2).sum()], all);
  const hidden = 4096 * 64 * 4;
  // How many tensors as wide as the hidden layer: the activation's result for weight2, its input's gradient for what is before.
  const widths: [FloatTensor[], number][] = [
    [[b2], 0],
    [[w2], 1],
    [[w2, b2], 1],
    [[x], 1],
    [[b1], 1],
    [[w1, b1], 1],
    [[x, b2], 1],
    [[w1, w2], 2],
    [all, 2],
  ];
  for (const [wanted, width] of widths) {
    for (const operand of all) setRequiresGrad(operand, wanted.includes(operand));
    const y = ops.mlp(x, w1, b1, w2, b2).sum();
    resetPeakMemory();
    const before = memoryStats().current;
    const gradients = grad([y], wanted);
    const most = (memoryStats().peak - before) / hidden;
    t.true(most >= width && most < width + 0.9, `${most} hidden layers, expected ${width}`);
    for (const [i, gradient] of (gradients as FloatTensor[]).entries()) {
      const expected = (complete as FloatTensor[])[all.indexOf(wanted[i])];
      t.true(relativeError(await gradient.data(), await expected.data()) < 1e-6);
    }
  }
});

test('16-bit operands take float32 biases, and a float32 residual, which makes the result float32', async (t) => {
  const [x, w1, b1, w2, b2] = operands(5);
  const wide = [x, w1, w2].map((operand) => operand.to('bfloat16'));
  const [x16, w116, w216] = wide as FloatTensor[];
  const y = inferenceMode(() => ops.mlp<FloatDType>(x16, w116, b1, w216, b2, { residual: x }));
  t.is(y.dtype, 'float32');
  const exact = inferenceMode(() =>
    ops.mlp(x16.to('float32'), w116.to('float32'), b1, w216.to('float32'), b2, { residual: x }),
  );
  t.true(relativeError(await y.data(), await exact.data()) < 1e-2);
});

test('backward remembers one tensor as wide as the hidden layer', (t) => {
  const [x, w1, b1, w2, b2] = operands(4096);
  const hidden = 4096 * 64 * 4;
  scope(() => {
    const before = memoryStats().current;
    const y = ops.mlp(x, w1, b1, w2, b2);
    const kept = memoryStats().current - before - y.size * 4;
    t.true(kept >= hidden && kept < 1.5 * hidden, `${kept / hidden} hidden layers`);
  });
});
