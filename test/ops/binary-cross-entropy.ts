/**
 * Binary cross-entropy against its formula.
 */
import test from 'ava';

import { oneHot, tensor, zeros } from '../../src/index.js';
import * as ops from '../../src/ops/binary-cross-entropy.js';
import { forbidden, opCases } from '../helpers/op-case.js';
import { type Nd, fold, random, values } from '../helpers/nd.js';

/** Options of a sample. */
type Options = Omit<ops.BinaryCrossEntropyOptions, 'posWeight'> & { readonly posWeight?: Nd };

/** ln(1 + e^v) */
const softplus = (v: number): number => Math.max(v, 0) + Math.log1p(Math.exp(-Math.abs(v)));

function binaryCrossEntropy(x: Nd, t: Nd, { reduction = 'mean', posWeight }: Options = {}): Nd {
  const losses = Array.from(x.data, (v, i) => {
    const w = posWeight?.data[i % posWeight.data.length] ?? 1;
    return w * t.data[i] * softplus(-v) + (1 - t.data[i]) * softplus(v);
  });
  if (reduction === 'none') return values(losses, x.shape);
  const divisor = reduction === 'mean' ? losses.length : 1;
  return fold(values(losses), (v) => v.reduce((a, b) => a + b, 0) / divisor);
}

const x = zeros([2, 3]);

opCases(ops, {
  binaryCrossEntropy: {
    reference: binaryCrossEntropy,
    samples: (['none', 'mean', 'sum'] as const).flatMap((reduction) => [
      [random([4, 7]), random([4, 7], 0, 1), { reduction }],
      [random([2, 3, 5], -20, 20), random([2, 3, 5], 0, 1), { reduction }],
      [random([]), random([], 0, 1), { reduction }],
      [values([500, -500, 500, -500, 30, -30, 0], [7]), values([1, 0, 0, 1, 1, 0, 0.5], [7]), { reduction }],
      [random([120, 129]), random([120, 129], 0, 1), { reduction }],
      [random([4, 7], -20, 20), random([4, 7], 0, 1), { reduction, posWeight: random([7], 0.1, 5) }],
      [random([2, 3, 5]), random([2, 3, 5], 0, 1), { reduction, posWeight: random([5], 0.1, 5) }],
      { args: [random([0, 3]), random([0, 3]), { reduction }], gradient: reduction !== 'mean' },
    ]),
    resultDType: (dtype) => (dtype === 'float64' ? dtype : 'float32'),
    errors: [
      [
        forbidden(ops.binaryCrossEntropy, zeros([2, 3], { dtype: 'int32' }), x),
        'DTYPE',
        'binaryCrossEntropy: expected floating-point logits, got int32',
      ],
      [
        forbidden(ops.binaryCrossEntropy, x, tensor([0, 1], { dtype: 'int64' })),
        'DTYPE',
        'binaryCrossEntropy: expected probabilities for targets, got int64 [2]; oneHot() makes them of labels',
      ],
      [
        () => ops.binaryCrossEntropy(x, zeros([3])),
        'SHAPE',
        'binaryCrossEntropy: expected targets [2, 3], got [3]',
      ],
      [
        forbidden(ops.binaryCrossEntropy, x, zeros([2, 3], { dtype: 'float64' })),
        'DTYPE',
        'binaryCrossEntropy: dtypes differ: logits is float32, targets is float64; convert one with to()',
      ],
      [
        forbidden(ops.binaryCrossEntropy, x, x, { reduction: 'max' }),
        'VALUE',
        "binaryCrossEntropy: expected a reduction of none, mean or sum, got 'max'",
      ],
      [
        () => ops.binaryCrossEntropy(x, x, { posWeight: zeros([2]) }),
        'SHAPE',
        'binaryCrossEntropy: expected a posWeight [K], one for each class of logits [..., K], got [2] for [2, 3]',
      ],
      [
        () => ops.binaryCrossEntropy(zeros([]), zeros([]), { posWeight: zeros([]) }),
        'SHAPE',
        'binaryCrossEntropy: expected a posWeight [K], one for each class of logits [..., K], got [] for []',
      ],
      [
        forbidden(ops.binaryCrossEntropy, x, x, { posWeight: zeros([3], { dtype: 'int64' }) }),
        'DTYPE',
        'binaryCrossEntropy: expected a floating-point posWeight, got int64',
      ],
      [
        forbidden(ops.binaryCrossEntropy, x, x, { posWeight: 2 }),
        'VALUE',
        'binaryCrossEntropy: expected a tensor or undefined, got 2 for posWeight',
      ],
      [
        () => ops.binaryCrossEntropy(x, zeros([3]), { posWeight: zeros([3]) }),
        'SHAPE',
        'binaryCrossEntropy: expected targets [2, 3], got [3]',
      ],
    ],
  },
});

test('small losses are exact: they are e^-x, not lost beside 1', async (t) => {
  const logits = [5, 12, 17, 40, 80];
  const losses = ops.binaryCrossEntropy(tensor(logits), tensor([1, 1, 1, 1, 1]), { reduction: 'none' });
  for (const [i, loss] of (await losses.data()).entries()) {
    const expected = Math.log1p(Math.exp(-logits[i]));
    t.true(Math.abs(loss - expected) < 3e-7 * expected, `${logits[i]}: ${loss} for ${expected}`);
  }
});

test('a one-hot target of ten classes costs ln 2 for each, and pulls by a half', async (t) => {
  const logits = zeros([4, 10], { requiresGrad: true });
  const targets = oneHot(tensor([0, 3, 9, 3], { dtype: 'int64' }), 10);
  const loss = ops.binaryCrossEntropy(logits, targets);
  t.true(Math.abs((await loss.item()) - Math.LN2) < 1e-7);
  loss.backward();
  const rows = (await logits.grad!.toArray()) as number[][];
  t.deepEqual(
    rows[1].map((g) => Math.round(g * 80)),
    [1, 1, 1, -1, 1, 1, 1, 1, 1, 1],
  );
});

test('a weight of a class multiplies what a missed one costs, as in PyTorch 2.13', async (t) => {
  const x = tensor([1, 2, 0.5, -1, 0.25, 2, 0, 0, 1], { shape: [3, 3], dtype: 'float64' });
  const targets = tensor([0, 0.5, 1, 1, 0, 0.25, 0, 0, 1], { shape: [3, 3], dtype: 'float64' });
  const loss = await ops.binaryCrossEntropy(x, targets, { posWeight: tensor([1, 0.5, 4]) }).item();
  t.true(Math.abs(loss - 1.2006035411595475) < 1e-12, `${loss}`);
});
