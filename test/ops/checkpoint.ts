/**
 * Recomputing in backward gives the numbers of keeping everything.
 */
import test from 'ava';

import {
  checkpoint as run,
  dropout,
  exp,
  grad,
  matmul,
  mul,
  ones,
  scope,
  sum,
  tanh,
  zeros,
} from '../../src/index.js';
import * as ops from '../../src/ops/checkpoint.js';
import {
  type FloatDType,
  type Tensor,
  TensorError,
  manualSeed,
  memoryStats,
} from '../../src/tensor/index.js';
import { opCases } from '../helpers/op-case.js';
import { type Nd, combine, product, random } from '../helpers/nd.js';

const block = (x: Tensor, w: Tensor): Tensor => {
  const [a, b] = [x, w] as Tensor<FloatDType>[];
  return mul(tanh(matmul(a, b)), 2);
};

opCases(ops, {
  checkpoint: {
    op: (x: Tensor, w: Tensor) => run(block, x, w),
    reference: (x: Nd, w: Nd) => combine((v) => 2 * Math.tanh(v), product(x, w)),
    samples: [
      [random([3, 4], -1, 1), random([4, 5], -1, 1)],
      [random([0, 4]), random([4, 5])],
    ],
    roundings: 3,
  },
});

test.serial(
  'the recomputed forward draws the same random numbers, and the sequence goes on as if it had not',
  (t) => {
    const x = ones([1000]).setRequiresGrad();
    manualSeed(1);
    const y = run((v: Tensor<'float32'>) => dropout(v, 0.5), x);
    const [gradient] = grad(y, [x], { gradients: [ones([1000])] });
    t.deepEqual(gradient?.dataSync(), y.dataSync());
    const after = dropout(ones([1000]), 0.5).dataSync();
    manualSeed(1);
    const [first, second] = [dropout(ones([1000]), 0.5), dropout(ones([1000]), 0.5)];
    t.deepEqual(y.dataSync(), first.dataSync());
    t.deepEqual(after, second.dataSync());
  },
);

test.serial('between forward and backward only the inputs are kept', (t) => {
  const x = ones([1024]).setRequiresGrad();
  const deep = (v: Tensor): Tensor => {
    let y = v as Tensor<FloatDType>;
    for (let i = 0; i < 8; i++) y = exp(mul(y, 0.1));
    return y;
  };
  const held = (f: () => Tensor): number => {
    const before = memoryStats().current;
    const y = scope(f);
    const bytes = memoryStats().current - before;
    grad(sum(y as Tensor<FloatDType>), [x]).forEach((g) => g?.dispose());
    y.dispose();
    return bytes;
  };
  t.is(
    held(() => run(deep, x)),
    4096,
  ); // the output
  t.true(held(() => deep(x)) >= 8 * 4096);
});

test('an error in the function comes through', (t) => {
  const error = t.throws(() => run((x: Tensor) => matmul(x as Tensor<'float32'>, zeros([3])), zeros([2])), {
    instanceOf: TensorError,
  });
  t.is(error.message, 'matmul: inner dimensions differ: a [2], b [3]');
});
