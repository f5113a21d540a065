/**
 * Padding, rolling and flipping.
 */
import { zeros } from '../../src/index.js';
import * as ops from '../../src/ops/pad.js';
import { ALL, opCases } from '../helpers/op-case.js';
import { type Nd, place, random, table } from '../helpers/nd.js';

const list = (value: number | readonly number[]): readonly number[] =>
  typeof value === 'number' ? [value] : value;

opCases(ops, {
  pad: {
    reference: (x: Nd, padding: readonly (readonly [number, number])[], value = 0) => {
      const free = x.shape.length - padding.length;
      const around = x.shape.map((_, dim) => (dim < free ? [0, 0] : padding[dim - free]));
      return table(
        x.shape.map((n, dim) => n + around[dim][0] + around[dim][1]),
        (...index) => {
          const from = index.map((i, dim) => i - around[dim][0]);
          return from.every((i, dim) => i >= 0 && i < x.shape[dim]) ? x.at(from) : value;
        },
      );
    },
    samples: [
      [random([]), []],
      [random([3]), [[1, 2]]],
      [random([2, 3]), [[1, 0]], 1],
      [random([2, 3, 4]), [[1, 0], [0, 2]]], // prettier-ignore
      [random([2, 3]), [[0, 0], [0, 0]]], // prettier-ignore
      [random([0, 3]), [[1, 1], [1, 1]], 1], // prettier-ignore
      [random([100, 257]), [[8, 8], [8, 8]]], // prettier-ignore
    ],
    dtypes: ALL,
    errors: [
      [() => ops.pad(zeros([3]), [[1, 1], [1, 1]]), 'SHAPE', 'pad: expected at most 1 pairs for [3], got 2'], // prettier-ignore
      [
        () => ops.pad(zeros([3]), [[-1, 1]]),
        'VALUE',
        'pad: expected paddings of 0 or more, got -1 and 1 for dim 0',
      ],
      [
        () => ops.pad(zeros([3], { dtype: 'uint8' }), [[1, 1]], -1),
        'VALUE',
        'pad: expected a number that uint8 holds, got -1',
      ],
    ],
  },
  roll: {
    reference: (x: Nd, shifts: number | readonly number[], dims: number | readonly number[]) => {
      const by = x.shape.map(() => 0);
      list(dims).forEach((dim, i) => (by[place(dim, by.length)] += list(shifts)[i]));
      return table(x.shape, (...index) =>
        x.at(index.map((i, dim) => (((i - by[dim]) % x.shape[dim]) + x.shape[dim]) % x.shape[dim])),
      );
    },
    samples: [
      [random([7]), 2, 0],
      [random([7]), -9, 0],
      [random([7]), 0, 0],
      [random([3, 5]), [1, -2], [0, -1]],
      [random([3, 5]), [1, 1], [0, 0]],
      [random([2, 8, 8, 3]), [-3, -3], [1, 2]],
      [random([0, 3]), [1, 1], [0, 1]],
    ],
    dtypes: ALL,
    errors: [
      [() => ops.roll(zeros([3]), [1, 2], 0), 'VALUE', 'roll: expected as many shifts as dims, got 2 and 1'],
      [
        () => ops.roll(zeros([3]), 1, 1),
        'INDEX',
        'roll: dim 1 is outside [-1, 1) for a tensor with 1 dimension',
      ],
    ],
  },
  flip: {
    reference: (x: Nd, dims: number | readonly number[]) => {
      const turned = new Set(list(dims).map((dim) => place(dim, x.shape.length)));
      return table(x.shape, (...index) =>
        x.at(index.map((i, dim) => (turned.has(dim) ? x.shape[dim] - 1 - i : i))),
      );
    },
    samples: [
      [random([7]), 0],
      [random([3, 5]), -1],
      [random([3, 5]), [0, 1]],
      [random([2, 3, 4]), [1]],
      [random([2, 3]), []],
      [random([0, 3]), 0],
      [random([1, 3]), 0],
    ],
    dtypes: ALL,
    errors: [
      [
        () => ops.flip(zeros([3]), 1),
        'INDEX',
        'flip: dim 1 is outside [-1, 1) for a tensor with 1 dimension',
      ],
      [() => ops.flip(zeros([]), 0), 'SHAPE', 'flip: expected at least one dimension, got a scalar'],
      [() => ops.flip(zeros([2, 3]), [0, -2]), 'SHAPE', 'flip: expected each dim once, got -2 twice'],
    ],
  },
});
