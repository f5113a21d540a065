/**
 * Slices, as Python has them.
 */
import { zeros } from '../../src/index.js';
import * as ops from '../../src/ops/slice.js';
import { ALL, opCases } from '../helpers/op-case.js';
import { type Nd, place, random, reshaped, table } from '../helpers/nd.js';

/** The indices that a range picks out of n. */
function picked(range: ops.SliceRange | undefined, n: number): number[] {
  if (range === null || range === undefined) return Array.from({ length: n }, (_, i) => i);
  if (typeof range === 'number') return [place(range, n)];
  const [start, stop, step = 1] = range;
  const clamp = (i: number): number =>
    Math.min(Math.max(place(i, n), step > 0 ? 0 : -1), step > 0 ? n : n - 1);
  const first = start === undefined ? (step > 0 ? 0 : n - 1) : clamp(start);
  const last = stop === undefined ? (step > 0 ? n : -1) : clamp(stop);
  const out: number[] = [];
  for (let i = first; step > 0 ? i < last : i > last; i += step) out.push(i);
  return out;
}

function sliced(x: Nd, ...ranges: ops.SliceRange[]): Nd {
  const rows = x.shape.map((n, dim) => picked(ranges[dim], n));
  const part = table(
    rows.map((row) => row.length),
    (...index) => x.at(index.map((i, dim) => rows[dim][i])),
  );
  return reshaped(
    part,
    part.shape.filter((_, dim) => typeof ranges[dim] !== 'number'),
  );
}

const onDim = (x: Nd, dim: number, range: ops.SliceRange): Nd =>
  sliced(x, ...x.shape.map((_, i) => (i === place(dim, x.shape.length) ? range : null)));

opCases(ops, {
  slice: {
    reference: sliced,
    samples: [
      [random([])],
      [random([7])],
      [random([7]), [2, 5]],
      [random([7]), [-3]],
      [random([7]), [undefined, -2, 2]],
      [random([7]), [undefined, undefined, -1]],
      [random([7]), [5, 1, -2]],
      [random([7]), [100, -100, -3]],
      [random([7]), [5, 2]],
      [random([7]), [-100, 100]],
      [random([3, 5]), 1],
      [random([3, 5]), -1, -2],
      [random([3, 5, 4]), null, [1, 4], 2],
      [random([3, 5, 4]), [0, 3, 2], [undefined, undefined, -2]],
      [random([0, 3]), [0, 1]],
      [random([0, 3]), [undefined, undefined, -1]],
    ],
    dtypes: ALL,
    errors: [
      [
        () => ops.slice(zeros([2, 3]), null, null, 0),
        'INDEX',
        'slice: expected at most 2 ranges for [2, 3], got 3',
      ],
      [() => ops.slice(zeros([2, 3]), 2), 'INDEX', 'slice: expected an index within 2 for dim 0, got 2'],
      [
        () => ops.slice(zeros([2, 3]), null, -4),
        'INDEX',
        'slice: expected an index within 3 for dim 1, got -4',
      ],
      [() => ops.slice(zeros([2]), [0.5]), 'VALUE', 'slice: expected whole numbers, got [0.5] for dim 0'],
      [() => ops.slice(zeros([2]), [0, 2, 0]), 'VALUE', 'slice: expected a step other than 0'],
    ],
  },
  select: {
    reference: onDim,
    samples: [
      [random([3]), 0, 1],
      [random([3, 5]), 1, -1],
      [random([3, 5, 4]), -2, 0],
      [random([0, 3]), 1, 2],
    ],
    dtypes: ALL,
    errors: [
      [() => ops.select(zeros([2, 3]), 2, 0), 'INDEX', 'select: expected a dim within [2, 3], got 2'],
      [() => ops.select(zeros([]), 0, 0), 'INDEX', 'select: expected a dim within [], got 0'],
      [() => ops.select(zeros([2, 3]), 1, 3), 'INDEX', 'select: expected an index within 3 for dim 1, got 3'],
    ],
  },
  narrow: {
    reference: (x: Nd, dim: number, start: number, length: number) => {
      const first = place(start, x.shape[place(dim, x.shape.length)]);
      return onDim(x, dim, [first, first + length]);
    },
    samples: [
      [random([7]), 0, 2, 3],
      [random([3, 5]), -1, -2, 2],
      [random([3, 5]), 0, 3, 0],
      [random([3, 0]), 1, 0, 0],
    ],
    dtypes: ALL,
    errors: [
      [() => ops.narrow(zeros([2, 3]), 2, 0, 1), 'INDEX', 'narrow: expected a dim within [2, 3], got 2'],
      [
        () => ops.narrow(zeros([2, 3]), 1, 2, 2),
        'INDEX',
        'narrow: expected a stretch within 3 for dim 1, got 2 to 4',
      ],
      [
        () => ops.narrow(zeros([2, 3]), 1, 0, -1),
        'INDEX',
        'narrow: expected a start and a length of 0 or more, got 0 and -1',
      ],
    ],
  },
});
