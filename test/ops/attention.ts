/**
 * Fused attention against the composite that it stands for: scores, softmax, weighted sum.
 */
import test from 'ava';

import { eye, grad, normal, ones, tensor, zeros } from '../../src/index.js';
import * as ops from '../../src/ops/attention.js';
import {
  type FloatDType,
  type Tensor,
  manualSeed,
  memoryStats,
  resetPeakMemory,
  scope,
  synchronize,
} from '../../src/tensor/index.js';
import { type OpCase, forbidden, opCases } from '../helpers/op-case.js';
import { Nd, atBroadcast, combine, random, table, truths, values } from '../helpers/nd.js';

interface Options {
  readonly bias?: Nd;
  readonly mask?: Nd;
  readonly scale?: number;
  readonly dropout?: number;
}

const SEED = 4;

/** softmax(q k^T * scale + bias), zeros where a query sees no key, and the log-sum-exp of the scores. */
function probabilities(q: Nd, k: Nd, options: Options): { p: Nd; lse: Nd } {
  const [batch, heads, queries, d] = q.shape;
  const keys = k.shape[2];
  const { bias, mask, scale = 1 / Math.sqrt(d) } = options;
  const lse = table([batch, heads, queries], () => -Infinity);
  const p = new Nd([batch, heads, queries, keys], new Float64Array(batch * heads * queries * keys));
  for (let row = 0; row < batch * heads * queries; row++) {
    const group = Math.floor(row / queries);
    const index = [Math.floor(group / heads), group % heads, row % queries];
    const scores = new Float64Array(keys);
    for (let j = 0; j < keys; j++) {
      let score = 0;
      for (let c = 0; c < d; c++) score += q.data[row * d + c] * k.data[(group * keys + j) * d + c];
      scores[j] = score * scale + (bias === undefined ? 0 : atBroadcast(bias, [...index, j]));
      if (mask !== undefined && atBroadcast(mask, [...index, j]) === 0) scores[j] = -Infinity;
    }
    const shift = scores.reduce((a, b) => Math.max(a, b), -Infinity);
    if (shift === -Infinity) continue;
    const total = scores.reduce((sum, s) => sum + Math.exp(s - shift), 0);
    lse.data[row] = shift + Math.log(total);
    scores.forEach((s, j) => (p.data[row * keys + j] = Math.exp(s - lse.data[row])));
  }
  return { p, lse };
}

/** p v for each batch and head. */
function weighted(p: Nd, v: Nd): Nd {
  const [batch, heads, queries, keys] = p.shape;
  const d = v.shape[3];
  const out = new Nd([batch, heads, queries, d], new Float64Array(batch * heads * queries * d));
  for (let row = 0; row < batch * heads * queries; row++) {
    const group = Math.floor(row / queries);
    for (let j = 0; j < keys; j++) {
      const weight = p.data[row * keys + j];
      for (let c = 0; c < d; c++) out.data[row * d + c] += weight * v.data[(group * keys + j) * d + c];
    }
  }
  return out;
}

/** Which weights the seed keeps. With equal scores and the identity as values, the output shows them. */
function kept([batch, heads, queries, keys]: readonly number[], dropout: number): Nd {
  return scope(() => {
    manualSeed(SEED);
    const dtype = 'float64';
    const q = zeros([batch, heads, queries, keys], { dtype });
    const v = eye(keys, { dtype }).expand([batch, heads, keys, keys]);
    const out = ops.attention(q, zeros([batch, heads, keys, keys], { dtype }), v, { dropout });
    return new Nd(
      out.shape,
      Float64Array.from(out.dataSync(), (w) => Number(w !== 0)),
    );
  });
}

function attended(q: Nd, k: Nd, v: Nd, options: Options = {}): { out: Nd; lse: Nd } {
  const { dropout = 0 } = options;
  const { p, lse } = probabilities(q, k, options);
  const weights =
    dropout > 0 ? combine((w, keep) => (w * keep) / (1 - dropout), p, kept(p.shape, dropout)) : p;
  return { out: weighted(weights, v), lse };
}

