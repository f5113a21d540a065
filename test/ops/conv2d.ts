/**
 * Convolution against its sum, tap by tap.
 */
import test from 'ava';

import { arange, ones, relu, zeros } from '../../src/index.js';
import * as ops from '../../src/ops/conv2d.js';
import { forbidden, opCases } from '../helpers/op-case.js';
import { type Nd, combine, random, table } from '../helpers/nd.js';

interface Options {
  readonly stride?: number | readonly [number, number];
  readonly padding?: number | readonly [number, number];
  readonly dilation?: number | readonly [number, number];
  readonly groups?: number;
  readonly residual?: Nd;
  readonly activation?: 'none' | 'relu';
}

const pair = (value: number | readonly [number, number]): readonly [number, number] =>
  typeof value === 'number' ? [value, value] : value;

function convolved(x: Nd, weight: Nd, bias?: Nd, options: Options = {}): Nd {
  const { groups = 1, residual, activation = 'none' } = options;
  const [stride, padding, dilation] = [options.stride ?? 1, options.padding ?? 0, options.dilation ?? 1].map(
    pair,
  );
  const [batch, , height, width] = x.shape;
  const [out, own, kh, kw] = weight.shape;
  const count = (n: number, k: number, d: 0 | 1): number =>
    Math.floor((n + 2 * padding[d] - dilation[d] * (k - 1) - 1) / stride[d]) + 1;
  const y = table([batch, out, count(height, kh, 0), count(width, kw, 1)], (b, o, i, j) => {
    let sum = bias?.at([o]) ?? 0;
    const first = Math.floor(o / (out / groups)) * own;
    for (let c = 0; c < own; c++) {
      for (let p = 0; p < kh; p++) {
        for (let q = 0; q < kw; q++) {
          const row = i * stride[0] - padding[0] + p * dilation[0];
          const column = j * stride[1] - padding[1] + q * dilation[1];
          if (row < 0 || row >= height || column < 0 || column >= width) continue;
          sum += x.at([b, first + c, row, column]) * weight.at([o, c, p, q]);
        }
      }
    }
    return sum;
  });
  const whole = residual === undefined ? y : combine((a, r) => a + r, y, residual);
  return activation === 'relu' ? whole.map((v) => Math.max(v, 0)) : whole;
}

const image = zeros([1, 4, 5, 5]);

