/**
 * Pooling against its windows, pixel by pixel.
 */
import { zeros } from '../../src/index.js';
import * as ops from '../../src/ops/pool2d.js';
import { forbidden, opCases } from '../helpers/op-case.js';
import { type Nd, random, table, values } from '../helpers/nd.js';

type Pair = number | readonly [number, number];

interface Options {
  readonly stride?: Pair;
  readonly padding?: Pair;
  readonly dilation?: Pair;
  readonly ceilMode?: boolean;
  readonly countIncludePad?: boolean;
}

const pair = (value: Pair): readonly [number, number] => (typeof value === 'number' ? [value, value] : value);

/** The positions that each output sees along one dimension, and the extent of the padded window. */
function windows(n: number, d: 0 | 1, kernel: Pair, options: Options): { seen: number[]; extent: number }[] {
  const k = pair(kernel)[d];
  const stride = pair(options.stride ?? kernel)[d];
  const padding = pair(options.padding ?? 0)[d];
  const dilation = pair(options.dilation ?? 1)[d];
  const room = n + 2 * padding - dilation * (k - 1) - 1;
  let count = (options.ceilMode === true ? Math.ceil(room / stride) : Math.floor(room / stride)) + 1;
  if (options.ceilMode === true && (count - 1) * stride >= n + padding) count -= 1;
  return Array.from({ length: count }, (_, o) => {
    const first = o * stride - padding;
    const seen = Array.from({ length: k }, (__, i) => first + i * dilation).filter((i) => i >= 0 && i < n);
    return { seen, extent: Math.min(first + k, n + padding) - first };
  });
}

function pooled(
  x: Nd,
  rows: { seen: number[] }[],
  columns: { seen: number[] }[],
  f: (all: number[], i: number, j: number) => number,
): Nd {
  return table([x.shape[0], x.shape[1], rows.length, columns.length], (b, c, i, j) =>
    f(
      rows[i].seen.flatMap((r) => columns[j].seen.map((q) => x.at([b, c, r, q]))),
      i,
      j,
    ),
  );
}

function largest(x: Nd, kernel: Pair, options: Options = {}): Nd {
  const [rows, columns] = [windows(x.shape[2], 0, kernel, options), windows(x.shape[3], 1, kernel, options)];
  return pooled(x, rows, columns, (all) =>
    all.reduce((a, b) => (Number.isNaN(b) || b > a ? b : a), -Infinity),
  );
}

const total = (all: number[]): number => all.reduce((a, b) => a + b, 0);

function average(x: Nd, kernel: Pair, options: Options = {}): Nd {
  const [rows, columns] = [windows(x.shape[2], 0, kernel, options), windows(x.shape[3], 1, kernel, options)];
  return pooled(x, rows, columns, (all, i, j) =>
    options.countIncludePad === false
      ? total(all) / all.length
      : total(all) / (rows[i].extent * columns[j].extent),
  );
}

function adaptive(x: Nd, size: Pair): Nd {
  const parts = (n: number, out: number): { seen: number[] }[] =>
    Array.from({ length: out }, (_, o) => {
      const [begin, end] = [Math.floor((o * n) / out), Math.ceil(((o + 1) * n) / out)];
      return { seen: Array.from({ length: end - begin }, (__, i) => begin + i) };
    });
  const [h, w] = pair(size);
  return pooled(x, parts(x.shape[2], h), parts(x.shape[3], w), (all) => total(all) / all.length);
}

const SHARED = [
  [random([2, 3, 6, 8]), 2],
  [random([1, 17, 7, 5]), 3, { stride: 2, padding: 1 }],
  [random([1, 2, 7, 8]), [3, 2], { stride: [2, 1], padding: [1, 0] }],
  [random([1, 2, 6, 6]), 3, { stride: 2, ceilMode: true }],
  [random([1, 1, 5, 5]), 2, { stride: 2, padding: 1, ceilMode: true }],
  [random([1, 1, 1, 3]), 2, { ceilMode: true }], // lower than the window
  [random([1, 1, 3, 2]), [5, 3], { stride: [4, 2], padding: [1, 0], ceilMode: true }],
  [random([0, 2, 4, 4]), 2],
] as const;

const image = zeros([1, 2, 4, 4]);
const errors = (name: 'maxPool2d' | 'avgPool2d') =>
  [
    [
      forbidden(ops[name], zeros([2, 4, 4]), 2),
      'SHAPE',
      `${name}: expected x [B, C, H, W] with 4 dimensions, got [2, 4, 4]`,
    ],
    [
      forbidden(ops[name], zeros([1, 2, 4, 4], { dtype: 'int32' }), 2),
      'DTYPE',
      `${name}: expected a floating-point x, got int32`,
    ],
    [
      () => ops[name](image, 5),
      'SHAPE',
      `${name}: expected a height of at least 5 for a window over 5 with padding 0, got 4`,
    ],
    [
      () => ops[name](image, 7, { stride: 2, ceilMode: true }),
      'SHAPE',
      `${name}: expected a height of at least 6 for a window over 7 with padding 0, got 4`,
    ],
    [
      () => ops[name](image, 2, { padding: [1, 2] }),
      'VALUE',
      `${name}: expected a padding of at most half the kernel [2, 2], got [1, 2]`,
    ],
  ] as const;

opCases(ops, {
  maxPool2d: {
    reference: largest,
    samples: [
      ...SHARED,
      [random([1, 2, 7, 7]), 3, { stride: 1, dilation: 2, padding: 1 }],
      { args: [values([1, NaN, 3, 2, 2, 2, -Infinity, -Infinity], [1, 1, 2, 4]), 2], gradient: false },
    ],
    errors: errors('maxPool2d'),
  },
  avgPool2d: {
    reference: average,
    samples: [...SHARED, [random([1, 2, 5, 5]), 3, { stride: 2, padding: 1, countIncludePad: false }]],
    errors: errors('avgPool2d'),
  },
  adaptiveAvgPool2d: {
    reference: adaptive,
    samples: [
      [random([2, 17, 5, 7]), 1],
      [random([1, 2, 7, 5]), [3, 2]],
      [random([1, 1, 2, 3]), 4],
      [random([0, 2, 3, 3]), 1],
    ],
    errors: [
      [
        () => ops.adaptiveAvgPool2d(image, 0),
        'SHAPE',
        'adaptiveAvgPool2d: expected sizes of 1 or more, got [1, 2, 4, 4] and [0, 0]',
      ],
      [
        () => ops.adaptiveAvgPool2d(zeros([2, 2]), 1),
        'SHAPE',
        'adaptiveAvgPool2d: expected x [B, C, H, W] with 4 dimensions, got [2, 2]',
      ],
    ],
  },
});
