/**
 * Cumulative sums and the largest elements.
 */
import { zeros } from '../../src/index.js';
import * as ops from '../../src/ops/scan.js';
import { FLOATS, NUMERIC, forbidden, opCases } from '../helpers/op-case.js';
import { type Nd, lines, random, values } from '../helpers/nd.js';

const bool = zeros([2], { dtype: 'bool' });

/** The places of the k best, the earlier of equals first; NaN is the largest, as PyTorch has it. */
function best(line: readonly number[], k: number, largest: boolean): number[] {
  const rank = (v: number): number => (Number.isNaN(v) ? Infinity : v);
  const sign = largest ? -1 : 1;
  return line
    .map((v, i) => [rank(v), i] as const)
    .sort(([a, i], [b, j]) => (a === b ? i - j : sign * (a < b ? -1 : 1)))
    .slice(0, k)
    .map(([, i]) => i);
}

opCases(ops, {
  cumsum: {
    reference: (x: Nd, dim: number) =>
      x.shape.length === 0
        ? x
        : lines(x, dim, (line) => {
            let total = 0;
            return line.map((v) => (total += v));
          }),
    samples: [
      [random([]), 0],
      [random([7]), -1],
      [random([33]).map((v) => Math.abs(v) / 33), 0],
      [random([3, 5]), 0],
      [random([3, 5]), 1],
      [random([2, 3, 4]), -2],
      [random([0, 3]), 0],
      [random([300, 129]).map((v) => v / 8), 0],
      [random([129, 300]).map((v) => v / 8), 1],
    ],
    dtypes: NUMERIC,
    errors: [
      [forbidden(ops.cumsum, bool, 0), 'DTYPE', 'cumsum: expected a numeric tensor, got bool'],
      [
        () => ops.cumsum(zeros([2, 3]), 2),
        'INDEX',
        'cumsum: dim 2 is outside [-2, 2) for a tensor with 2 dimensions',
      ],
    ],
  },
  topk: {
    reference: (x: Nd, k: number, { dim = -1, largest = true }: ops.TopkOptions = {}) => {
      return {
        values: lines(x, dim, (line) => best(line, k, largest).map((i) => line[i])),
        indices: lines(x, dim, (line) => best(line, k, largest)).as('int64'),
      };
    },
    samples: [
      [random([7]), 3],
      [random([33]), 33],
      [random([4, 65]), 5],
      [random([5, 3]), 2, { dim: 0 }],
      [random([2, 5, 3]), 2, { dim: -2, largest: false }],
      [random([4, 1]), 1],
      [random([3, 5]), 0],
      [random([0, 5]), 2],
      { args: [random([200, 1000]), 10], gradient: false },
      { args: [values([2, 2, 1, 2, 1, 1]), 4], gradient: false },
      { args: [values([2, NaN, 3, -Infinity, Infinity]), 3], gradient: false },
      { args: [values([2, NaN, 3, -Infinity, Infinity]), 3, { largest: false }], gradient: false },
    ],
    dtypes: FLOATS,
    errors: [
      [
        () => ops.topk(zeros([2, 3]), 4),
        'VALUE',
        'topk: expected k from 0 to the size of dim -1 of [2, 3], got 4',
      ],
      [
        () => ops.topk(zeros([2, 3]), 3, { dim: 0 }),
        'VALUE',
        'topk: expected k from 0 to the size of dim 0 of [2, 3], got 3',
      ],
      [
        () => ops.topk(zeros([2, 3]), 1, { dim: 2 }),
        'INDEX',
        'topk: dim 2 is outside [-2, 2) for a tensor with 2 dimensions',
      ],
      [() => ops.topk(zeros([]), 1), 'SHAPE', 'topk: expected at least one dimension, got a scalar'],
      [forbidden(ops.topk, bool, 1), 'DTYPE', 'topk: expected a numeric tensor, got bool'],
    ],
  },
});
