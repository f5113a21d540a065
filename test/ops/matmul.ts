/**
 * Matrix products against three loops.
 */
import test from 'ava';

import { normal, zeros } from '../../src/index.js';
import * as ops from '../../src/ops/matmul.js';
import { forbidden, opCases } from '../helpers/op-case.js';
import { type Nd, product, random, reshaped } from '../helpers/nd.js';

opCases(ops, {
  matmul: {
    // A vector is a row on the left and a column on the right.
    reference: (a: Nd, b: Nd) => {
      const a2 = a.shape.length === 1 ? reshaped(a, [1, a.size]) : a;
      const b2 = b.shape.length === 1 ? reshaped(b, [b.size, 1]) : b;
      const y = product(a2, b2);
      let shape = y.shape;
      if (a.shape.length === 1) shape = shape.toSpliced(-2, 1);
      if (b.shape.length === 1) shape = shape.toSpliced(-1, 1);
      return reshaped(y, shape);
    },
    samples: [
      [random([1, 1]), random([1, 1])],
      [random([3, 5]), random([5, 7])],
      [random([33, 65]), random([65, 31])],
      [random([1, 65]), random([65, 1])],
      [random([7]), random([7])],
      [random([7]), random([7, 3])],
      [random([3, 7]), random([7])],
      [random([2, 3, 7]), random([7])],
      [random([7]), random([2, 7, 3])],
      [random([2, 3, 5]), random([2, 5, 4])],
      [random([2, 3, 5]), random([5, 4])],
      [random([3, 5]), random([2, 5, 4])],
      [random([2, 1, 3, 5]), random([4, 5, 2])],
      [random([1, 3, 5]), random([4, 5, 2])],
      [random([2, 3, 2, 3, 5]), random([2, 1, 2, 5, 4])],
      [random([0, 5]), random([5, 3])],
      [random([3, 0]), random([0, 4])],
      [random([2, 3, 0]), random([0, 4])],
      [random([0, 3, 5]), random([5, 4])],
      [random([2, 0, 5]), random([2, 5, 4])],
      [random([130, 64]), random([64, 96])],
    ],
    errors: [
      [
        () => ops.matmul(zeros([8, 197, 192]), zeros([768, 192])),
        'SHAPE',
        'matmul: inner dimensions differ: a [8, 197, 192], b [768, 192]',
      ],
      [
        () => ops.matmul(zeros([2, 3, 4]), zeros([3, 4, 5])),
        'SHAPE',
        'matmul: shapes do not broadcast: [2] and [3]',
      ],
      [
        () => ops.matmul(zeros([]), zeros([2])),
        'SHAPE',
        'matmul: expected tensors with at least one dimension, got [] and [2]',
      ],
      [
        forbidden(ops.matmul, zeros([2, 2]), zeros([2, 2], { dtype: 'float64' })),
        'DTYPE',
        'matmul: dtypes differ: a is float32, b is float64; convert one with to()',
      ],
      [
        forbidden(ops.matmul, zeros([2, 2], { dtype: 'int32' }), zeros([2, 2], { dtype: 'int32' })),
        'DTYPE',
        'matmul: expected a floating-point a, got int32',
      ],
    ],
  },
});

test('a matrix of a batch may begin before the last one ends', async (t) => {
  const wide = normal([2, 5, 4], { dtype: 'float64' });
  const b = normal([2, 4, 3], { dtype: 'float64' });
  for (const dtype of ['float32', 'float64'] as const) {
    const [a, c] = [wide.to(dtype).slice(null, [0, undefined, 2]), b.to(dtype)]; // rows 8 apart, matrices 20
    const y = await ops.matmul(a, c).data();
    const expected = await ops.matmul(wide.slice(null, [0, undefined, 2]).clone(), b).data();
    t.true(y.every((value, i) => Math.abs(value - expected[i]) < 1e-5));
  }
});
