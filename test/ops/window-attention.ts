/**
 * Window attention against what it stands for: in plain loops, and composed of roll, pad, partition, attention with bias
 * and mask, and their reverse.
 */
import test from 'ava';

import {
  attentionPacked,
  cat,
  grad,
  indexSelect,
  manualSeed,
  normal,
  roll,
  scope,
  tensor,
  zeros,
  type FloatTensor,
  type Tensor,
} from '../../src/index.js';
import * as ops from '../../src/ops/window-attention.js';
import { forbidden, opCases } from '../helpers/op-case.js';
import { type Nd, random, table } from '../helpers/nd.js';

type Two = readonly [number, number];

interface Options {
  readonly window: number | Two;
  readonly shift?: number | Two;
  readonly padding?: Nd;
  readonly scale?: number;
}

const pair = (x: number | Two): Two => (typeof x === 'number' ? [x, x] : x);

/** The region of a coordinate of the padded map: windows before the last, and the last one's two sides of the seam. */
const region = (i: number, size: number, window: number, shift: number): number =>
  shift === 0 || i < size - window ? 0 : i < size - shift ? 1 : 2;

/** The rows of q, k and v at each place of the shifted and padded map, each window's softmax, and the way back. */
function windowed(qkv: Nd, bias: Nd, { window, shift = 0, padding, scale }: Options): Nd {
  const [batch, height, width, features] = qkv.shape;
  const heads = bias.shape[1];
  const d = features / (3 * heads);
  const [wh, ww] = pair(window);
  const [sy, sx] = pair(shift);
  const [rows, columns] = [Math.ceil(height / wh) * wh, Math.ceil(width / ww) * ww];
  const inside = (y: number, x: number): boolean => y < height && x < width;
  const at = (b: number, y: number, x: number, c: number): number =>
    inside(y, x) ? qkv.at([b, (y + sy) % height, (x + sx) % width, c]) : (padding?.data[c] ?? 0);
  const id = (y: number, x: number): number => 3 * region(y, rows, wh, sy) + region(x, columns, ww, sx);
  const out = table([batch, height, width, heads * d], () => 0);
  table([batch, heads, rows, columns], (b, h, y, x) => {
    if (!inside(y, x)) return 0;
    const [top, left] = [y - (y % wh), x - (x % ww)];
    const scores = table([wh, ww], (i, j) => {
      const offset = (y - top - i + wh - 1) * (2 * ww - 1) + x - left - j + ww - 1;
      let score = 0;
      for (let c = 0; c < d; c++) {
        score += at(b, y, x, h * d + c) * at(b, top + i, left + j, (heads + h) * d + c);
      }
      const apart = id(y, x) !== id(top + i, left + j);
      return score * (scale ?? 1 / Math.sqrt(d)) + bias.at([offset, h]) + (apart ? -100 : 0);
    });
    const most = Math.max(...scores.data);
    const weights = scores.map((s) => Math.exp(s - most));
    const total = weights.data.reduce((a, w) => a + w, 0);
    const to = ((b * height + ((y + sy) % height)) * width + ((x + sx) % width)) * heads * d + h * d;
    table([wh, ww, d], (i, j, c) => {
      out.data[to + c] += (weights.at([i, j]) / total) * at(b, top + i, left + j, (2 * heads + h) * d + c);
      return 0;
    });
    return 0;
  });
  return out;
}

/** Operands for windows of a map. */
function operands(
  [batch, height, width]: readonly [number, number, number],
  heads: number,
  d: number,
  options: Omit<Options, 'padding'> & { readonly padded?: boolean },
): [Nd, Nd, Options] {
  const { padded = false, ...rest } = options;
  const [wh, ww] = pair(options.window);
  return [
    random([batch, height, width, 3 * heads * d], -1, 1),
    random([(2 * wh - 1) * (2 * ww - 1), heads], -1, 1),
    { ...rest, ...(padded ? { padding: random([3 * heads * d], -1, 1) } : {}) },
  ];
}

const qkv = zeros([1, 4, 4, 24]);
const biases = zeros([9, 2]);

