/**
 * Cross-entropy against its formula.
 */
import test from 'ava';

import { ones, tensor, zeros } from '../../src/index.js';
import { type Tensor } from '../../src/tensor/index.js';
import * as ops from '../../src/ops/cross-entropy.js';
import { forbidden, opCases } from '../helpers/op-case.js';
import { type Nd, fold, indices, lines, random, values } from '../helpers/nd.js';

/** Rows of numbers that add up to 1. */
function shares(shape: readonly number[]): Nd {
  return lines(random(shape, 0.1, 1), -1, (row) => {
    const total = row.reduce((a, b) => a + b, 0);
    return row.map((v) => v / total);
  });
}

/** Options of a sample. */
type Options = Omit<ops.CrossEntropyOptions, 'weight'> & { readonly weight?: Nd };

/** -sum of weighted target times log softmax, for each row; the mean is over the weights of the rows that count. */
function crossEntropy(logits: Nd, target: Nd, options: Options = {}): Nd {
  const { labelSmoothing: smoothing = 0, ignoreIndex = -100, reduction = 'mean', weight } = options;
  const weightOf = (k: number): number => weight?.at([k]) ?? 1;
  const [rows, classes] = logits.shape;
  const hard = target.dtype !== undefined;
  const losses = Array.from({ length: rows }, (_, row) => {
    if (hard && target.at([row]) === ignoreIndex) return 0;
    const line = Array.from({ length: classes }, (_, k) => logits.at([row, k]));
    const shift = Math.max(...line);
    const lse = shift + Math.log(line.reduce((total, v) => total + Math.exp(v - shift), 0));
    return line.reduce((loss, v, k) => {
      const wanted = hard ? Number(target.at([row]) === k) : target.at([row, k]);
      return loss - weightOf(k) * (wanted * (1 - smoothing) + smoothing / classes) * (v - lse);
    }, 0);
  });
  const labels = Array.from(target.data).filter((label) => label !== ignoreIndex);
  const counted = hard ? labels.reduce((total, label) => total + weightOf(label), 0) : rows;
  if (reduction === 'none') return values(losses);
  return fold(values(losses), (v) => v.reduce((a, b) => a + b, 0) / (reduction === 'mean' ? counted : 1));
}

const REDUCTIONS = ['none', 'mean', 'sum'] as const;

const logits = zeros([2, 3]);
const labels = (...data: number[]): Tensor<'int64'> => tensor(BigInt64Array.from(data, BigInt));

