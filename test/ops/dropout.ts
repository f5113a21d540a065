/**
 * Dropout: how much is kept, what it is scaled by, and that the gradient meets the same mask.
 */
import test from 'ava';

import { grad, ones, zeros } from '../../src/index.js';
import * as ops from '../../src/ops/dropout.js';
import { manualSeed } from '../../src/tensor/index.js';
import { type OpCase, forbidden, opCases } from '../helpers/op-case.js';
import { Nd, random, table } from '../helpers/nd.js';

const SHAPES: readonly (readonly number[])[] = [[7], [3, 5], [2, 3, 4], [0, 3], [130, 257]];

/** Which elements a seed keeps, read off ones: the reference multiplies by that and by 1 / (1 - p). */
function kept(op: typeof ops.dropout, shape: readonly number[], p: number): Nd {
  manualSeed(9);
  const y = op(ones(shape, { dtype: 'float64' }), p);
  const nd = new Nd(
    shape,
    Float64Array.from(y.dataSync(), (v) => Number(v !== 0)),
  );
  y.dispose();
  return nd;
}

const dropping = (name: 'dropout' | 'dropPath'): OpCase => {
  const op = ops[name];
  return {
    op: (x: Parameters<typeof op>[0], p: number) => {
      manualSeed(9);
      return op(x, p);
    },
    reference: (x: Nd, p: number) => {
      const mask = kept(op, x.shape, p);
      return table(x.shape, (...index) => (x.at(index) * mask.at(index)) / (1 - p));
    },
    samples: [...SHAPES.map((shape) => [random(shape), 0.25]), [random([33, 2]), 0.9]],
    roundings: 2,
    errors: [
      [() => op(zeros([2]), 1), 'VALUE', `${name}: expected a probability in [0, 1), got 1`],
      [() => op(zeros([2]), -0.5), 'VALUE', `${name}: expected a probability in [0, 1), got -0.5`],
      [
        () => op(zeros([2]), NaN),
        'VALUE',
        `${name}: expected a probability in [0, 1), got ${name === 'dropout' ? 'nan' : 'NaN'}`,
      ],
      [
        forbidden(op, zeros([2], { dtype: 'int32' }), 0.5),
        'DTYPE',
        `${name}: expected a floating-point x, got int32`,
      ],
    ],
  };
};

opCases(ops, {
  dropout: dropping('dropout'),
  dropPath: {
    ...dropping('dropPath'),
    errors: [
      ...(dropping('dropPath').errors ?? []),
      [
        () => ops.dropPath(zeros([]), 0.5),
        'SHAPE',
        'dropPath: expected at least one dimension, got a scalar',
      ],
    ],
  },
});

const near = (rate: number, p: number, n: number): boolean =>
  Math.abs(rate - p) < 4 * Math.sqrt((p * (1 - p)) / n);

test.serial('dropout keeps 1 - p of the elements, scaled to the same mean', (t) => {
  for (const p of [0.1, 0.5, 0.9]) {
    manualSeed(1);
    const y = ops.dropout(ones([200, 100]), p).dataSync();
    const share = y.reduce((n, v) => n + Number(v !== 0), 0) / y.length;
    t.true(near(share, 1 - p, y.length), `${share} kept at p = ${p}`);
    t.true(y.every((v) => v === 0 || Math.abs(v - 1 / (1 - p)) < 1e-5));
  }
});

test.serial('dropPath keeps or drops whole samples', (t) => {
  manualSeed(1);
  const y = ops.dropPath(ones([4000, 3]), 0.25).dataSync();
  const rows = Array.from({ length: 4000 }, (_, i) => Array.from(y.subarray(3 * i, 3 * i + 3)));
  t.true(rows.every((row) => row.every((v) => v === row[0] && (v === 0 || Math.abs(v - 4 / 3) < 1e-6))));
  const share = rows.filter((row) => row[0] !== 0).length / rows.length;
  t.true(near(share, 0.75, rows.length), `${share} kept`);
});

test.serial('two calls drop different elements, and the gradient meets the mask of its own call', (t) => {
  manualSeed(1);
  const x = ones([1000]).setRequiresGrad();
  const [a, b] = [ops.dropout(x, 0.5), ops.dropout(x, 0.5)];
  t.notDeepEqual(a.dataSync(), b.dataSync());
  const gradients = [ones([1000])];
  t.deepEqual(grad(a, [x], { gradients })[0]?.dataSync(), a.dataSync());
  t.deepEqual(grad(b, [x], { gradients })[0]?.dataSync(), b.dataSync());
});

test('p = 0 changes nothing', (t) => {
  const x = ones([3]);
  t.deepEqual(ops.dropout(x, 0).dataSync(), x.dataSync());
  t.deepEqual(ops.dropPath(x, 0).dataSync(), x.dataSync());
});