opCases(ops, {
  windowAttention: {
    reference: windowed,
    samples: [
      operands([1, 14, 14], 1, 32, { window: 7, shift: 3 }),
      operands([2, 10, 5], 2, 8, { window: 5 }),
      operands([1, 8, 16], 2, 24, { window: 8, shift: 4 }),
      operands([1, 12, 12], 1, 48, { window: 12, shift: 6 }),
      operands([3, 6, 8], 3, 4, { window: [3, 4], shift: [1, 2], scale: 0.3 }),
      operands([2, 6, 6], 1, 7, { window: [3, 2], shift: [0, 1] }),
      operands([18, 2, 2], 6, 3, { window: 2 }), // more windows, and more heads, than run together
      operands([1, 5, 9], 2, 8, { window: 4, padded: true }),
      operands([2, 5, 6], 2, 8, { window: 4, shift: 2, padded: true }),
      operands([1, 5, 6], 2, 8, { window: 4, shift: 2 }),
      operands([1, 2, 3], 1, 8, { window: 7, shift: 3, padded: true }), // a window larger than the map
      operands([0, 4, 4], 1, 8, { window: 2 }),
      operands([2, 0, 4], 1, 8, { window: 2 }),
    ],
    roundings: 2,
    errors: [
      [
        () => ops.windowAttention(zeros([4, 4, 24]), biases, { window: 2 }),
        'SHAPE',
        'windowAttention: expected qkv [B, H, W, 3 * heads * d] and a table [offsets, heads], got [4, 4, 24] and [9, 2]',
      ],
      [
        () => ops.windowAttention(qkv, biases, { window: 3 }),
        'SHAPE',
        'windowAttention: expected a table [25, heads] for windows of [3, 3], got [9, 2]',
      ],
      [
        () => ops.windowAttention(zeros([1, 4, 4, 20]), biases, { window: 2 }),
        'SHAPE',
        'windowAttention: expected qkv [B, H, W, 3 * 2 * d], got [1, 4, 4, 20]',
      ],
      [
        () => ops.windowAttention(zeros([1, 2, 2, 3 * 257]), zeros([9, 1]), { window: 2 }),
        'SHAPE',
        'windowAttention: expected a head dimension from 1 to 256, got 257',
      ],
      [
        () => ops.windowAttention(qkv, biases, { window: 2, padding: zeros([8]) }),
        'SHAPE',
        'windowAttention: expected padding [24], got [8]',
      ],
      [
        () => ops.windowAttention(qkv, zeros([9, 2]), { window: [0, 2] }),
        'VALUE',
        'windowAttention: expected a window of two sizes of 1 or more, got [0, 2]',
      ],
      [
        () => ops.windowAttention(qkv, biases, { window: 2, shift: 2 }),
        'VALUE',
        'windowAttention: expected a shift of 0 or more and less than the window [2, 2], got [2, 2]',
      ],
      [
        () => ops.windowAttention(qkv, biases, { window: 2, dropout: 1 }),
        'VALUE',
        'windowAttention: expected a dropout in [0, 1), got 1',
      ],
      [
        forbidden(ops.windowAttention, qkv, zeros([9, 2], { dtype: 'float64' }), { window: 2 }),
        'DTYPE',
        'windowAttention: dtypes differ: qkv is float32, table is float64; convert one with to()',
      ],
      [
        forbidden(ops.windowAttention, zeros([1, 4, 4, 24], { dtype: 'int32' }), biases, { window: 2 }),
        'DTYPE',
        'windowAttention: expected a floating-point qkv, got int32',
      ],
    ],
  },
});

test('a map of width 1 may be a view with any stride along it', async (t) => {
  const table = tensor([[1], [2], [3]]);
  const view = normal([1, 1, 4, 6]).transpose(1, 2); // strides [24, 6, 24, 1]
  const [y, expected] = [view, view.clone()].map((x) => ops.windowAttention(x, table, { window: [2, 1] }));
  t.deepEqual(await y.data(), await expected.data());
});

