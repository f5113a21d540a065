/**
 * Reductions against plain loops over the elements that are folded.
 */
import { zeros } from '../../src/index.js';
import * as ops from '../../src/ops/reduce.js';
import { FLOATS, NUMERIC, type OpCase, forbidden, opCases } from '../helpers/op-case.js';
import { Nd, fold, random, sizeOf, truths, values } from '../helpers/nd.js';

const { NaN: nan, POSITIVE_INFINITY: inf } = Number;
const int32 = zeros([2], { dtype: 'int32' });
const bool = zeros([2, 3], { dtype: 'bool' });

const DIMS: readonly (readonly [shape: readonly number[], options?: ops.ReduceOptions])[] = [
  [[]],
  [[], { dim: 0 }],
  [[7], { dim: -1 }],
  [[33], { keepdim: true }],
  [[65, 3], { dim: 0 }],
  [[3, 65], { dim: 1, keepdim: true }],
  [[2, 3, 4, 5], { dim: [1, -1] }],
  [[2, 3, 4, 5], { dim: [-2, 0], keepdim: true }],
  [[2, 1, 5], { dim: 1 }],
  [[2, 3, 4]],
  [[0, 3], { dim: 1 }],
  [[130, 257], { dim: 0 }],
  [[130, 257], { dim: 1 }],
  [[130, 257]],
];

/** Reductions of nothing, for those that have a value there. */
const EMPTY: typeof DIMS = [
  [[0, 3], { dim: 0 }],
  [[2, 0], { keepdim: true }],
];

/** All different, so that a maximum has one place, in a random order. */
function distinct(shape: readonly number[]): Nd {
  const size = sizeOf(shape);
  const order = Array.from(random([size]).data, (v, i) => [v, i] as const).sort(([a], [b]) => a - b);
  const data = new Float64Array(size);
  order.forEach(([, i], rank) => (data[i] = (rank - size / 2) / 16));
  return new Nd(shape, data);
}

const dimErrors = (name: keyof typeof ops, x: unknown): NonNullable<OpCase['errors']> => [
  [
    forbidden(ops[name], x, { dim: 2 }),
    'INDEX',
    `${name}: dim 2 is outside [-2, 2) for a tensor with 2 dimensions`,
  ],
  [
    forbidden(ops[name], x, { dim: [] }),
    'VALUE',
    `${name}: expected at least one dim (leave it out to reduce all), got []`,
  ],
];

const average = (v: readonly number[]): number => v.reduce((a, b) => a + b, 0) / v.length;

const spread = (v: readonly number[], correction: number): number => {
  const mean = average(v);
  return v.reduce((total, x) => total + (x - mean) ** 2, 0) / Math.max(v.length - correction, 0);
};

const extreme = (name: 'max' | 'min', f: (...values: number[]) => number): OpCase => ({
  reference: (x: Nd, options: ops.ReduceOptions = {}) => fold(x, (v) => v.reduce((a, b) => f(a, b)), options),
  samples: [
    ...DIMS.map(([shape, options]) => [distinct(shape), options]),
    { args: [values([1, nan, 3, inf, 2, -inf], [2, 3]), { dim: 1 }], gradient: false },
    { args: [values([-inf, -inf, inf, inf], [2, 2]), { dim: 1 }], gradient: false },
  ],
  dtypes: FLOATS,
  errors: [
    ...dimErrors(name, zeros([2, 3])),
    [forbidden(ops[name], bool), 'DTYPE', `${name}: expected a numeric tensor, got bool`],
    [
      () => ops[name](zeros([0, 3]), { dim: 0 }),
      'SHAPE',
      `${name}: expected at least one element to reduce, got [0, 3]`,
    ],
    [
      () => ops[name](zeros([0, 5, 0]), { dim: 0 }),
      'SHAPE',
      `${name}: expected at least one element to reduce, got [0, 5, 0]`,
    ],
  ],
});

/** PyTorch's rule: the first of the best, and a NaN is the best. */
const firstBest = (v: readonly number[], better: (a: number, b: number) => boolean): number =>
  v.reduce((at, x, i) => (better(x, v[at]) || (Number.isNaN(x) && !Number.isNaN(v[at])) ? i : at), 0);

