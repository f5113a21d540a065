/**
 * Arithmetic of two operands against plain loops.
 */
import test from 'ava';

import { full, tensor, zeros } from '../../src/index.js';
import * as ops from '../../src/ops/arithmetic.js';
import { FLOATS, NUMERIC, type OpCase, forbidden, opCases } from '../helpers/op-case.js';
import { type Nd, combine, random, values } from '../helpers/nd.js';
import { close } from '../helpers/numbers.js';

const { NaN: nan, POSITIVE_INFINITY: inf } = Number;

/** Shapes that broadcast, tails of vectors, scalars, nothing, and enough for every thread. */
const SHAPES: readonly (readonly [a: readonly number[], b: readonly number[]])[] = [
  [[], []],
  [[1], [7]],
  [[33], [33]],
  [[65], []],
  [
    [2, 3, 4],
    [3, 1],
  ],
  [
    [2, 1, 5],
    [4, 1],
  ],
  [
    [1, 3],
    [2, 1],
  ],
  [[0], [1]],
  [[2, 0, 3], [3]],
  [[130, 257], [257]],
];

const pairs = (low: number, high: number): Nd[][] =>
  SHAPES.map((shapes) => shapes.map((shape) => random(shape, low, high)));

const specials = (): Nd[] => {
  const data = [nan, inf, -inf, -0, 0, 1, -2];
  return [values(data, [7, 1]), values(data)];
};

type Name = 'add' | 'sub' | 'mul' | 'div' | 'pow' | 'maximum' | 'minimum';

function errorsOf(name: Name, floatingOnly: boolean): OpCase['errors'] {
  const op = ops[name];
  const int = zeros([2], { dtype: 'int32' });
  const bool = zeros([2], { dtype: 'bool' });
  const float = zeros([2]);
  const kind: readonly (readonly [() => unknown, 'DTYPE' | 'VALUE', string])[] = floatingOnly
    ? [
        [forbidden(op, int, int), 'DTYPE', `${name}: expected a floating-point tensor, got int32`],
        [forbidden(op, bool, bool), 'DTYPE', `${name}: expected a floating-point tensor, got bool`],
      ]
    : [
        [forbidden(op, bool, bool), 'DTYPE', `${name}: expected numeric tensors, got bool`],
        [forbidden(op, int, 0.5), 'VALUE', `${name}: expected a number that int32 holds, got 0.5`],
        [forbidden(op, 2 ** 31, int), 'VALUE', `${name}: expected a number that int32 holds, got 2147483648`],
      ];
  return [
    ...kind,
    [forbidden(op, zeros([2, 3]), zeros([2])), 'SHAPE', `${name}: shapes do not broadcast: [2, 3] and [2]`],
    [
      forbidden(op, float, zeros([2], { dtype: 'float64' })),
      'DTYPE',
      `${name}: dtypes differ: a is float32, b is float64; convert one with to()`,
    ],
    [forbidden(op, 1, 2), 'VALUE', `${name}: expected at least one tensor, got two numbers`],
    [forbidden(op, undefined, 1), 'VALUE', `${name}: expected a tensor or a number, got undefined`],
    [forbidden(op, float, [1, 2]), 'VALUE', `${name}: expected a tensor or a number, got an array`],
    [forbidden(op, '1', float), 'VALUE', `${name}: expected a tensor or a number, got '1'`],
  ];
}

function arithmetic(
  name: Name,
  f: (a: number, b: number) => number,
  options: { low?: number; high?: number; floatingOnly?: boolean; numbers?: readonly number[] } = {},
): OpCase {
  const { low = -2, high = 2, floatingOnly = false, numbers = [3] } = options;
  return {
    reference: (a: Nd | number, b: Nd | number) => combine(f, a, b),
    samples: [
      ...pairs(low, high),
      ...numbers.flatMap((n) => [
        [random([5, 7], low, high), n],
        [Math.abs(n), random([5, 7], low, high)],
      ]),
      ...(floatingOnly ? [{ args: specials(), gradient: false }] : []),
    ],
    errors: errorsOf(name, floatingOnly) ?? [],
    dtypes: floatingOnly ? FLOATS : NUMERIC,
  };
}

opCases(ops, {
  add: arithmetic('add', (a, b) => a + b),
  sub: arithmetic('sub', (a, b) => a - b),
  mul: arithmetic('mul', (a, b) => a * b),
  div: arithmetic('div', (a, b) => a / b, { low: 0.5, floatingOnly: true, numbers: [3, -0.25] }),
  pow: arithmetic('pow', power, { low: 0.25, floatingOnly: true, numbers: [2, 3, 0.5, -1, 0, 1.7] }),
  maximum: arithmetic('maximum', Math.max, { numbers: [1] }),
  minimum: arithmetic('minimum', Math.min, { numbers: [1] }),
});

/** As C's pow, which says 1 where JavaScript says NaN. */
function power(a: number, b: number): number {
  return a === 1 || (a === -1 && !Number.isFinite(b) && !Number.isNaN(b)) ? 1 : a ** b;
}

test('the gradient of maximum and minimum: ties in halves, whole to both where one is NaN', async (t) => {
  for (const [op, expected] of [
    [ops.maximum, [0, 0.5, 1, 1, 1]],
    [ops.minimum, [1, 0.5, 0, 1, 1]],
  ] as const) {
    const a = tensor([1, 2, 3, NaN, 1]).setRequiresGrad();
    const b = tensor([2, 2, 2, 1, NaN]).setRequiresGrad();
    op(a, b).sum().backward();
    await close(t, a.grad, expected);
    await close(t, b.grad, [...expected.slice(0, 3).map((share) => 1 - share), 1, 1]);
  }
  const x = full([1], 0.1, { dtype: 'bfloat16' }).setRequiresGrad();
  ops.maximum(x, 0.1).sum().backward(); // a tie, as bfloat16 holds the number
  await close(t, x.grad?.to('float32'), [0.5]);
});

test('pow to 0 has no slope, also where the gradient that comes is infinite', async (t) => {
  const a = tensor([2, 0, 2]).setRequiresGrad();
  const gradient = tensor([Infinity, Infinity, 1]);
  ops.pow(a, tensor([0, 0, 3])).backward({ gradient });
  await close(t, a.grad, [0, 0, 12]);
  a.grad = undefined;
  ops.pow(a, 0).backward({ gradient });
  await close(t, a.grad, [0, 0, 0]);
  const b = tensor([1, 2]).setRequiresGrad();
  ops.pow(tensor([0, 1]), b).backward({ gradient: tensor([Infinity, 5]) });
  await close(t, b.grad, [0, 0]);
});
