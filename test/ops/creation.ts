/**
 * Making tensors, and converting them.
 */
import test from 'ava';

import { grad, tensor, zeros } from '../../src/index.js';
import * as ops from '../../src/ops/creation.js';
import { type DType, isFloating } from '../../src/tensor/index.js';
import { ALL, NUMERIC, type OpCase, forbidden, opCases } from '../helpers/op-case.js';
import { type Nd, random, table, values } from '../helpers/nd.js';

const SHAPES: readonly (readonly number[])[] = [[], [7], [0], [2, 0], [3, 1, 5], [130, 257]];

const shapeError = (name: string, op: () => unknown): NonNullable<OpCase['errors']> => [
  [op, 'SHAPE', `${name}: expected sizes of 0 or more, got [2, -1]`],
];

/** Creates in the default dtype, float32. */
const constant = (name: 'zeros' | 'ones', value: number): OpCase => ({
  reference: (shape: readonly number[]) => table(shape, () => value),
  samples: SHAPES.map((shape) => [shape]),
  dtypes: ['float32'],
  gradient: false,
  errors: [
    ...shapeError(name, () => ops[name]([2, -1])),
    [
      () => ops[name]([1, 1, 1, 1, 1, 1, 1, 1, 1]),
      'SHAPE',
      `${name}: expected at most 8 dimensions, got more`,
    ],
    [
      forbidden(ops[name], [2], { device: 'tpu' }),
      'DEVICE',
      "device: expected cpu, cuda or cuda:N, got 'tpu'",
    ],
  ],
});

const like = (value: number): OpCase => ({
  reference: (x: Nd) => x.map(() => value),
  samples: SHAPES.map((shape) => [random(shape)]),
  dtypes: ALL,
  gradient: false,
});

/** An option of every dtype, the numbers and the dtype that they give. */
const inEveryDType = (args: readonly unknown[]): unknown[][] => ALL.map((dtype) => [...args, { dtype }]);

const chosen = (options: { dtype?: DType } = {}, fallback: DType = 'float32'): DType =>
  options.dtype ?? fallback;