const qkv = (batch: number, heads: number, queries: number, keys: number, d: number): Nd[] => [
  random([batch, heads, queries, d], -1, 1),
  random([batch, heads, keys, d], -1, 1),
  random([batch, heads, keys, d], -1, 1),
];

/** A mask of which the second query sees nothing. */
const blind = (queries: number, keys: number): Nd =>
  table([queries, keys], (i, j) => (i === 1 ? 0 : Number((i + j) % 3 !== 0)), 'bool');

const SIZES: readonly (readonly number[])[] = [
  [2, 2, 65, 65, 32],
  [1, 2, 197, 197, 64],
  [1, 1, 577, 577, 64],
  [1, 2, 49, 49, 80],
  [1, 1, 65, 65, 128],
  [1, 2, 49, 49, 256],
  [2, 3, 1, 1, 64],
  [1, 2, 5, 9, 7],
  [2, 1, 33, 1, 1],
  [1, 1, 1, 65, 33],
  [0, 2, 5, 5, 8],
  [1, 2, 0, 5, 8],
];

const SAMPLES: OpCase['samples'] = [
  ...SIZES.map(([b, h, nq, nk, d]) => qkv(b, h, nq, nk, d)),
  [...qkv(1, 2, 3, 4, 5), { scale: 0.1 }],
  [...qkv(2, 3, 5, 7, 4), { bias: random([2, 3, 5, 7]) }],
  [...qkv(2, 3, 5, 7, 4), { bias: random([3, 5, 7]) }],
  [...qkv(2, 3, 5, 7, 4), { bias: random([5, 7]) }],
  [...qkv(2, 3, 5, 7, 4), { bias: random([2, 1, 1, 7]) }],
  [...qkv(2, 3, 5, 7, 4), { bias: random([3, 5, 1]) }],
  [...qkv(1, 2, 65, 65, 32), { bias: random([2, 65, 65]), mask: truths([65, 65], 0.8) }],
  [...qkv(2, 3, 5, 7, 4), { mask: truths([2, 1, 1, 7], 0.8) }],
  [...qkv(1, 2, 5, 7, 4), { mask: blind(5, 7) }],
  [...qkv(1, 2, 33, 40, 16), { mask: blind(33, 40), bias: random([40]) }],
  [...qkv(2, 2, 9, 7, 8), { dropout: 0.3 }],
  [...qkv(1, 1, 49, 65, 32), { dropout: 0.5, bias: random([49, 65]) }],
];

/** The same random numbers in every call. */
const seeded =
  <Args extends readonly unknown[], R>(op: (...args: Args) => R) =>
  (...args: Args): R => {
    manualSeed(SEED);
    return op(...args);
  };

const q = zeros([1, 2, 3, 4]);
const int32 = zeros([1, 2, 3, 4], { dtype: 'int32' });
const float64 = zeros([1, 2, 3, 4], { dtype: 'float64' });