opCases(ops, {
  conv2d: {
    reference: convolved,
    roundings: 2, // of the sum, where a device does not add bias and residual on the way, and of the whole
    samples: [
      [random([1, 1, 1, 1]), random([1, 1, 1, 1])],
      [random([2, 3, 5, 6]), random([4, 3, 1, 1]), random([4])],
      [random([2, 3, 5, 6]), random([4, 3, 3, 3]), random([4]), { padding: 1 }],
      [random([1, 2, 7, 8]), random([3, 2, 3, 2]), undefined, { stride: [2, 3], padding: [1, 0] }],
      [random([1, 3, 8, 8]), random([2, 3, 4, 4]), random([2]), { stride: 4 }],
      [random([1, 2, 9, 9]), random([2, 2, 3, 3]), random([2]), { dilation: 2, padding: 2 }],
      [random([2, 6, 5, 5]), random([4, 3, 3, 3]), random([4]), { groups: 2, padding: 1, stride: 2 }],
      [random([2, 17, 4, 5]), random([17, 1, 3, 3]), random([17]), { groups: 17, padding: 1 }],
      [random([1, 4, 5, 6]), random([3, 4, 1, 1])], // bfloat16 are summed in pairs: of 3, and of 1
      [random([1, 1, 5, 6]), random([1, 1, 1, 1])],
      [random([1, 2, 4, 1]), random([1, 2, 1, 3]), undefined, { stride: 3, padding: [0, 1] }], // taps that meet the
      [random([2, 4, 1, 1]), random([6, 4, 3, 3]), random([6]), { stride: 2, padding: 1 }], // padding alone
      [random([2, 3, 4, 4]), random([5, 3, 1, 1]), random([5]), { residual: random([2, 5, 4, 4]) }],
      [random([1, 3, 4, 5]), random([16, 3, 3, 3]), undefined, { padding: 1, activation: 'relu' }],
      [
        random([1, 16, 4, 4]),
        random([16, 16, 3, 3]),
        random([16]),
        { padding: 1, activation: 'relu', residual: random([1, 16, 4, 4], -20, 20) },
      ],
      [random([0, 3, 4, 4]), random([2, 3, 3, 3]), random([2])],
    ],
    errors: [
      [
        forbidden(ops.conv2d, zeros([4, 5, 5]), zeros([2, 4, 3, 3])),
        'SHAPE',
        'conv2d: expected x [B, C, H, W] with 4 dimensions, got [4, 5, 5]',
      ],
      [
        () => ops.conv2d(image, zeros([2, 4])),
        'SHAPE',
        'conv2d: expected weight [O, C / groups, kh, kw] with 4 dimensions, got [2, 4]',
      ],
      [
        () => ops.conv2d(image, zeros([2, 3, 3, 3])),
        'SHAPE',
        'conv2d: expected a weight for 4 channels of x [1, 4, 5, 5] in 1 group, got [2, 3, 3, 3]',
      ],
      [
        () => ops.conv2d(image, zeros([2, 4, 3, 3]), undefined, { groups: 3 }),
        'VALUE',
        'conv2d: expected groups that divide 4 and 2 channels, got 3',
      ],
      [
        () => ops.conv2d(image, zeros([2, 4, 7, 3]), undefined, { padding: 0 }),
        'SHAPE',
        'conv2d: expected a height of at least 7 for a window over 7 with padding 0, got 5',
      ],
      [
        () => ops.conv2d(image, zeros([2, 4, 3, 3]), zeros([3])),
        'SHAPE',
        'conv2d: expected bias [2], got [3]',
      ],
      [
        () => ops.conv2d(image, zeros([2, 4, 3, 3]), undefined, { residual: zeros([1, 2, 5, 5]) }),
        'SHAPE',
        'conv2d: expected residual [1, 2, 3, 3], got [1, 2, 5, 5]',
      ],
      [
        () => ops.conv2d(image, zeros([2, 4, 3, 3]), undefined, { stride: 0 }),
        'VALUE',
        'conv2d: expected a stride of 1 or more for rows and columns, got [0, 0]',
      ],
      [
        forbidden(ops.conv2d, image, zeros([2, 4, 3, 3]), undefined, { activation: 'gelu' }),
        'VALUE',
        "conv2d: expected an activation of none or relu, got 'gelu'",
      ],
      [
        forbidden(ops.conv2d, image, zeros([2, 4, 3, 3], { dtype: 'float64' })),
        'DTYPE',
        'conv2d: dtypes differ: x is float32, weight is float64; convert one with to()',
      ],
    ],
  },
});

test('results lie channels-last, and elementwise ops keep it so', (t) => {
  const y = ops.conv2d(zeros([2, 3, 4, 5]), zeros([6, 3, 3, 3]), undefined, { padding: 1 });
  for (const x of [y, relu(y), y.add(1), y.mul(zeros([2, 6, 1, 1]))]) {
    t.deepEqual(x.strides, [120, 1, 30, 6]);
  }
});

test('the gradient of a bfloat16 tap that meets the padding alone is 0, whatever the memory held', async (t) => {
  const gradient = async (
    shape: number[],
    weight: number[],
    options: ops.Conv2dOptions,
  ): Promise<number[]> => {
    const w = ones(weight, { dtype: 'bfloat16' }).setRequiresGrad();
    ops
      .conv2d(ones(shape, { dtype: 'bfloat16' }), w, undefined, options)
      .sum()
      .backward();
    return Array.from(await (w.grad as typeof w).data());
  };
  await gradient([2, 8, 5, 5], [8, 8, 3, 3], { padding: 1 }); // leaves numbers in the scratch memory
  t.deepEqual(await gradient([1, 2, 4, 1], [1, 2, 1, 3], { stride: 3, padding: [0, 1] }), [0, 2, 0, 0, 2, 0]);
});

test('a residual is added where a row has fewer windows than pixels of padding', async (t) => {
  for (const dtype of ['float32', 'bfloat16'] as const) {
    const [x, weight] = [ones([1, 2, 3, 3], { dtype }), ones([3, 2, 1, 4], { dtype })];
    const residual = arange(18, { dtype }).reshape([1, 3, 3, 2]);
    const y = ops.conv2d(x, weight, undefined, { stride: [1, 3], padding: [0, 3], residual });
    // Of four columns, the first window meets one and the second three, in two channels.
    const expected = Array.from({ length: 18 }, (_, i) => (i % 2 === 0 ? 2 : 6) + i);
    t.deepEqual([...(await y.data())], expected, dtype);
  }
});