opCases(ops, {
  full: {
    reference: (shape: readonly number[], value: number, options?: { dtype: DType }) =>
      table(shape, () => value, chosen(options)),
    samples: [[[2, 3], 0.5], ...SHAPES.map((shape) => [shape, -1]), ...inEveryDType([[33], 1])],
    dtypes: ['float32'],
    gradient: false,
    errors: [
      ...shapeError('full', () => ops.full([2, -1], 0)),
      [
        () => ops.full([2], 256, { dtype: 'uint8' }),
        'VALUE',
        'full: expected a number that uint8 holds, got 256',
      ],
      [
        () => ops.full([2], -1, { dtype: 'uint8' }),
        'VALUE',
        'full: expected a number that uint8 holds, got -1',
      ],
      [() => ops.full([2], 2, { dtype: 'bool' }), 'VALUE', 'full: expected a number that bool holds, got 2'],
      [
        () => ops.full([2], 2 ** 63, { dtype: 'int64' }),
        'VALUE',
        'full: expected a number that int64 holds, got 9.22337203685478e+18',
      ],
    ],
  },
  zeros: constant('zeros', 0),
  ones: constant('ones', 1),
  zerosLike: like(0),
  onesLike: like(1),
  arange: {
    reference: (...args: (number | ops.ArangeOptions)[]) => {
      const numbers = args.filter((arg) => typeof arg === 'number');
      const [start, stop] = numbers.length === 1 ? [0, numbers[0]] : numbers;
      const { step = 1, dtype = 'int64' } = (args[numbers.length] ?? {}) as ops.ArangeOptions;
      const out: number[] = [];
      for (let i = 0; step > 0 ? start + i * step < stop : start + i * step > stop; i++)
        out.push(start + i * step);
      return values(out, [out.length], dtype);
    },
    samples: [
      [5],
      [0],
      [-3],
      [2, 5],
      [5, 2, { step: -1 }],
      [0, 1, { step: 0.25, dtype: 'float32' }],
      [1, 0, { step: -0.3, dtype: 'float64' }],
      [-2, 2.5, { dtype: 'bfloat16' }],
      [40_000],
      ...NUMERIC.map((dtype) => [1, 10, { step: 2, dtype }]),
    ],
    dtypes: ['int64'],
    gradient: false,
    errors: [
      [
        () => ops.arange(0, 5, { step: 0 }),
        'VALUE',
        'arange: expected a finite range and a step other than 0, got 0 to 5 by 0',
      ],
      [
        () => ops.arange(Infinity),
        'VALUE',
        'arange: expected a finite range and a step other than 0, got 0 to Infinity by 1',
      ],
      [
        () => ops.arange(0, 1, { step: 0.5 }),
        'VALUE',
        'arange: expected whole numbers for int64, got 0 by 0.5',
      ],
      [
        () => ops.arange(250, 260, { dtype: 'uint8' }),
        'VALUE',
        'arange: expected a number that uint8 holds, got 259',
      ],
      [
        () => ops.arange(-1, 2, { dtype: 'uint8' }),
        'VALUE',
        'arange: expected a number that uint8 holds, got -1',
      ],
    ],
  },
  eye: {
    reference: (n: number, options?: { dtype: DType }) =>
      table([n, n], (i, j) => (i === j ? 1 : 0), chosen(options)),
    samples: [[0], [1], [7], ...inEveryDType([3])],
    dtypes: ['float32'],
    gradient: false,
    errors: [[() => ops.eye(-1), 'SHAPE', 'eye: expected sizes of 0 or more, got [-1, -1]']],
  },
  to: {
    reference: (x: Nd, dtype: DType) => {
      const converted = isFloating(dtype)
        ? x
        : dtype === 'bool'
          ? x.map((v) => Number(v !== 0))
          : x.map(Math.trunc);
      return converted.as(dtype);
    },
    samples: [
      [random([]), 'float64'],
      [random([5, 7]), 'float64'],
      // The steps of finite differences are below the grid of the others.
      ...ALL.map((dtype) => ({ args: [random([5, 7], 0, 3), dtype], gradient: false })),
      { args: [random([0, 3]), 'float32'], gradient: false },
      { args: [random([130, 257]), 'float16'], gradient: false },
      [values([NaN, 300, -5, Infinity], [4], 'float32'), 'float64'],
    ],
    dtypes: ALL,
    errors: [],
  },
  clone: {
    reference: (x: Nd) => x,
    samples: SHAPES.map((shape) => [random(shape)]),
    dtypes: ALL,
  },
});

test('floats become integers by truncation, saturating, with NaN as 0', (t) => {
  const x = ops.to(ops.full([1], -1e10), 'int32');
  t.deepEqual(x.dataSync(), Int32Array.of(-(2 ** 31)));
  t.deepEqual(ops.to(ops.full([1], NaN), 'int64').dataSync(), Float64Array.of(0));
  t.deepEqual(ops.to(ops.full([1], 300), 'uint8').dataSync(), Uint8Array.of(255));
  t.deepEqual(ops.to(ops.full([1], -2.9), 'int32').dataSync(), Int32Array.of(-2));
});

test('the gradient of a conversion has the dtype of what was converted', (t) => {
  const x = zeros([3]).setRequiresGrad();
  const [gradient] = grad(ops.to(x, 'float64'), [x], { gradients: [tensor(Float64Array.of(1, 2, 3))] });
  t.is(gradient?.dtype, 'float32');
  t.deepEqual(gradient?.dataSync(), Float32Array.of(1, 2, 3));
  t.false(ops.to(x, 'int32').requiresGrad);
});

test('an unknown dtype is an error that lists them', (t) => {
  t.throws(forbidden(zeros, [2], { dtype: 'float8' }), {
    message:
      "dtype: expected one of float32, bfloat16, float16, float64, int32, int64, uint8, bool, got 'float8'",
  });
});