const errorsOf = (op: { readonly name: string }): NonNullable<OpCase['errors']> => [
  [forbidden(op, zeros([2, 3, 4]), q, q), 'SHAPE', `${op.name}: expected q [B, H, N, d], got [2, 3, 4]`],
  [forbidden(op, int32, int32, int32), 'DTYPE', `${op.name}: expected a floating-point q, got int32`],
  [
    forbidden(op, q, float64, q),
    'DTYPE',
    `${op.name}: dtypes differ: q is float32, k is float64; convert one with to()`,
  ],
  [
    forbidden(op, q, q, float64),
    'DTYPE',
    `${op.name}: dtypes differ: q is float32, v is float64; convert one with to()`,
  ],
  [
    forbidden(op, q, zeros([1, 2, 5, 3]), q),
    'SHAPE',
    `${op.name}: expected k [1, 2, N, 4] for q [1, 2, 3, 4], got [1, 2, 5, 3]`,
  ],
  [
    forbidden(op, q, q, zeros([1, 2, 5, 4])),
    'SHAPE',
    `${op.name}: expected v [1, 2, 3, 4], got [1, 2, 5, 4]`,
  ],
  [
    forbidden(op, ...[0, 0, 0].map(() => zeros([1, 1, 2, 257]))),
    'SHAPE',
    `${op.name}: expected a head dimension from 1 to 256, got 257`,
  ],
  [
    forbidden(op, q, q, q, { bias: zeros([2, 3]) }),
    'SHAPE',
    `${op.name}: expected a bias that broadcasts to [1, 2, 3, 3], got [2, 3]`,
  ],
  [
    forbidden(op, q, q, q, { bias: zeros([3, 3], { dtype: 'float64' }) }),
    'DTYPE',
    `${op.name}: dtypes differ: q is float32, bias is float64; convert one with to()`,
  ],
  [forbidden(op, q, q, q, { mask: zeros([3, 3]) }), 'DTYPE', `${op.name}: expected a bool mask, got float32`],
  [
    forbidden(op, q, q, q, { mask: zeros([1, 1, 1, 1, 3], { dtype: 'bool' }) }),
    'SHAPE',
    `${op.name}: expected a mask that broadcasts to [1, 2, 3, 3], got [1, 1, 1, 1, 3]`,
  ],
  [forbidden(op, q, q, q, { dropout: 1 }), 'VALUE', `${op.name}: expected a dropout in [0, 1), got 1`],
];

/** q, k or v of a packed projection `[B, N, 3 * H * d]`. */
function unpacked(packed: Nd, heads: number, which: number): Nd {
  const [batch, n, features] = packed.shape;
  const d = features / (3 * heads);
  return table([batch, heads, n, d], (b, h, i, c) => packed.at([b, i, (which * heads + h) * d + c]));
}

const packed = zeros([1, 3, 24]);

