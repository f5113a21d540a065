/**
 * Layer normalisation against its formula, row by row.
 */
import test from 'ava';

import { type FloatTensor, grad, normal, setRequiresGrad, zeros } from '../../src/index.js';
import * as ops from '../../src/ops/layer-norm.js';
import { type OpCase, forbidden, opCases } from '../helpers/op-case.js';
import { type Nd, combine, lines, random, values } from '../helpers/nd.js';

function normalised(x: Nd, gamma?: Nd, beta?: Nd, { eps = 1e-6 }: ops.LayerNormOptions = {}): Nd {
  const y = lines(x, -1, (row) => {
    const mean = row.reduce((a, b) => a + b, 0) / row.length;
    const variance = row.reduce((a, b) => a + (b - mean) ** 2, 0) / row.length;
    return row.map((v) => (v - mean) / Math.sqrt(variance + eps));
  });
  return combine((v, g, b) => v * g + b, y, gamma ?? 1, beta ?? 0);
}

const SHAPES: readonly (readonly number[])[] = [
  [7],
  [3, 33],
  [2, 3, 65],
  [4, 2],
  [2, 1, 192],
  [0, 5],
  [300, 129],
];

const parameters = (n: number): [gamma: Nd, beta: Nd] => [random([n], 0.5, 1.5), random([n])];

const int32 = zeros([2, 3], { dtype: 'int32' });
const x = zeros([2, 3]);

/** The errors of both forms, from the arguments between x and the parameters. */
const errorsOf = (
  op: { readonly name: string },
  between: readonly unknown[],
): NonNullable<OpCase['errors']> => [
  [
    forbidden(op, int32, ...between.map(() => int32)),
    'DTYPE',
    `${op.name}: expected a floating-point x, got int32`,
  ],
  [
    forbidden(op, zeros([]), ...between.map(() => zeros([]))),
    'SHAPE',
    `${op.name}: expected at least one dimension, got a scalar`,
  ],
  [forbidden(op, x, ...between, zeros([2])), 'SHAPE', `${op.name}: expected gamma [3], got [2]`],
  [
    forbidden(op, x, ...between, undefined, zeros([3, 1])),
    'SHAPE',
    `${op.name}: expected beta [3], got [3, 1]`,
  ],
  [
    forbidden(op, x, ...between, zeros([3], { dtype: 'float64' })),
    'DTYPE',
    `${op.name}: dtypes differ: x is float32, gamma is float64; convert one with to()`,
  ],
  [
    forbidden(op, x, ...between, undefined, undefined, { eps: -1 }),
    'VALUE',
    `${op.name}: expected an eps of 0 or more, got -1`,
  ],
];

opCases(ops, {
  layerNorm: {
    reference: normalised,
    samples: [
      ...SHAPES.map((shape) => [random(shape), ...parameters(shape[shape.length - 1])]),
      [random([3, 7])],
      [random([3, 7]), random([7])],
      [random([3, 7]), undefined, random([7])],
      [random([3, 7]), ...parameters(7), { eps: 0.1 }],
      [random([3, 1]), ...parameters(1), { eps: 0.1 }],
      [values([1, 1, 1, 1], [1, 4]), ...parameters(4), { eps: 0.5 }],
      { args: [random([2, 33]).map((v) => v + 10), ...parameters(33), { eps: 1e-5 }], gradient: false },
    ],
    errors: errorsOf(ops.layerNorm, []),
  },
  layerNormResidual: {
    reference: (a: Nd, residual: Nd, gamma?: Nd, beta?: Nd, options?: ops.LayerNormOptions) => {
      const sum = combine((v, r) => v + r, a, residual);
      return [normalised(sum, gamma, beta, options), sum];
    },
    samples: [
      ...SHAPES.map((shape) => [random(shape), random(shape), ...parameters(shape[shape.length - 1])]),
      [random([3, 7]), random([3, 7])],
      [random([3, 7]), random([3, 7]), undefined, random([7]), { eps: 0.1 }],
    ],
    roundings: 2, // the sum, then its normalised form
    errors: [
      ...errorsOf(ops.layerNormResidual, [x]),
      [
        () => ops.layerNormResidual(x, zeros([3])),
        'SHAPE',
        'layerNormResidual: expected residual [2, 3], got [3]',
      ],
      [
        forbidden(ops.layerNormResidual, x, zeros([2, 3], { dtype: 'float64' })),
        'DTYPE',
        'layerNormResidual: dtypes differ: x is float32, residual is float64; convert one with to()',
      ],
    ],
  },
});

test('the gradient of a residual that goes around is added in passing', async (t) => {
  for (const dtype of ['float64', 'float32', 'bfloat16'] as const) {
    const shape = [5, 37];
    const draw = (): FloatTensor => normal(shape, { dtype });
    const [x, around, through] = [setRequiresGrad(draw()), draw(), draw()];
    const of = (y: FloatTensor): FloatTensor => grad(y.sum(), [x])[0] as FloatTensor;
    const together = of(ops.layerNorm(x).mul(through).add(x.mul(around)));
    const apart = of(ops.layerNorm(x).mul(through)).add(around);
    const difference = await together.sub(apart).abs().max().item();
    t.true(difference < { float64: 1e-14, float32: 1e-6, bfloat16: 0.04 }[dtype], `${dtype}: ${difference}`);
  }
});