opCases(ops, {
  crossEntropy: {
    reference: crossEntropy,
    samples: REDUCTIONS.flatMap((reduction) => [
      [random([4, 7]), indices([4], 7), { reduction }],
      [random([5, 33]), indices([5], 33, 'int32'), { reduction, labelSmoothing: 0.1 }],
      [random([4, 5]), values([1, -100, 3, -100], [4], 'int64'), { reduction }],
      [
        random([4, 5]),
        values([1, 2, 3, 2], [4], 'int64'),
        { reduction, ignoreIndex: 2, labelSmoothing: 0.2 },
      ],
      [random([3, 1]), values([0, 0, 0], [3], 'int64'), { reduction }],
      [random([4, 7]), shares([4, 7]), { reduction }],
      [random([4, 7]), shares([4, 7]), { reduction, labelSmoothing: 0.1 }],
      [values([500, -500, 0, 2, 1, 0], [2, 3]), values([0, 2], [2], 'int64'), { reduction }],
      [random([300, 129]), indices([300], 129), { reduction }],
      [random([4, 7]), indices([4], 7), { reduction, weight: random([7], 0.1, 3) }],
      [
        random([5, 9]),
        indices([5], 9, 'int32'),
        { reduction, weight: random([9], 0.1, 3), labelSmoothing: 0.1 },
      ],
      [
        random([4, 5]),
        values([1, 2, 3, 2], [4], 'int64'),
        { reduction, weight: random([5], 0.1, 3), ignoreIndex: 2, labelSmoothing: 0.2 },
      ],
      [random([4, 5]), values([1, -100, 3, -100], [4], 'int64'), { reduction, weight: random([5], 0.1, 3) }],
      [random([4, 7]), shares([4, 7]), { reduction, weight: random([7], 0.1, 3) }],
      [random([4, 7]), shares([4, 7]), { reduction, weight: random([7], 0.1, 3), labelSmoothing: 0.1 }],
      [
        values([500, -500, 0, 2, 1, 0], [2, 3]),
        values([0, 2], [2], 'int64'),
        { reduction, weight: values([2, 0, 1], [3]) },
      ],
      { args: [random([0, 3]), indices([0], 3), { reduction }], gradient: reduction !== 'mean' },
      {
        args: [random([2, 3]), values([-100, -100], [2], 'int64'), { reduction }],
        gradient: reduction !== 'mean',
      },
    ]),
    resultDType: (dtype) => (dtype === 'float64' ? dtype : 'float32'),
    errors: [
      [
        forbidden(ops.crossEntropy, zeros([2, 3], { dtype: 'int32' }), labels(0, 1)),
        'DTYPE',
        'crossEntropy: expected a floating-point logits, got int32',
      ],
      [
        forbidden(ops.crossEntropy, zeros([3]), labels(0)),
        'SHAPE',
        'crossEntropy: expected logits [N, classes] with 2 dimensions, got [3]',
      ],
      [
        () => ops.crossEntropy(logits, tensor([0, 1])),
        'DTYPE',
        'crossEntropy: expected labels of int32 or int64, or probabilities [2, 3], got float32 [2]; ' +
          "convert labels with to('int64')",
      ],
      [() => ops.crossEntropy(logits, labels(0)), 'SHAPE', 'crossEntropy: expected labels [2], got [1]'],
      [
        forbidden(ops.crossEntropy, logits, zeros([3, 2])),
        'SHAPE',
        'crossEntropy: expected targets [2, 3], got [3, 2]',
      ],
      [
        forbidden(ops.crossEntropy, logits, zeros([2, 3], { dtype: 'float64' })),
        'DTYPE',
        'crossEntropy: dtypes differ: logits is float32, targets is float64; convert one with to()',
      ],
      [
        forbidden(ops.crossEntropy, logits, zeros([2], { dtype: 'uint8' })),
        'DTYPE',
        'crossEntropy: expected labels to be int32 or int64, got uint8',
      ],
      [
        () => ops.crossEntropy(zeros([2, 0]), labels(0, 0)),
        'SHAPE',
        'crossEntropy: expected at least one class, got logits [2, 0]',
      ],
      [
        () => ops.crossEntropy(logits, labels(0, 1), { labelSmoothing: 1 }),
        'VALUE',
        'crossEntropy: expected a label smoothing in [0, 1), got 1',
      ],
      [
        forbidden(ops.crossEntropy, logits, labels(0, 1), { reduction: 'max' }),
        'VALUE',
        "crossEntropy: expected a reduction of none, mean or sum, got 'max'",
      ],
      [
        () => ops.crossEntropy(logits, labels(0, 3)),
        'INDEX',
        'crossEntropy: expected labels from 0 to 2, got 3',
      ],
      [
        () => ops.crossEntropy(logits, labels(0, 3), { weight: ones([3]), labelSmoothing: 0.1 }),
        'INDEX',
        'crossEntropy: expected labels from 0 to 2, got 3',
      ],
      [
        () => ops.crossEntropy(logits, labels(0, 1), { weight: ones([2]) }),
        'SHAPE',
        'crossEntropy: expected a weight [3], one for each class, got [2]',
      ],
      [
        forbidden(ops.crossEntropy, logits, labels(0, 1), { weight: ones([3], { dtype: 'int32' }) }),
        'DTYPE',
        'crossEntropy: expected a floating-point weight, got int32',
      ],
      [
        forbidden(ops.crossEntropy, logits, labels(0, 1), { weight: [1, 2, 3] }),
        'VALUE',
        'crossEntropy: expected a tensor or undefined, got an array for weight',
      ],
      [
        () => ops.crossEntropy(logits, labels(0, 1), { weight: ones([3]), labelSmoothing: 1 }),
        'VALUE',
        'crossEntropy: expected a label smoothing in [0, 1), got 1',
      ],
      [
        forbidden(ops.crossEntropy, logits, labels(0, 1), { weight: ones([3]), reduction: 'max' }),
        'VALUE',
        "crossEntropy: expected a reduction of none, mean or sum, got 'max'",
      ],
      [
        forbidden(ops.crossEntropy, logits, zeros([3, 2]), { weight: ones([3]) }),
        'SHAPE',
        'crossEntropy: expected targets [2, 3], got [3, 2]',
      ],
      [
        forbidden(ops.crossEntropy, logits, zeros([2, 1]), { weight: ones([3]) }), // would broadcast
        'SHAPE',
        'crossEntropy: expected targets [2, 3], got [2, 1]',
      ],
      [
        forbidden(ops.crossEntropy, logits, zeros([2, 3], { dtype: 'float64' }), { weight: ones([3]) }),
        'DTYPE',
        'crossEntropy: dtypes differ: logits is float32, targets is float64; convert one with to()',
      ],
      [
        forbidden(ops.crossEntropy, zeros([3]), labels(0), { weight: ones([3]) }),
        'SHAPE',
        'crossEntropy: expected logits [N, classes] with 2 dimensions, got [3]',
      ],
    ],
  },
});

test('with weights, the mean is that of PyTorch 2.13', async (t) => {
  const x = tensor([1, 2, 0.5, -1, 0.25, 2, 0, 0, 1], { shape: [3, 3], dtype: 'float64' });
  const weight = tensor([1, 0.5, 4]);
  const p = tensor([0.5, 0.5, 0, 0, 0.25, 0.75, 1, 0, 0], { shape: [3, 3], dtype: 'float64' });
  for (const [labelSmoothing, hard, soft] of [
    [0, 2.2118481211432424, 1.082996131175621],
    [0.1, 2.087588231653305, 1.1866041216167742],
  ]) {
    const options = { weight, labelSmoothing };
    const loss = await ops.crossEntropy(x, labels(2, 0, -100), options).item();
    t.true(Math.abs(loss - hard) < 1e-12, `${loss} for ${hard}`);
    const shared = await ops.crossEntropy(x, p, options).item();
    t.true(Math.abs(shared - soft) < 1e-12, `${shared} for ${soft}`);
  }
});

test('equal weights change nothing but the scale of a sum', async (t) => {
  const x = tensor(random([6, 5]).data, { shape: [6, 5], dtype: 'float64' });
  const y = labels(0, 1, 2, 3, 4, 0);
  const weight = tensor([3, 3, 3, 3, 3]);
  const [mean, sum, plain] = await Promise.all([
    ops.crossEntropy(x, y, { weight, labelSmoothing: 0.1 }).item(),
    ops.crossEntropy(x, y, { weight, labelSmoothing: 0.1, reduction: 'sum' }).item(),
    ops.crossEntropy(x, y, { labelSmoothing: 0.1 }).item(),
  ]);
  t.true(Math.abs(mean - plain) < 1e-13, `${mean} for ${plain}`);
  t.true(Math.abs(sum - 18 * plain) < 1e-12, `${sum} for ${18 * plain}`);
});