const position = (name: 'argmax' | 'argmin', better: (a: number, b: number) => boolean): OpCase => ({
  reference: (x: Nd, { dim, keepdim = false }: ops.ArgOptions = {}) =>
    fold(x, (v) => firstBest(v, better), { dim, keepdim }).as('int64'),
  samples: [
    ...DIMS.filter(([, options]) => !Array.isArray(options?.dim)).map(([shape, options]) => [
      random(shape),
      options,
    ]),
    [values([1, 3, 3, 1, 1, 3], [2, 3]), { dim: 1 }],
    [values([2, 2, 2, 2]), {}],
    [values([1, nan, 3, nan, inf, -inf], [2, 3], 'float32'), { dim: 1 }],
  ],
  dtypes: NUMERIC,
  gradient: false,
  errors: [
    [
      () => ops[name](zeros([2, 3]), { dim: -3 }),
      'INDEX',
      `${name}: dim -3 is outside [-2, 2) for a tensor with 2 dimensions`,
    ],
    [forbidden(ops[name], bool), 'DTYPE', `${name}: expected a numeric tensor, got bool`],
    [
      () => ops[name](zeros([3, 0]), { dim: 1 }),
      'SHAPE',
      `${name}: expected at least one element in dim 1, got [3, 0]`,
    ],
  ],
});

const truth = (name: 'any' | 'all', f: (v: readonly number[]) => boolean): OpCase => ({
  reference: (x: Nd, options: ops.ReduceOptions = {}) => fold(x, (v) => (f(v) ? 1 : 0), options),
  samples: [
    ...[...DIMS, ...EMPTY].map(([shape, options]) => [truths(shape, name === 'any' ? 0.1 : 0.9), options]),
    [truths([130, 257], name === 'any' ? 0 : 1)],
  ],
  dtypes: ['bool'],
  gradient: false,
  errors: [
    ...dimErrors(name, bool),
    [forbidden(ops[name], int32), 'DTYPE', `${name}: expected a bool tensor, got int32`],
  ],
});

opCases(ops, {
  sum: {
    reference: (x: Nd, options: ops.ReduceOptions = {}) =>
      fold(x, (v) => v.reduce((a, b) => a + b, 0), options),
    samples: [...DIMS, ...EMPTY].map(([shape, options]) => [random(shape), options]),
    errors: dimErrors('sum', zeros([2, 3])),
  },
  mean: {
    reference: (x: Nd, options: ops.ReduceOptions = {}) => fold(x, average, options),
    samples: [
      ...DIMS.map(([shape, options]) => [random(shape), options]),
      ...EMPTY.map(([shape, options]) => ({ args: [random(shape), options], gradient: false })),
    ],
    errors: [
      ...dimErrors('mean', zeros([2, 3])),
      [forbidden(ops.mean, int32), 'DTYPE', 'mean: expected a floating-point x, got int32'],
    ],
  },
  variance: {
    reference: (x: Nd, options: ops.VarianceOptions = {}) =>
      fold(x, (v) => spread(v, options.correction ?? 1), options),
    samples: [
      ...DIMS.filter(([shape]) => shape.length > 0 && !shape.includes(1)).map(([shape, o]) => [
        random(shape),
        o,
      ]),
      [random([3, 5]), { dim: 1, correction: 0 }],
      [random([2, 1, 5]), { dim: 1, correction: 0, keepdim: true }],
      { args: [random([33]).map((v) => v + 100), { correction: 0 }], gradient: false },
      { args: [random([2, 1]), { dim: 1 }], gradient: false },
    ],
    errors: [
      ...dimErrors('variance', zeros([2, 3])),
      [forbidden(ops.variance, int32), 'DTYPE', 'variance: expected a floating-point x, got int32'],
      [
        () => ops.variance(zeros([2]), { correction: NaN }),
        'VALUE',
        'variance: expected a finite correction, got nan',
      ],
    ],
  },
  max: extreme('max', Math.max),
  min: extreme('min', Math.min),
  any: truth('any', (v) => v.some((x) => x !== 0)),
  all: truth('all', (v) => v.every((x) => x !== 0)),
  argmax: position('argmax', (a, b) => a > b),
  argmin: position('argmin', (a, b) => a < b),
});
