/**
 * Comparisons and logic against JavaScript's operators.
 */
import test from 'ava';

import { full, zeros } from '../../src/index.js';
import * as ops from '../../src/ops/comparison.js';
import { ALL, NUMERIC, type OpCase, forbidden, opCases } from '../helpers/op-case.js';
import { type Nd, combine, random, truths, values } from '../helpers/nd.js';

const SHAPES: readonly (readonly [a: readonly number[], b: readonly number[]])[] = [
  [[], []],
  [[1], [7]],
  [[65], [65]],
  [
    [2, 1, 5],
    [4, 1],
  ],
  [[2, 0, 3], [3]],
  [[130, 257], [257]],
];

const bool = zeros([2], { dtype: 'bool' });
const int32 = zeros([2], { dtype: 'int32' });
const { NaN: nan, POSITIVE_INFINITY: inf } = Number;

/** Few distinct numbers, so that many pairs are equal. */
const coarse = (shape: readonly number[]): Nd => random(shape).map((v) => Math.round(v) / 2);

function commonErrors(name: keyof typeof ops): NonNullable<OpCase['errors']> {
  const op = ops[name];
  return [
    [
      forbidden(op, zeros([3], { dtype: 'bool' }), bool),
      'SHAPE',
      `${name}: shapes do not broadcast: [3] and [2]`,
    ],
    [
      forbidden(op, bool, int32),
      'DTYPE',
      `${name}: dtypes differ: a is bool, b is int32; convert one with to()`,
    ],
    [forbidden(op, 1, 2), 'VALUE', `${name}: expected at least one tensor, got two numbers`],
    [forbidden(op, bool, undefined), 'VALUE', `${name}: expected a tensor or a number, got undefined`],
  ];
}

const comparison = (
  name: 'equal' | 'notEqual' | 'less' | 'lessEqual' | 'greater' | 'greaterEqual',
  f: (a: number, b: number) => boolean,
): OpCase => ({
  reference: (a: Nd | number, b: Nd | number) => combine((x, y) => (f(x, y) ? 1 : 0), a, b).as('bool'),
  samples: [
    ...SHAPES.map((shapes) => shapes.map(coarse)),
    [coarse([33]), 1],
    [0, coarse([33])],
    [values([nan, inf, -inf, 0, -0], [5, 1], 'float32'), values([nan, inf, -inf, 0], [4], 'float32')],
  ],
  dtypes: name === 'equal' || name === 'notEqual' ? ALL : NUMERIC,
  gradient: false,
  errors: [
    ...commonErrors(name),
    [forbidden(ops[name], int32, 0.5), 'VALUE', `${name}: expected a number that int32 holds, got 0.5`],
  ],
});

const logical = (name: 'logicalAnd' | 'logicalOr', f: (a: number, b: number) => number): OpCase => ({
  reference: (a: Nd, b: Nd) => combine(f, a, b),
  samples: SHAPES.map((shapes) => shapes.map((shape) => truths(shape))),
  dtypes: ['bool'],
  gradient: false,
  errors: [
    ...commonErrors(name),
    [forbidden(ops[name], int32, int32), 'DTYPE', `${name}: expected bool tensors, got int32`],
  ],
});

opCases(ops, {
  equal: comparison('equal', (a, b) => a === b),
  notEqual: comparison('notEqual', (a, b) => a !== b),
  less: comparison('less', (a, b) => a < b),
  lessEqual: comparison('lessEqual', (a, b) => a <= b),
  greater: comparison('greater', (a, b) => a > b),
  greaterEqual: comparison('greaterEqual', (a, b) => a >= b),
  logicalAnd: logical('logicalAnd', (a, b) => a & b),
  logicalOr: logical('logicalOr', (a, b) => a | b),
});

test('a number is compared as the dtype holds it', async (t) => {
  for (const dtype of ['bfloat16', 'float16', 'float32', 'float64'] as const) {
    const x = full([1], 0.1, { dtype });
    const truths = [ops.equal(x, 0.1), ops.greaterEqual(x, 0.1), ops.lessEqual(0.1, x)];
    t.deepEqual(await Promise.all(truths.map((truth) => truth.item())), [true, true, true], dtype);
    t.false(await ops.notEqual(0.1, x).item());
  }
});
