/**
 * Choosing between two tensors.
 */
import { zeros } from '../../src/index.js';
import * as ops from '../../src/ops/where.js';
import { ALL, forbidden, opCases } from '../helpers/op-case.js';
import { type Nd, combine, random, truths, values } from '../helpers/nd.js';

const bool = zeros([2], { dtype: 'bool' });
const int32 = zeros([2], { dtype: 'int32' });

opCases(ops, {
  where: {
    reference: (condition: Nd, a: Nd | number, b: Nd | number) =>
      combine((c, x, y) => (c ? x : y), condition, a, b),
    samples: [
      [truths([]), random([]), random([])],
      [truths([33]), random([33]), random([33])],
      [truths([2, 3, 1]), random([3, 1]), random([5])],
      [truths([3, 1]), random([1]), random([2, 3, 4])],
      [truths([7]), random([7]), 1],
      [truths([7]), 0, random([7])],
      [truths([0, 3]), random([3]), random([1])],
      [truths([130, 257]), random([130, 257]), random([257])],
    ],
    dtypes: ALL,
    errors: [
      [forbidden(ops.where, int32, int32, int32), 'DTYPE', 'where: expected a bool condition, got int32'],
      [forbidden(ops.where, bool, 1, 2), 'VALUE', 'where: expected at least one tensor, got two numbers'],
      [forbidden(ops.where, bool, null, 2), 'VALUE', 'where: expected a tensor or a number, got null'],
      [
        forbidden(ops.where, true, zeros([2]), 2),
        'VALUE',
        'where: expected a tensor, got none for condition',
      ],
      [
        forbidden(ops.where, bool, zeros([2]), int32),
        'DTYPE',
        'where: dtypes differ: a is float32, b is int32; convert one with to()',
      ],
      [() => ops.where(bool, zeros([3]), 0), 'SHAPE', 'where: shapes do not broadcast: [2] and [3]'],
      [() => ops.where(bool, int32, 0.5), 'VALUE', 'where: expected a number that int32 holds, got 0.5'],
    ],
  },
  maskedFill: {
    reference: (x: Nd, mask: Nd, value: number) => combine((v, m) => (m ? value : v), x, mask),
    samples: [
      [random([3, 5]), truths([3, 5]), 0],
      [random([2, 3, 4]), truths([3, 1]), 1],
      [random([]), values([1], [], 'bool'), 1],
      [random([0, 3]), truths([3]), 1],
    ],
    dtypes: ALL,
    errors: [
      [
        () => ops.maskedFill(zeros([2]), zeros([3, 2], { dtype: 'bool' }), 0),
        'SHAPE',
        'maskedFill: expected a mask that broadcasts to [2], got [3, 2]',
      ],
      [
        () => ops.maskedFill(zeros([3]), bool, 0),
        'SHAPE',
        'maskedFill: expected a mask that broadcasts to [3], got [2]',
      ],
      [forbidden(ops.maskedFill, int32, int32, 0), 'DTYPE', 'maskedFill: expected a bool mask, got int32'],
    ],
  },
});