opCases(ops, {
  attention: {
    op: seeded(ops.attention),
    reference: (query: Nd, k: Nd, v: Nd, options?: Options) => attended(query, k, v, options).out,
    samples: SAMPLES,
    roundings: 2,
    errors: errorsOf(ops.attention),
  },
  attentionWithLse: {
    // The log-sum-exp has no gradient.
    op: seeded((...args: Parameters<typeof ops.attentionWithLse<'float32'>>) => {
      const { out, lse } = ops.attentionWithLse(...args);
      return { out, lse: lse.detach() };
    }),
    reference: attended,
    samples: SAMPLES.slice(6),
    roundings: 2,
    resultDType: (dtype, result) => (result === 1 && dtype !== 'float64' ? 'float32' : dtype),
    errors: errorsOf(ops.attentionWithLse),
  },
  attentionPacked: {
    op: seeded(ops.attentionPacked),
    reference: (
      x: Nd,
      { numHeads, queries = x.shape[1], ...options }: Options & { numHeads: number; queries?: number },
    ) => {
      const [all, k, v] = [0, 1, 2].map((which) => unpacked(x, numHeads, which));
      const d = all.shape[3];
      const query = table([x.shape[0], numHeads, queries, d], (...index) => all.at(index));
      const { out } = attended(query, k, v, options);
      return table([x.shape[0], queries, numHeads * d], (b, i, c) =>
        out.at([b, Math.floor(c / d), i, c % d]),
      );
    },
    samples: [
      [random([2, 5, 3 * 3 * 4], -1, 1), { numHeads: 3 }],
      [random([1, 197, 3 * 2 * 64], -1, 1), { numHeads: 2 }],
      [random([1, 65, 3 * 80], -1, 1), { numHeads: 1, scale: 0.05 }],
      [random([2, 1, 3 * 2 * 32], -1, 1), { numHeads: 2 }],
      [random([2, 7, 3 * 2 * 5], -1, 1), { numHeads: 2, bias: random([2, 7, 7]) }],
      [random([2, 7, 3 * 2 * 5], -1, 1), { numHeads: 2, bias: random([2, 1, 1, 7]), mask: blind(7, 7) }],
      [random([2, 9, 3 * 2 * 4], -1, 1), { numHeads: 2, dropout: 0.3 }],
      [random([2, 7, 3 * 2 * 5], -1, 1), { numHeads: 2, queries: 1 }],
      [random([1, 197, 3 * 64], -1, 1), { numHeads: 1, queries: 2 }],
      [random([2, 7, 3 * 2 * 5], -1, 1), { numHeads: 2, queries: 3, bias: random([2, 3, 7]), dropout: 0.2 }],
      [random([2, 5, 24]), { numHeads: 2, queries: 0 }],
      [random([0, 5, 24]), { numHeads: 2 }],
      [random([2, 0, 24]), { numHeads: 2 }],
    ],
    roundings: 2,
    errors: [
      [
        () => ops.attentionPacked(zeros([3, 24]), { numHeads: 2 }),
        'SHAPE',
        'attentionPacked: expected qkv [B, N, 3 * 2 * d], got [3, 24]',
      ],
      [
        () => ops.attentionPacked(packed, { numHeads: 5 }),
        'SHAPE',
        'attentionPacked: expected qkv [B, N, 3 * 5 * d], got [1, 3, 24]',
      ],
      [
        () => ops.attentionPacked(packed, { numHeads: 2, queries: 4 }),
        'VALUE',
        'attentionPacked: expected from 0 to 3 queries, got 4',
      ],
      [
        () => ops.attentionPacked(packed, { numHeads: 0 }),
        'SHAPE',
        'attentionPacked: expected qkv [B, N, 3 * 0 * d], got [1, 3, 24]',
      ],
      [
        () => ops.attentionPacked(zeros([1, 3, 0]), { numHeads: 2 }),
        'SHAPE',
        'attentionPacked: expected qkv [B, N, 3 * 2 * d], got [1, 3, 0]',
      ],
      [
        forbidden(ops.attentionPacked, zeros([1, 3, 24], { dtype: 'int32' }), { numHeads: 2 }),
        'DTYPE',
        'attentionPacked: expected a floating-point qkv, got int32',
      ],
      [
        () => ops.attentionPacked(packed, { numHeads: 2, dropout: -1 }),
        'VALUE',
        'attentionPacked: expected a dropout in [0, 1), got -1',
      ],
    ],
  },
  attentionRows: {
    reference: (query: Nd, k: Nd, rows: Nd, options: Options = {}) => {
      const { p } = probabilities(query, k, options);
      return table([...p.shape.slice(0, 2), rows.size, p.shape[3]], (b, h, i, j) =>
        p.at([b, h, rows.data[i], j]),
      );
    },
    samples: [
      [...qkv(1, 2, 65, 65, 64).slice(0, 2), values([0], [1], 'int64')],
      [...qkv(2, 3, 5, 7, 4).slice(0, 2), values([4, 0, 4], [3], 'int64'), { scale: 0.1 }],
      [...qkv(2, 3, 5, 7, 4).slice(0, 2), values([2, 1], [2], 'int64'), { bias: random([3, 5, 7]) }],
      [...qkv(1, 2, 5, 7, 4).slice(0, 2), values([1, 2], [2], 'int64'), { mask: blind(5, 7) }],
      [...qkv(1, 2, 5, 7, 4).slice(0, 2), values([], [0], 'int64')],
    ],
    gradient: false,
    errors: [
      [
        () => ops.attentionRows(zeros([2, 3]), q, tensor([0n])),
        'SHAPE',
        'attentionRows: expected q [B, H, N, d] with 4 dimensions, got [2, 3]',
      ],
      [
        () => ops.attentionRows(q, zeros([1, 2, 3, 5]), tensor([0n])),
        'SHAPE',
        'attentionRows: expected k [1, 2, N, 4] for q [1, 2, 3, 4], got [1, 2, 3, 5]',
      ],
      [
        forbidden(ops.attentionRows, q, q, zeros([1], { dtype: 'int32' })),
        'DTYPE',
        'attentionRows: expected int64 rows, got int32',
      ],
      [
        () => ops.attentionRows(q, q, zeros([1, 1], { dtype: 'int64' })),
        'SHAPE',
        'attentionRows: expected rows with 1 dimension, got [1, 1]',
      ],
      [
        () => ops.attentionRows(q, q, tensor([3n])),
        'INDEX',
        'attentionRows: expected rows from 0 to 2, got 3',
      ],
      [
        () => ops.attentionRows(q, q, tensor([0n]), { bias: zeros([2]) }),
        'SHAPE',
        'attentionRows: expected a bias that broadcasts to [1, 2, 3, 3], got [2]',
      ],
    ],
  },
});

