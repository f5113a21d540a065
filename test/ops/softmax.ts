/**
 * Softmax and its logarithms, in the shifted form.
 */
import test from 'ava';

import { tensor, zeros } from '../../src/index.js';
import * as ops from '../../src/ops/softmax.js';
import { type OpCase, forbidden, opCases } from '../helpers/op-case.js';
import { type Nd, fold, lines, random, values } from '../helpers/nd.js';

const { NaN: nan, POSITIVE_INFINITY: inf } = Number;
const int32 = zeros([2], { dtype: 'int32' });

const SAMPLES: OpCase['samples'] = [
  [random([1])],
  [random([7])],
  [random([3, 33])],
  [random([3, 65]), { dim: 1 }],
  [random([65, 3]), { dim: 0 }],
  [random([2, 3, 5]), { dim: -2 }],
  [random([4, 1])],
  [random([0, 3])],
  [random([200, 197])],
  [random([197, 200]), { dim: 0 }],
  [values([1000, 1001, -1000, 2, 1, 0], [2, 3])],
  { args: [values([-inf, 1, 2, -inf, -inf, -inf, nan, 1, 2, inf, 1, 2], [4, 3])], gradient: false },
];

const largest = (line: readonly number[]): number => line.reduce((a, b) => Math.max(a, b), -inf);
const total = (line: readonly number[]): number => line.reduce((a, b) => a + b, 0);

/** Infinite where the largest is. */
function logSumExp(line: readonly number[]): number {
  const shift = largest(line);
  if (Math.abs(shift) === inf) return shift;
  return shift + Math.log(total(line.map((v) => Math.exp(v - shift))));
}

const errorsOf = (name: keyof typeof ops): NonNullable<OpCase['errors']> => [
  [forbidden(ops[name], int32), 'DTYPE', `${name}: expected a floating-point x, got int32`],
  [forbidden(ops[name], zeros([])), 'SHAPE', `${name}: expected at least one dimension, got a scalar`],
  [
    forbidden(ops[name], zeros([2]), { dim: 1 }),
    'INDEX',
    `${name}: dim 1 is outside [-1, 1) for a tensor with 1 dimension`,
  ],
];

opCases(ops, {
  softmax: {
    reference: (x: Nd, { dim = -1 }: ops.SoftmaxOptions = {}) =>
      lines(x, dim, (line) => {
        const shift = largest(line);
        const powers = line.map((v) => Math.exp(v - shift));
        const sum = total(powers);
        return powers.map((v) => v / sum);
      }),
    samples: SAMPLES,
    errors: errorsOf('softmax'),
  },
  logSoftmax: {
    reference: (x: Nd, { dim = -1 }: ops.SoftmaxOptions = {}) =>
      lines(x, dim, (line) => {
        const shift = largest(line);
        const logSum = Math.log(total(line.map((v) => Math.exp(v - shift))));
        return line.map((v) => v - shift - logSum);
      }),
    samples: SAMPLES,
    errors: errorsOf('logSoftmax'),
  },
  logsumexp: {
    reference: (x: Nd, { dim = -1, keepdim = false }: ops.LogsumexpOptions = {}) =>
      fold(x, logSumExp, { dim, keepdim }),
    samples: [
      ...SAMPLES,
      [random([3, 7]), { keepdim: true }],
      [random([3, 7]), { dim: 0, keepdim: true }],
      { args: [random([2, 0])], gradient: false },
    ],
    errors: errorsOf('logsumexp'),
  },
});

test('the gradient of logsumexp is 0 for what lies beside an infinite element', async (t) => {
  const x = tensor([
    [1, inf, -inf],
    [0, 0, -inf],
  ]).setRequiresGrad();
  ops.logsumexp(x).sum().backward();
  t.deepEqual(Array.from(await (x.grad as typeof x).data()), [0, nan, 0, 0.5, 0.5, 0]);
});
