/**
 * Layer normalisation against its formula, row by row.
 */
import test from 'ava';

import {
  type FloatTensor,
  LayerNorm,
  type Tensor,
  autocast,
  equal,
  grad,
  normal,
  setRequiresGrad,
  zeros,
} from '../../src/index.js';
import * as ops from '../../src/ops/layer-norm.js';
import { type OpCase, forbidden, opCases } from '../helpers/op-case.js';
import { type Nd, combine, lines, random, values } from '../helpers/nd.js';
import { close } from '../helpers/numbers.js';

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

test('lower gives the bits of a cast, and so do its gradients', async (t) => {
  const same = async (a: Tensor, b: Tensor): Promise<boolean> =>
    a.dtype === b.dtype && (await equal(a, b).all().item()) === true;
  for (const dtype of ['bfloat16', 'float16'] as const) {
    for (const shape of [
      [5, 36],
      [130, 37],
    ]) {
      const draw = (): FloatTensor => setRequiresGrad(normal(shape));
      const [x, residual, gamma, beta] = [draw(), draw(), normal([shape[1]]), normal([shape[1]])];
      const inputs = [x, residual, setRequiresGrad(gamma), setRequiresGrad(beta)] as const;
      const through = normal(shape, { dtype });
      const run = (lower: boolean): readonly Tensor[] => {
        const [y, s] = autocast(dtype, () => ops.layerNormResidual(x, residual, gamma, beta, { lower }));
        const alone = autocast(dtype, () => ops.layerNorm(x, gamma, undefined, { lower }));
        t.is(y.dtype, lower ? dtype : 'float32');
        t.is(alone.dtype, lower ? dtype : 'float32');
        t.is(s.dtype, 'float32'); // the stream of residuals keeps its precision
        const results = [y, alone].map((result) => result.to(dtype));
        const losses = results.map((result) => result.mul(through).to('float32').sum());
        const loss = losses[0].add(losses[1]).add(s.sum());
        return [...results, s, ...(grad(loss, inputs) as readonly Tensor[])];
      };
      const [lowered, cast] = [run(true), run(false)];
      for (const [i, result] of lowered.entries()) {
        t.true(await same(result, cast[i]), `${dtype} [${shape.join(', ')}] result ${i}`);
      }
    }
  }
});

test('lower changes nothing outside of autocast, nor what is not float32', (t) => {
  for (const dtype of ['float32', 'float64', 'bfloat16'] as const) {
    const x = normal([2, 5], { dtype });
    t.is(ops.layerNorm(x, undefined, undefined, { lower: true }).dtype, dtype);
  }
  const double = normal([2, 5], { dtype: 'float64' });
  t.is(
    autocast('bfloat16', () => ops.layerNorm(double, undefined, undefined, { lower: true })).dtype,
    'float64',
  );
  // A 16-bit input is normalised in float32 there, and given back in 16 bits.
  const half = normal([2, 5], { dtype: 'float16' }) as unknown as FloatTensor;
  t.is(autocast('bfloat16', () => new LayerNorm(5, { lower: true }).call(half)).dtype, 'bfloat16');
  t.is(autocast('bfloat16', () => new LayerNorm(5).call(half)).dtype, 'float32');
});

test('a residual sum alone has a gradient where gamma and beta want one', async (t) => {
  const [x, residual, gamma, beta] = [[2, 3], [2, 3], [3], [3]].map((shape) =>
    normal(shape).setRequiresGrad(),
  );
  const [, s] = ops.layerNormResidual(x, residual, gamma, beta);
  s.sum().backward();
  await close(t, x.grad, [1, 1, 1, 1, 1, 1]);
  await close(t, residual.grad, [1, 1, 1, 1, 1, 1]);
  t.deepEqual([gamma.grad, beta.grad], [undefined, undefined]);
});
