/**
 * Random numbers: the same seed gives the same bits, and the numbers have their distribution.
 */
import test from 'ava';

import {
  type DType,
  type Device,
  type NumericDType,
  type Tensor,
  getRandomState,
  manualSeed,
  setRandomState,
} from '../../src/tensor/index.js';
import * as ops from '../../src/ops/random.js';
import { follows, normalShare } from '../helpers/distributions.js';
import { FLOATS, type OpCase, forbidden, opCases } from '../helpers/op-case.js';
import { table } from '../helpers/nd.js';

const SHAPES: readonly (readonly number[])[] = [[], [7], [2, 3], [0, 3], [33, 65]];

type Options = Readonly<Record<string, unknown>> & { readonly dtype?: DType };

/** What every distribution promises: shape and dtype. The numbers stand further down. */
const shaped = (
  op: (shape: readonly number[], ...rest: never[]) => Tensor,
  name: string,
  rest: readonly unknown[],
  dtypes: readonly DType[],
  fallback: DType,
): OpCase => ({
  op: (shape: readonly number[], options: Options) => {
    const x = (op as (...args: unknown[]) => Tensor<NumericDType>)(shape, ...rest, options);
    return x.mul(0);
  },
  reference: (shape: readonly number[], options: Options) => table(shape, () => 0, options.dtype ?? fallback),
  samples: [...SHAPES.map((shape) => [shape, {}]), ...dtypes.map((dtype) => [[5], { dtype }])],
  dtypes: [fallback],
  gradient: false,
  errors: [[forbidden(op, [2, -1], ...rest), 'SHAPE', `${name}: expected sizes of 0 or more, got [2, -1]`]],
});

const withErrors = (opCase: OpCase, errors: OpCase['errors'] = []): OpCase => ({
  ...opCase,
  errors: [...(opCase.errors ?? []), ...errors],
});

const notFloating = (op: unknown, name: string, ...rest: unknown[]): NonNullable<OpCase['errors']> => [
  [
    forbidden(op, [2], ...rest, { dtype: 'int32' }),
    'DTYPE',
    `${name}: expected a floating-point dtype, got int32`,
  ],
];

opCases(ops, {
  uniform: withErrors(shaped(ops.uniform, 'uniform', [], FLOATS, 'float32'), [
    ...notFloating(ops.uniform, 'uniform'),
    [() => ops.uniform([2], { low: 1, high: 0 }), 'VALUE', 'uniform: expected low <= high, got 1 and 0'],
  ]),
  normal: withErrors(shaped(ops.normal, 'normal', [], FLOATS, 'float32'), [
    ...notFloating(ops.normal, 'normal'),
    [
      () => ops.normal([2], { std: -1 }),
      'VALUE',
      'normal: expected a standard deviation of 0 or more, got -1',
    ],
  ]),
  truncatedNormal: withErrors(shaped(ops.truncatedNormal, 'truncatedNormal', [], FLOATS, 'float32'), [
    ...notFloating(ops.truncatedNormal, 'truncatedNormal'),
    [
      () => ops.truncatedNormal([2], { low: 1, high: 1 }),
      'VALUE',
      'truncatedNormal: expected std >= 0 and low < high, got std 1, low 1, high 1',
    ],
  ]),
  bernoulli: withErrors(shaped(ops.bernoulli, 'bernoulli', [0.5], ['float32', 'uint8', 'int64'], 'float32'), [
    [() => ops.bernoulli([2], 1.5), 'VALUE', 'bernoulli: expected a probability in [0, 1], got 1.5'],
  ]),
  randint: withErrors(shaped(ops.randint, 'randint', [0, 10], ['int32', 'uint8', 'float32'], 'int64'), [
    [() => ops.randint([2], 3, 3), 'VALUE', 'randint: expected low < high, got 3 and 3'],
    [
      () => ops.randint([2], 0, 257, { dtype: 'uint8' }),
      'VALUE',
      'randint: expected a number that uint8 holds, got 256',
    ],
    [() => ops.randint([2], 0.5, 3), 'VALUE', 'randint: expected a number that int64 holds, got 0.5'],
  ]),
  permutation: {
    op: (n: number, options?: { readonly device?: Device }) => ops.permutation(n, options).mul(0),
    reference: (n: number) => table([n], () => 0, 'int64'),
    samples: [[0], [1], [7], [5000]],
    dtypes: ['int64'],
    gradient: false,
    errors: [[() => ops.permutation(-1), 'VALUE', 'permutation: expected a size of 0 or more, got -1']],
  },
});

/** The numbers of a seed. */
function draw(x: () => Tensor, seed = 5): number[] {
  manualSeed(seed);
  return Array.from(x().dataSync() as ArrayLike<number>);
}

const N = 20_000;

test.serial('uniform numbers fill their range evenly, the end left out', (t) => {
  for (const dtype of ['float32', 'float64'] as const) {
    const numbers = draw(() => ops.uniform([N], { low: -1, high: 3, dtype }));
    follows(t, numbers, (v) => (v + 1) / 4);
    t.true(numbers.every((v) => v >= -1 && v < 3));
  }
});