/** Window attention from simple ops, as the reference implementation of Swin goes about it. */
function composed(
  x: FloatTensor,
  bias: FloatTensor,
  options: { window: Two; shift: Two; padding: FloatTensor; dropout: number },
): FloatTensor {
  const { window, shift, padding, dropout } = options;
  const [wh, ww] = window;
  const [batch, height, width, features] = x.shape;
  const [rows, columns] = [Math.ceil(height / wh), Math.ceil(width / ww)];
  const n = wh * ww;
  const filler = (h: number, w: number): FloatTensor => padding.expand([batch, h, w, features]);
  const shifted = roll(x, [-shift[0], -shift[1]], [1, 2]);
  const wide = cat([shifted, filler(height, columns * ww - width)], 2);
  const windows = cat([wide, filler(rows * wh - height, columns * ww)], 1)
    .reshape([batch, rows, wh, columns, ww, features])
    .permute([0, 1, 3, 2, 4, 5])
    .reshape([batch * rows * columns, n, features]);

  const place = (i: number): Two => [Math.floor(i / ww), i % ww];
  const offsets = table([n, n], (i, j) => {
    const [[yi, xi], [yj, xj]] = [place(i), place(j)];
    return (yi - yj + wh - 1) * (2 * ww - 1) + xi - xj + ww - 1;
  });
  const id = (window: number, i: number): number => {
    const [y, x] = place(i);
    const top = Math.floor(window / columns) * wh;
    const left = (window % columns) * ww;
    return 3 * region(top + y, rows * wh, wh, shift[0]) + region(left + x, columns * ww, ww, shift[1]);
  };
  const apart = table([batch * rows * columns, 1, n, n], (w, _, i, j) => {
    const window = w % (rows * columns);
    return id(window, i) === id(window, j) ? 0 : -100;
  });
  const { dtype } = x;
  const relative = indexSelect(bias, 0, tensor(offsets.data, { shape: [n * n], dtype: 'int64' }))
    .reshape([n, n, bias.shape[1]])
    .permute([2, 0, 1])
    .add(tensor(apart.data, { shape: apart.shape, dtype }));
  return roll(
    attentionPacked(windows, { numHeads: bias.shape[1], bias: relative, dropout })
      .reshape([batch, rows, columns, wh, ww, features / 3])
      .permute([0, 1, 3, 2, 4, 5])
      .reshape([batch, rows * wh, columns * ww, features / 3])
      .narrow(1, 0, height)
      .narrow(2, 0, width),
    shift,
    [1, 2],
  );
}

for (const [window, shift, map, dropout] of [
  [[7, 7], [3, 3], [14, 14], 0],
  [[7, 7], [0, 0], [14, 14], 0.2],
  [[5, 5], [2, 2], [7, 11], 0.2],
  [[8, 8], [4, 4], [8, 16], 0],
  [[12, 12], [6, 6], [24, 12], 0.1],
  [[4, 3], [2, 0], [6, 9], 0],
] as const) {
  test.serial(
    `windows of ${window.join(' x ')}, shift ${shift.join(', ')}, map ${map.join(' x ')}, dropout ${dropout}: as composed`,
    (t) => {
      scope(() => {
        manualSeed(2);
        const [heads, d] = [2, 32];
        const dtype = 'float64';
        const inputs = [
          normal([2, ...map, 3 * heads * d], { dtype }),
          normal([(2 * window[0] - 1) * (2 * window[1] - 1), heads], { dtype }),
          normal([3 * heads * d], { dtype }),
        ].map((x) => x.setRequiresGrad()) as unknown as FloatTensor[];
        const dy = normal([2, ...map, heads * d], { dtype }) as unknown as FloatTensor;
        const results = [ops.windowAttention, composed].map((op) => {
          manualSeed(3);
          const y = op(inputs[0], inputs[1], { window, shift, padding: inputs[2], dropout });
          return [y, ...grad(y, inputs, { gradients: [dy] })] as (Tensor<'float64'> | undefined)[];
        });
        results[0].forEach((x, i) => {
          const expected = results[1][i]?.dataSync();
          const got = x?.dataSync();
          const most = expected?.reduce((m, v) => Math.max(m, Math.abs(v)), 1) ?? 0;
          t.is(got?.length, expected?.length);
          t.true(
            got?.every((v, k) => Math.abs(v - (expected?.[k] ?? NaN)) < 1e-11 * most),
            `result ${i}`,
          );
        });
      });
    },
  );
}