test.serial('dropout keeps 1 - p of the attention weights', (t) => {
  const p = 0.3;
  const mask = kept([2, 3, 64, 64], p);
  const share = mask.data.reduce((a, b) => a + b, 0) / mask.size;
  t.true(Math.abs(share - (1 - p)) < 4 * Math.sqrt((p * (1 - p)) / mask.size), `${share} kept`);
  t.notDeepEqual(mask.data.slice(0, 64 * 64), mask.data.slice(64 * 64, 2 * 64 * 64));
});

test('the log-sum-exp has no gradient, and says so', (t) => {
  const x = ones([1, 1, 2, 4]).setRequiresGrad();
  const { lse } = ops.attentionWithLse(x, x, x);
  t.throws(() => (lse as Tensor<FloatDType>).sum().backward(), {
    message: 'attention: expected no gradient for the log-sum-exp: it has none',
  });
});

test('parts of the keys merge by their log-sum-exps', (t) => {
  const dtype = 'float64';
  const [x, k, v] = [3, 8, 8].map((n) => normal([1, 2, n, 4], { dtype }));
  const whole = ops.attention(x, k, v).dataSync();
  const parts = [0, 4].map((start) => {
    const part = (y: Tensor<'float64'>): Tensor<'float64'> => y.narrow(2, start, 4);
    return ops.attentionWithLse(x, part(k), part(v));
  });
  const [a, b] = parts.map(({ lse }) => (lse as Tensor<'float64'>).exp().unsqueeze(-1));
  const merged = parts[0].out.mul(a).add(parts[1].out.mul(b)).div(a.add(b)).dataSync();
  t.true(whole.every((value, i) => Math.abs(value - merged[i]) < 1e-12));
});

test.serial('memory grows with N, not with its square: forward and backward at N = 4096', async (t) => {
  const heads = 2;
  const peakAt = async (n: number): Promise<number> => {
    const x = normal([1, n, 3 * heads * 32]).setRequiresGrad();
    const dy = normal([1, n, heads * 32]);
    await synchronize();
    const before = memoryStats().current;
    resetPeakMemory();
    const y = ops.attentionPacked(x, { numHeads: heads });
    const [dx] = grad(y, [x], { gradients: [dy] });
    await synchronize();
    const peak = memoryStats().peak - before;
    for (const z of [x, dy, y, dx]) z?.dispose();
    return peak;
  };
  const resident = process.memoryUsage().rss;
  const [half, whole] = [await peakAt(2048), await peakAt(4096)];
  t.true(whole <= 2.1 * half, `${whole} bytes, ${half} at half the length`);
  // out, its gradient's layout, dqkv and the log-sum-exp; one head's scores alone would be 64 MiB
  t.true(whole <= 8 * 2 ** 20, `${whole} bytes`);
  t.true(process.memoryUsage().rss - resident < 64 * 2 ** 20, 'the kernels take no such memory either');
});