test.serial('normal numbers follow the normal distribution', (t) => {
  for (const dtype of ['float32', 'float64'] as const) {
    const numbers = draw(() => ops.normal([N], { mean: 2, std: 3, dtype }));
    follows(t, numbers, (v) => normalShare((v - 2) / 3));
    const mean = numbers.reduce((a, b) => a + b, 0) / N;
    const variance = numbers.reduce((a, b) => a + (b - mean) ** 2, 0) / N;
    const fourth = numbers.reduce((a, b) => a + (b - mean) ** 4, 0) / N;
    t.true(Math.abs(mean - 2) < (4 * 3) / Math.sqrt(N), `mean ${mean}`);
    t.true(Math.abs(variance - 9) < 4 * 9 * Math.sqrt(2 / N), `variance ${variance}`);
    t.true(
      Math.abs(fourth / variance ** 2 - 3) < 4 * Math.sqrt(24 / N),
      `kurtosis ${fourth / variance ** 2}`,
    );
  }
});

test.serial('truncated normal numbers follow the normal distribution between their limits', (t) => {
  for (const [low, high] of [
    [-2, 2],
    [0.5, 1],
    [-8, -1],
  ] as const) {
    // prettier-ignore
    const numbers = draw(() => ops.truncatedNormal([N], { mean: 0.5, std: 0.5, low, high }));
    const below = (v: number): number => normalShare((v - 0.5) / 0.5);
    follows(t, numbers, (v) => (below(v) - below(low)) / (below(high) - below(low)));
    t.true(numbers.every((v) => v >= low && v <= high));
  }
});

test.serial('bernoulli numbers are 1 as often as p says', (t) => {
  for (const p of [0, 0.1, 0.75, 1]) {
    const numbers = draw(() => ops.bernoulli([N], p));
    const rate = numbers.reduce((a, b) => a + b, 0) / N;
    t.true(Math.abs(rate - p) <= 4 * Math.sqrt((p * (1 - p)) / N), `${p}: ${rate}`);
    t.true(numbers.every((v) => v === 0 || v === 1));
  }
});

test.serial('randint draws every whole number equally often', (t) => {
  const numbers = draw(() => ops.randint([N], -3, 7));
  const counts = new Array<number>(10).fill(0);
  for (const v of numbers) counts[v + 3]++;
  const chiSquare = counts.reduce((total, c) => total + (c - N / 10) ** 2 / (N / 10), 0);
  t.true(chiSquare < 27.9, `chi-square ${chiSquare} of 9 degrees of freedom`); // once in a thousand
  t.is(numbers.length, N);
});

test.serial('a permutation holds every number once, and differs from the next', (t) => {
  for (const n of [1, 2, 33, 5000]) {
    const numbers = draw(() => ops.permutation(n));
    t.deepEqual(
      numbers.toSorted((a, b) => a - b),
      Array.from({ length: n }, (_, i) => i),
    );
  }
  manualSeed(1);
  t.notDeepEqual(ops.permutation(33).dataSync(), ops.permutation(33).dataSync());
});

test.serial('permutations of three come equally often', (t) => {
  manualSeed(3);
  const counts = new Map<string, number>();
  for (let i = 0; i < 1200; i++) {
    const order = ops.permutation(3).dataSync().join('');
    counts.set(order, (counts.get(order) ?? 0) + 1);
  }
  t.is(counts.size, 6);
  const chiSquare = [...counts.values()].reduce((total, c) => total + (c - 200) ** 2 / 200, 0);
  t.true(chiSquare < 20.5, `chi-square ${chiSquare} of 5 degrees of freedom`);
});

test.serial('the same seed gives the same bits, in one draw or in several, and another seed others', (t) => {
  const distributions = [
    () => ops.uniform([1000]),
    () => ops.normal([1000]),
    () => ops.truncatedNormal([1000]),
    () => ops.bernoulli([1000], 0.3),
    () => ops.randint([1000], 0, 1000),
    () => ops.permutation(1000),
  ];
  for (const x of distributions) {
    t.deepEqual(draw(x, 7), draw(x, 7));
    t.notDeepEqual(draw(x, 7), draw(x, 8));
  }
  const whole = draw(() => ops.uniform([64]), 7);
  manualSeed(7);
  t.deepEqual([...ops.uniform([24]).dataSync(), ...ops.uniform([40]).dataSync()], whole);
});

test.serial('a stored state continues the sequence, and an error does not move it', (t) => {
  manualSeed(11);
  ops.normal([5]);
  const state = getRandomState();
  const expected = ops.normal([5]).dataSync();
  setRandomState(state);
  t.deepEqual(ops.normal([5]).dataSync(), expected);
  setRandomState(state);
  t.throws(() => ops.uniform([NaN]));
  t.throws(() => ops.uniform([-4]));
  t.throws(() => ops.permutation(-8));
  t.deepEqual(getRandomState(), state);
});

test.serial('a seed is a whole number', (t) => {
  for (const seed of [-1, 0.5, NaN, 2 ** 53]) {
    t.throws(() => manualSeed(seed), {
      message: `random: expected the seed to be a whole number from 0 to 2^53 - 1, got ${seed}`,
    });
  }
  t.throws(() => setRandomState({ seed: 0, offset: -1 }), {
    message: 'random: expected the offset to be a whole number from 0 to 2^53 - 1, got -1',
  });
});
