/**
 * The fused linear layer against the simple ops that it stands for.
 */
import test from 'ava';

import { type FloatDType, type FloatTensor, scope, uniform, zeros } from '../../src/index.js';
import * as ops from '../../src/ops/linear.js';
import { forbidden, opCases } from '../helpers/op-case.js';
import { type Nd, combine, permuted, product, random, reshaped } from '../helpers/nd.js';
import { gelu, geluTanh, silu } from '../helpers/functions.js';
import { relativeError } from '../helpers/golden.js';

interface Options {
  readonly activation?: ops.Activation;
  readonly residual?: Nd;
}

const ACTIVATIONS = {
  none: (x: number): number => x,
  relu: (x: number): number => Math.max(x, 0),
  gelu,
  geluTanh,
  silu,
};

const activations = Object.keys(ACTIVATIONS) as ops.Activation[];

opCases(ops, {
  linear: {
    reference: (x: Nd, weight: Nd, bias?: Nd, { activation = 'none', residual }: Options = {}) => {
      const rows = x.shape.length === 1 ? reshaped(x, [1, x.size]) : x;
      let y = product(rows, permuted(weight, [1, 0]));
      if (bias !== undefined) y = combine((a, b) => a + b, y, bias);
      y = reshaped(y.map(ACTIVATIONS[activation]), [...x.shape.slice(0, -1), weight.shape[0]]);
      return residual === undefined ? y : combine((a, b) => a + b, y, residual);
    },
    roundings: { cpu: 1, cuda: 2 }, // CUDA may store the biased sum before it takes the activation
    samples: [
      [random([3, 5]), random([7, 5])],
      [random([5]), random([7, 5]), random([7])],
      [random([2, 3, 5]), random([1, 5]), random([1])],
      [random([2, 1, 33]), random([65, 33]), undefined, { residual: random([2, 1, 65]) }],
      ...activations.flatMap((activation) => [
        [random([4, 7], -1, 1), random([33, 7], -1, 1), random([33]), { activation }],
        // rows of whole packs, as a library wants them that does all at once
        [random([8, 16], -1, 1), random([32, 16], -1, 1), random([32]), { activation }],
        [
          random([2, 3, 5], -1, 1),
          random([6, 5], -1, 1),
          random([6]),
          { activation, residual: random([2, 3, 6]) },
        ],
        [random([3, 5], -1, 1), random([6, 5], -1, 1), undefined, { activation }],
      ]),
      [random([0, 5]), random([7, 5]), random([7]), { activation: 'gelu', residual: random([0, 7]) }],
      [random([3, 0]), random([7, 0]), random([7]), { activation: 'gelu' }],
      [random([3, 5]), random([0, 5]), random([0])],
      [random([130, 64], -1, 1), random([96, 64], -1, 1), random([96]), { activation: 'gelu' }],
    ],
    errors: [
      [
        () => ops.linear(zeros([2, 3]), zeros([4, 5])),
        'SHAPE',
        'linear: expected x [..., 5] for a weight [4, 5], got [2, 3]',
      ],
      [
        () => ops.linear(zeros([]), zeros([4, 5])),
        'SHAPE',
        'linear: expected x [..., 5] for a weight [4, 5], got []',
      ],
      [
        () => ops.linear(zeros([2, 3]), zeros([3])),
        'SHAPE',
        'linear: expected weight with 2 dimensions, got [3]',
      ],
      [
        () => ops.linear(zeros([2, 3]), zeros([4, 3]), zeros([3])),
        'SHAPE',
        'linear: expected bias [4], got [3]',
      ],
      ...(['none', 'gelu'] as const).flatMap((activation) =>
        [false, true].map(
          (requiresGrad) =>
            [
              () =>
                ops.linear(zeros([2, 3], { requiresGrad }), zeros([4, 3]), undefined, {
                  activation,
                  residual: zeros([4]),
                }),
              'SHAPE',
              'linear: expected residual [2, 4], got [4]',
            ] as const,
        ),
      ),
      [
        forbidden(ops.linear, zeros([2, 3], { dtype: 'int32' }), zeros([4, 3])),
        'DTYPE',
        'linear: expected a floating-point x, got int32',
      ],
      [
        forbidden(ops.linear, zeros([2, 3]), zeros([4, 3], { dtype: 'float64' })),
        'DTYPE',
        'linear: dtypes differ: x is float32, weight is float64; convert one with to()',
      ],
      [
        forbidden(ops.linear, zeros([2, 3]), zeros([4, 3]), zeros([4], { dtype: 'float64' })),
        'DTYPE',
        'linear: dtypes differ: x is float32, bias is float64; convert one with to()',
      ],
      [
        forbidden(ops.linear, zeros([2, 3]), zeros([4, 3]), undefined, {
          residual: zeros([2, 4], { dtype: 'float64' }),
        }),
        'DTYPE',
        'linear: dtypes differ: x is float32, residual is float64; convert one with to()',
      ],
      ...[false, true].map(
        (requiresGrad) =>
          [
            forbidden(ops.linear, zeros([2, 3], { requiresGrad }), zeros([4, 3]), undefined, {
              activation: 'elu',
            }),
            'VALUE',
            "linear: expected an activation of none, gelu, geluTanh, relu or silu, got 'elu'",
          ] as const,
      ),
    ],
  },
});

test('16-bit operands take a float32 bias, and a float32 residual, which makes the result float32', async (t) => {
  for (const dtype of ['bfloat16', 'float16'] as const) {
    for (const activation of activations) {
      const [x, w, b, r] = [[5, 48], [33, 48], [33], [5, 33]].map((shape) => uniform(shape, { low: -1 }));
      // The types of linear know one dtype; autocast mixes them.
      const [x16, w16] = [x, w].map((operand): FloatTensor => operand.to(dtype));
      const [exact, mixed, narrow] = scope((): FloatTensor[] => [
        ops.linear(x16.to('float64'), w16.to('float64'), b.to('float64'), {
          activation,
          residual: r.to('float64'),
        }),
        ops.linear<FloatDType>(x16, w16, b, { activation, residual: r }),
        ops.linear(x16, w16, b, { activation }).sub(ops.linear(x16, w16, undefined, { activation })),
      ]);
      t.is(mixed.dtype, 'float32');
      t.is(narrow.dtype, dtype);
      const error = relativeError(await mixed.data(), await exact.data());
      t.true(error < 1e-5, `${dtype}, ${activation}: ${error}`);
      if (activation === 'none') {
        const bias = Array.from({ length: 5 }, () => [...b.dataSync()]).flat();
        t.true(relativeError(await narrow.data(), bias) < 2 ** -5);
      }
    }
  }
});

test('a bias has its gradient beside a frozen weight', (t) => {
  const [x, w] = [uniform([2, 3, 4]), uniform([5, 4])];
  const bias = zeros([5], { requiresGrad: true });
  ops.linear(x, w, bias).sum().backward();
  t.deepEqual([...(bias.grad?.dataSync() ?? [])], [6, 6, 6, 6, 6]);
});
