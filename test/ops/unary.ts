/**
 * Functions of one operand against JavaScript's Math.
 */
import test from 'ava';

import { full, tensor, zeros } from '../../src/index.js';
import * as ops from '../../src/ops/unary.js';
import { NUMERIC, type OpCase, forbidden, opCases } from '../helpers/op-case.js';
import { erf, gelu, geluTanh, sigmoid, silu } from '../helpers/functions.js';
import { type Nd, random, truths, values } from '../helpers/nd.js';
import { close } from '../helpers/numbers.js';

const { NaN: nan, POSITIVE_INFINITY: inf } = Number;

const SHAPES: readonly (readonly number[])[] = [
  [],
  [1],
  [7],
  [33],
  [5, 13],
  [0],
  [2, 0, 3],
  [3, 1, 4],
  [130, 257],
];

const int32 = zeros([2], { dtype: 'int32' });
const bool = zeros([2], { dtype: 'bool' });

interface Options {
  readonly low?: number;
  readonly high?: number;
  /** Numbers where something special happens, besides NaN and the infinities. */
  readonly edges?: readonly number[];
}

function samples(options: Options): OpCase['samples'] {
  const { low = -3, high = 3, edges = [] } = options;
  return [
    ...SHAPES.map((shape) => [random(shape, low, high)]),
    { args: [values([nan, inf, -inf, 0, ...edges])], gradient: false },
  ];
}

/** A function that only floating-point numbers have. */
const float = (name: keyof typeof ops, f: (x: number) => number, options: Options = {}): OpCase => ({
  reference: (x: Nd) => x.map(f),
  samples: samples(options),
  errors: [
    [forbidden(ops[name], int32), 'DTYPE', `${name}: expected a floating-point x, got int32`],
    [forbidden(ops[name], bool), 'DTYPE', `${name}: expected a floating-point x, got bool`],
  ],
});

/** A function of any numbers. */
const numeric = (name: keyof typeof ops, f: (x: number) => number): OpCase => ({
  reference: (x: Nd) => x.map(f),
  samples: SHAPES.map((shape) => [random(shape)]),
  dtypes: NUMERIC,
  errors: [[forbidden(ops[name], bool), 'DTYPE', `${name}: expected a numeric tensor, got bool`]],
});

opCases(ops, {
  neg: numeric('neg', (x) => -x),
  abs: numeric('abs', Math.abs),
  sign: numeric('sign', Math.sign),
  relu: numeric('relu', (x) => Math.max(x, 0)),
  exp: float('exp', Math.exp, { edges: [-200, 80] }),
  log: float('log', Math.log, { low: 0.1, high: 5, edges: [-1, 1] }),
  sqrt: float('sqrt', Math.sqrt, { low: 0.1, high: 5, edges: [-1] }),
  rsqrt: float('rsqrt', (x) => 1 / Math.sqrt(x), { low: 0.1, high: 5, edges: [-1] }),
  tanh: float('tanh', Math.tanh, { edges: [-40, 40] }),
  sigmoid: float('sigmoid', sigmoid, { edges: [-40, 40] }),
  silu: float('silu', silu, { edges: [-40, 40] }),
  sin: float('sin', Math.sin),
  cos: float('cos', Math.cos),
  erf: float('erf', erf, { edges: [-8, 8] }),
  gelu: {
    reference: (x: Nd, options: ops.GeluOptions = {}) =>
      x.map(options.approximate === 'tanh' ? geluTanh : gelu),
    samples: samples({ edges: [-40, 40, -6] }).flatMap((sample) => [
      sample,
      'args' in sample
        ? { ...sample, args: [...sample.args, { approximate: 'tanh' }] }
        : [...sample, { approximate: 'tanh' }],
    ]),
    errors: [
      [forbidden(ops.gelu, int32), 'DTYPE', 'gelu: expected a floating-point x, got int32'],
      [
        forbidden(ops.gelu, zeros([1]), { approximate: 'erf' }),
        'VALUE',
        "gelu: expected approximate to be 'none' or 'tanh', got 'erf'",
      ],
    ],
  },
  clamp: {
    reference: (x: Nd, min: number, max = Infinity) => x.map((v) => Math.min(Math.max(v, min), max)),
    samples: [
      ...SHAPES.map((shape) => [random(shape), 1, 10]),
      [random([5, 7]), 0],
      [random([5, 7]), 0, 1],
      [random([5, 7]), -Infinity, 1],
      [values([-1.5, -0.5, 0.5, 1.5]), 1, 1],
      { args: [values([1, 2, 1.5, nan, inf, -inf], [6], 'float32'), 1, 2], gradient: false },
    ],
    dtypes: NUMERIC,
    errors: [
      [() => ops.clamp(zeros([2]), 1, 0), 'VALUE', 'clamp: expected min <= max, got 1 and 0'],
      [() => ops.clamp(zeros([2]), NaN), 'VALUE', 'clamp: expected min <= max, got nan and inf'],
      [() => ops.clamp(int32, 0.5), 'VALUE', 'clamp: expected a number that int32 holds, got 0.5'],
      [forbidden(ops.clamp, bool, 0, 1), 'DTYPE', 'clamp: expected a numeric tensor, got bool'],
    ],
  },
  logicalNot: {
    reference: (x: Nd) => x.map((v) => 1 - v),
    samples: SHAPES.map((shape) => [truths(shape)]),
    dtypes: ['bool'],
    gradient: false,
    errors: [[forbidden(ops.logicalNot, int32), 'DTYPE', 'logicalNot: expected a bool tensor, got int32']],
  },
});

test('the gradient of clamp passes at a bound that the dtype rounds', async (t) => {
  const x = full([2], 0.1, { dtype: 'bfloat16' }).setRequiresGrad();
  ops.clamp(x, 0.1, 0.1).sum().backward();
  await close(t, x.grad?.to('float32'), [1, 1]);
});

test('the gradient of relu passes where x is NaN, as in PyTorch', async (t) => {
  const x = tensor([NaN, -1, 0, 2]).setRequiresGrad();
  ops.relu(x).sum().backward();
  await close(t, x.grad, [1, 0, 0, 1]);
});

test('an infinite gradient stays one through tanh, and is none through sign', async (t) => {
  const x = tensor([0.5, -30, 0]).setRequiresGrad();
  ops.tanh(x).backward({ gradient: tensor([Infinity, 1, -Infinity]) });
  t.deepEqual([...((await x.grad?.data()) ?? [])], [Infinity, 0, -Infinity]);
  x.grad = undefined;
  ops.sign(x).backward({ gradient: tensor([Infinity, NaN, 1]) });
  await close(t, x.grad, [0, 0, 0]);
});

test('the gradient of abs is 0 where x is NaN, as in PyTorch', async (t) => {
  const x = tensor([NaN, -Infinity, 0, 2]).setRequiresGrad();
  ops.abs(x).sum().backward();
  await close(t, x.grad, [0, -1, 0, 1]);
});
