/**
 * Batch normalisation against its formula, channel by channel.
 */
import test from 'ava';

import { type FloatTensor, Tensor, batchNorm, ones, tensor, zeros } from '../../src/index.js';
import * as ops from '../../src/ops/batch-norm.js';
import { forbidden, opCases } from '../helpers/op-case.js';
import { type Nd, combine, fold, random, reshaped, values } from '../helpers/nd.js';

interface Options {
  readonly eps?: number;
  readonly residual?: Nd;
  readonly activation?: 'none' | 'relu';
  /** Running statistics: numbers, so that no derivative by them is asked for. */
  readonly running?: { readonly mean: readonly number[]; readonly variance: readonly number[] };
}

function normalised(x: Nd, gamma?: Nd, beta?: Nd, options: Options = {}): Nd {
  const { eps = 1e-5, residual, activation, running } = options;
  const perChannel = (v: Nd): Nd => reshaped(v, [1, v.size, ...x.shape.slice(2).map(() => 1)]);
  const given = (v: readonly number[] | undefined): Nd | undefined => v && perChannel(values(v));
  const dim = [0, 2, 3].slice(0, x.shape.length - 1);
  const average = (v: Nd): Nd =>
    fold(v, (all) => all.reduce((a, b) => a + b, 0) / all.length, { dim, keepdim: true });
  const mean = given(running?.mean) ?? average(x);
  const variance = given(running?.variance) ?? average(combine((v, m) => (v - m) ** 2, x, mean));
  const y = combine(
    (v, m, s, g, b, r) => ((v - m) / Math.sqrt(s + eps)) * g + b + r,
    x,
    mean,
    variance,
    gamma === undefined ? 1 : perChannel(gamma),
    beta === undefined ? 0 : perChannel(beta),
    residual ?? 0,
  );
  return activation === 'relu' ? y.map((v) => Math.max(v, 0)) : y;
}

/** The op with running statistics of x's dtype. */
function normalise(
  x: FloatTensor,
  gamma?: FloatTensor,
  beta?: FloatTensor,
  { running, ...options }: ops.BatchNormOptions & Pick<Options, 'running'> = {},
): FloatTensor {
  if (running === undefined) return batchNorm(x, gamma, beta, options);
  const { dtype, device } = x instanceof Tensor ? x : ones([]); // the op is to refuse what is no tensor
  return batchNorm(x, gamma, beta, {
    ...options,
    runningMean: tensor(running.mean, { dtype, device }),
    runningVar: tensor(running.variance, { dtype, device }),
  });
}

const parameters = (n: number): [gamma: Nd, beta: Nd] => [random([n], 0.5, 1.5), random([n])];
const RUNNING = { mean: [0.5, -0.25, 1], variance: [1, 0.5, 2] };
const x = zeros([2, 3, 4, 4]);
const three = zeros([3]);

opCases(ops, {
  batchNorm: {
    op: normalise,
    reference: normalised,
    samples: [
      [random([4, 3, 2, 5]), ...parameters(3)],
      [random([5, 7]), ...parameters(7)],
      [random([2, 3, 3, 3])],
      [random([2, 17, 3, 3]), random([17], 0.5, 1.5)],
      [random([2, 3, 3, 3]), undefined, random([3]), { eps: 0.1 }],
      [random([70, 33, 2, 1]), ...parameters(33), { activation: 'relu' }],
      [random([3, 5, 2, 3]), ...parameters(5), { residual: random([3, 5, 2, 3]) }],
      [random([3, 5, 2, 3]), ...parameters(5), { residual: random([3, 5, 2, 3]), activation: 'relu' }],
      [random([2, 3, 3, 3]), ...parameters(3), { running: RUNNING }],
      [
        random([1, 3, 1, 1]),
        ...parameters(3),
        { running: RUNNING, activation: 'relu', residual: random([1, 3, 1, 1]) },
      ],
      [random([0, 3, 2, 2]), ...parameters(3)],
      { args: [random([2, 3, 9, 9]).map((v) => v + 100), ...parameters(3), { eps: 1e-3 }], gradient: false },
    ],
    roundings: 2, // a residual meets terms of either sign
    errors: [
      [() => batchNorm(three), 'SHAPE', 'batchNorm: expected x [B, C] or [B, C, H, W], got [3]'],
      [() => batchNorm(x, zeros([4])), 'SHAPE', 'batchNorm: expected gamma [3], got [4]'],
      [
        () => batchNorm(x, three, three, { runningMean: three }),
        'VALUE',
        'batchNorm: expected both running statistics or neither, got one',
      ],
      [
        () => batchNorm(x, three, three, { training: false }),
        'VALUE',
        'batchNorm: expected running statistics outside training, got none',
      ],
      [
        () => batchNorm(zeros([1, 3, 1, 1]), three, three),
        'SHAPE',
        'batchNorm: expected more than one value per channel in training, got x [1, 3, 1, 1]',
      ],
      [
        () => batchNorm(x, three, three, { eps: -1 }),
        'VALUE',
        'batchNorm: expected an eps of 0 or more, got -1',
      ],
      [
        () => batchNorm(x, three, three, { momentum: 2 }),
        'VALUE',
        'batchNorm: expected a momentum in [0, 1], got 2',
      ],
      [
        () => batchNorm(x, three, three, { residual: three }),
        'SHAPE',
        'batchNorm: expected residual [2, 3, 4, 4], got [3]',
      ],
      [
        forbidden(batchNorm, x, zeros([3], { dtype: 'float64' })),
        'DTYPE',
        'batchNorm: dtypes differ: x is float32, gamma is float64; convert one with to()',
      ],
      [
        forbidden(batchNorm, x, three, three, { activation: 'gelu' }),
        'VALUE',
        "batchNorm: expected an activation of none or relu, got 'gelu'",
      ],
    ],
  },
});

test('training moves the running statistics, by the unbiased variance; evaluation leaves them', async (t) => {
  const runningMean = tensor([1, 2]);
  const runningVar = tensor([1, 1]);
  const batch = tensor([0, 1, 2, 1, 4, 1], { shape: [3, 2] }); // columns 0, 2, 4 and 1, 1, 1
  batchNorm(batch, undefined, undefined, { runningMean, runningVar, training: true, momentum: 0.25 });
  t.deepEqual([...(await runningMean.data())], [0.75 + 0.25 * 2, 1.5 + 0.25]);
  t.deepEqual([...(await runningVar.data())], [0.75 + 0.25 * 4, 0.75]);
  batchNorm(batch, undefined, undefined, { runningMean, runningVar });
  t.deepEqual([...(await runningMean.data())], [1.25, 1.75]);
});

test('a float32 residual beside bfloat16 images has a float32 gradient', async (t) => {
  for (const activation of ['none', 'relu'] as const) {
    const x = tensor([0, 1, 2, 4], { shape: [4, 1], dtype: 'bfloat16', requiresGrad: true }) as FloatTensor;
    const residual = tensor([1, -9, 1, 1], { shape: [4, 1], requiresGrad: true }) as FloatTensor;
    const y = batchNorm(x, undefined, undefined, { residual, activation });
    y.backward({ gradient: ones([4, 1], { dtype: 'bfloat16' }) });
    t.is(residual.grad?.dtype, 'float32');
    t.deepEqual(
      [...((await residual.grad?.data()) ?? [])],
      [Number(activation === 'none'), Number(activation === 'none'), 1, 1],
    );
  }
});
