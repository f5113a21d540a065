/**
 * Views and reshapes: the same elements, found through their indices.
 */
import test from 'ava';

import { zeros } from '../../src/index.js';
import * as ops from '../../src/ops/shape.js';
import { type Tensor } from '../../src/tensor/index.js';
import { ALL, forbidden, opCases } from '../helpers/op-case.js';
import { type Nd, atBroadcast, permuted, place, random, reshaped, sizeOf, table } from '../helpers/nd.js';

type Shape = readonly number[];

const outside = (op: string, dim: number, n: number, ndim = n): string =>
  `${op}: dim ${dim} is outside [-${n}, ${n}) for a tensor with ${ndim} dimensions`;

opCases(ops, {
  reshape: {
    reference: (x: Nd, shape: Shape) => {
      const known = shape.reduce((product, n) => (n === -1 ? product : product * n), 1);
      return reshaped(
        x,
        shape.map((n) => (n === -1 ? x.size / known : n)),
      );
    },
    samples: [
      [random([]), [1, 1]],
      [random([6]), [2, 3]],
      [random([2, 3, 4]), [4, -1]],
      [random([2, 3, 4]), [-1]],
      [random([2, 1, 3]), [1, 2, 3, 1]],
      [random([1]), []],
      [random([0, 3]), [3, 0]],
      [random([0, 3]), [-1, 3]],
      [random([4, 1, 6]), [2, 2, 3, 2]],
    ],
    dtypes: ALL,
    errors: [
      [
        () => ops.reshape(zeros([2, 3]), [4, 2]),
        'SHAPE',
        'reshape: expected 6 elements as in [2, 3], got [4, 2]',
      ],
      [() => ops.reshape(zeros([2, 3]), [4, -1]), 'SHAPE', 'reshape: cannot infer -1 in [4, -1] for [2, 3]'],
      [() => ops.reshape(zeros([0]), [0, -1]), 'SHAPE', 'reshape: cannot infer -1 in [0, -1] for [0]'],
      [
        () => ops.reshape(zeros([2, 3]), [-1, -1]),
        'SHAPE',
        'reshape: expected sizes of 0 or more and at most one -1, got [-1, -1]',
      ],
      [
        () => ops.reshape(zeros([1]), [1, 1, 1, 1, 1, 1, 1, 1, 1]),
        'SHAPE',
        'reshape: expected at most 8 dimensions, got more',
      ],
    ],
  },
  squeeze: {
    reference: (x: Nd, dim?: number | Shape) => {
      const all = x.shape.map((_, i) => i);
      const named = dim === undefined ? all : typeof dim === 'number' ? [dim] : dim;
      const dims = new Set(named.map((d) => place(d, x.shape.length)));
      return reshaped(
        x,
        x.shape.filter((n, i) => n !== 1 || !dims.has(i)),
      );
    },
    samples: [
      [random([])],
      [random([1, 3, 1])],
      [random([1, 3, 1]), 0],
      [random([1, 3, 1]), [-1, 1]],
      [random([1, 3, 1]), []],
      [random([]), 0],
      [random([]), [-1]],
      [random([1, 0])],
    ],
    dtypes: ALL,
    errors: [[() => ops.squeeze(zeros([1, 3]), 2), 'INDEX', outside('squeeze', 2, 2)]],
  },
  unsqueeze: {
    reference: (x: Nd, dim: number) => reshaped(x, x.shape.toSpliced(place(dim, x.shape.length + 1), 0, 1)),
    samples: [
      [random([]), 0],
      [random([3]), 0],
      [random([3]), -1],
      [random([2, 3]), 1],
      [random([2, 3]), -3],
      [random([0, 3]), 2],
    ],
    dtypes: ALL,
    errors: [[() => ops.unsqueeze(zeros([2, 3]), 3), 'INDEX', outside('unsqueeze', 3, 3)]],
  },
  flatten: {
    reference: (x: Nd, start = 0, end = -1) => {
      const ndim = x.shape.length;
      if (ndim === 0) return reshaped(x, [1]);
      const [first, last] = [place(start, ndim), place(end, ndim) + 1];
      return reshaped(x, x.shape.toSpliced(first, last - first, sizeOf(x.shape.slice(first, last))));
    },
    samples: [
      [random([])],
      [random([7])],
      [random([2, 3, 4])],
      [random([2, 3, 4]), 1],
      [random([2, 3, 4]), 0, -2],
      [random([2, 3, 4]), 1, 1],
      [random([2, 0, 4]), 1],
    ],
    dtypes: ALL,
    errors: [
      [
        () => ops.flatten(zeros([2, 3]), 1, 0),
        'INDEX',
        'flatten: expected dims in order within [2, 3], got 1 to 0',
      ],
      [
        () => ops.flatten(zeros([2, 3]), 0, 2),
        'INDEX',
        'flatten: expected dims in order within [2, 3], got 0 to 2',
      ],
    ],
  },
  permute: {
    reference: permuted,
    samples: [
      [random([]), []],
      [random([3]), [0]],
      [random([2, 3]), [1, 0]],
      [random([2, 3, 4]), [2, 0, 1]],
      [random([2, 3, 4]), [-1, 0, -2]],
      [random([2, 0, 4]), [2, 1, 0]],
    ],
    dtypes: ALL,
    errors: [
      [() => ops.permute(zeros([2, 3]), [0]), 'SHAPE', 'permute: expected 2 dims for [2, 3], got 1'],
      [() => ops.permute(zeros([2, 3]), [0, -2]), 'SHAPE', 'permute: expected each dim once, got -2 twice'],
      [() => ops.permute(zeros([2, 3]), [0, 2]), 'INDEX', outside('permute', 2, 2)],
    ],
  },
  transpose: {
    reference: (x: Nd, dim0 = -2, dim1 = -1) => {
      const order = x.shape.map((_, i) => i);
      if (order.length === 0) return x;
      const [a, b] = [place(dim0, order.length), place(dim1, order.length)];
      [order[a], order[b]] = [b, a];
      return permuted(x, order);
    },
    samples: [
      [random([])],
      [random([2, 3])],
      [random([2, 3, 4])],
      [random([2, 3, 4]), 0, -1],
      [random([2, 3, 4]), 1, 1],
      [random([0, 3])],
    ],
    dtypes: ALL,
    errors: [[() => ops.transpose(zeros([2, 3]), 0, 2), 'INDEX', outside('transpose', 2, 2)]],
  },
  expand: {
    reference: (x: Nd, shape: Shape) => {
      const lead = shape.length - x.shape.length;
      const full = shape.map((n, dim) => (n === -1 ? x.shape[dim - lead] : n));
      return table(full, (...index) => atBroadcast(x, index));
    },
    samples: [
      [random([]), [3]],
      [random([1]), [0]],
      [random([3, 1]), [3, 4]],
      [random([3, 1]), [2, -1, 4]],
      [random([3]), [2, 3]],
      [random([1, 3]), [-1, -1]],
    ],
    dtypes: ALL,
    errors: [
      [
        () => ops.expand(zeros([2, 3]), [3, 3]),
        'SHAPE',
        'expand: expected a shape that broadcasts to [3, 3], got [2, 3]',
      ],
      [
        () => ops.expand(zeros([2, 3]), [3]),
        'SHAPE',
        'expand: expected a shape that broadcasts to [3], got [2, 3]',
      ],
      [
        () => ops.expand(zeros([3]), [-1, 3]),
        'SHAPE',
        'expand: expected sizes of 0 or more, or -1 to keep one, got [-1, 3]',
      ],
    ],
  },
});

test('views share the elements, and reshape copies only where it must', (t) => {
  const x = zeros([4, 6]);
  const y = x.permute([1, 0]);
  const strides = (z: Tensor): readonly number[] => z.strides;
  t.deepEqual(strides(y), [1, 6]);
  t.deepEqual(strides(y.reshape([3, 2, 4])), [2, 1, 6]);
  t.deepEqual(strides(y.reshape([24])), [1]);
  t.deepEqual(strides(x.unsqueeze(0).expand([5, 4, 6])), [0, 6, 1]);
});

test('a size that is not a whole number is an error', (t) => {
  t.throws(forbidden(ops.reshape, zeros([2]), [2.5]), { message: /expected .*whole number.*2\.5/ });
});
