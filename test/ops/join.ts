/**
 * Joining and splitting.
 */
import { zeros } from '../../src/index.js';
import * as ops from '../../src/ops/join.js';
import { grad, sum } from '../../src/index.js';
import test from 'ava';
import { ALL, forbidden, opCases } from '../helpers/op-case.js';
import { type Nd, place, random, reshaped, table } from '../helpers/nd.js';

function joined(tensors: readonly Nd[], dim = 0): Nd {
  const at = place(dim, tensors[0].shape.length);
  const owners = tensors.flatMap((x) => Array.from({ length: x.shape[at] }, (_, i) => [x, i] as const));
  const shape = tensors[0].shape.with(at, owners.length);
  return table(shape, (...index) => {
    const [x, i] = owners[index[at]];
    return x.at(index.with(at, i));
  });
}

function parts(x: Nd, size: number | readonly number[], dim = 0): Nd[] {
  const at = place(dim, x.shape.length);
  const n = x.shape[at];
  const sizes =
    typeof size === 'number'
      ? Array.from({ length: Math.max(1, Math.ceil(n / size)) }, (_, i) => Math.min(size, n - i * size))
      : size;
  let start = 0;
  return sizes.map((length) => {
    const first = start;
    start += length;
    return table(x.shape.with(at, length), (...index) => x.at(index.with(at, first + index[at])));
  });
}

opCases(ops, {
  cat: {
    reference: joined,
    samples: [
      [[random([7])]],
      [[random([2]), random([3]), random([1])]],
      [[random([2, 3]), random([2, 5])], 1],
      [[random([2, 3, 4]), random([2, 1, 4])], -2],
      [[random([0, 3]), random([2, 3])], 0],
      [[random([0, 3]), random([0, 3])], -1],
      [[random([100, 257]), random([30, 257])]],
    ],
    dtypes: ALL,
    errors: [
      [() => ops.cat([]), 'VALUE', 'cat: expected at least one tensor, got none'],
      [
        () => ops.cat([zeros([])]),
        'SHAPE',
        'cat: expected tensors with at least one dimension, got a scalar',
      ],
      [() => ops.cat([zeros([2, 3]), zeros([2, 4])]), 'SHAPE', 'cat: expected tensor 1 [2, 3], got [2, 4]'],
      [() => ops.cat([zeros([2, 3]), zeros([3])]), 'SHAPE', 'cat: expected tensor 1 [2, 3], got [3]'],
      [
        () => ops.cat([zeros([2])], 1),
        'INDEX',
        'cat: dim 1 is outside [-1, 1) for a tensor with 1 dimension',
      ],
      [
        forbidden(ops.cat, [zeros([2]), zeros([2], { dtype: 'int32' })]),
        'DTYPE',
        'cat: dtypes differ: tensor 0 is float32, tensor 1 is int32; convert one with to()',
      ],
    ],
  },
  stack: {
    reference: (tensors: readonly Nd[], dim = 0) => {
      const at = place(dim, tensors[0].shape.length + 1);
      return joined(
        tensors.map((x) => reshaped(x, x.shape.toSpliced(at, 0, 1))),
        at,
      );
    },
    samples: [
      [[random([]), random([])]],
      [[random([3]), random([3]), random([3])], 1],
      [[random([2, 3]), random([2, 3])], -1],
      [[random([2, 3]), random([2, 3])], -3],
      [[random([0, 3]), random([0, 3])]],
    ],
    dtypes: ALL,
    errors: [
      [() => ops.stack([]), 'VALUE', 'stack: expected at least one tensor, got none'],
      [() => ops.stack([zeros([2]), zeros([3])]), 'SHAPE', 'stack: expected equal shapes, got [2] and [3]'],
      [
        () => ops.stack([zeros([2])], 2),
        'INDEX',
        'stack: expected a dim from -2 to 1 for tensors [2], got 2',
      ],
    ],
  },
  split: {
    reference: parts,
    samples: [
      [random([7]), 3],
      [random([6]), 3],
      [random([2, 5]), [1, 4], 1],
      [random([2, 5]), [5, 0], -1],
      [random([0, 3]), 2],
      [random([4, 3]), 10],
    ],
    dtypes: ALL,
    errors: [
      [() => ops.split(zeros([2, 3]), 1, 2), 'INDEX', 'split: expected a dim within [2, 3], got 2'],
      [() => ops.split(zeros([]), 1), 'INDEX', 'split: expected a dim within [], got 0'],
      [() => ops.split(zeros([4]), 0), 'VALUE', 'split: expected a size above 0, got 0'],
      [() => ops.split(zeros([4]), [1, 2]), 'SHAPE', 'split: expected sizes that add up to 4, got [1, 2]'],
      [() => ops.split(zeros([4]), [5, -1]), 'SHAPE', 'split: expected sizes that add up to 4, got [5, -1]'],
    ],
  },
  unbind: {
    reference: (x: Nd, dim = 0) => {
      const at = place(dim, x.shape.length);
      return x.shape[at] === 0
        ? []
        : parts(x, 1, dim).map((part) => reshaped(part, part.shape.toSpliced(at, 1)));
    },
    samples: [
      [random([3])],
      [random([2, 3])],
      [random([2, 3, 4]), -1],
      [random([0, 3])],
      [random([2, 0]), 0],
    ],
    dtypes: ALL,
    errors: [[() => ops.unbind(zeros([2, 3]), 2), 'INDEX', 'unbind: expected a dim within [2, 3], got 2']],
  },
});

test('a part that nothing depends on has gradient 0', (t) => {
  const x = zeros([5]).setRequiresGrad();
  const [, b] = ops.split(x, [2, 3]);
  t.deepEqual(grad(sum(b), [x])[0]?.dataSync(), Float32Array.of(0, 0, 1, 1, 1));
});
