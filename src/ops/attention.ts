/**
 * Scaled dot-product attention, fused: softmax(q k^T * scale + bias) v without ever holding the N x N matrix, forward
 * and backward. Memory is linear in N: backward recomputes the probabilities from the log-sum-exp of each row.
 *
 * Source: Dao et al., "FlashAttention", 2022; Vaswani et al., "Attention is all you need", 2017.
 */
import { native } from '../native.js';
import { type OptionNames, expectOptions, expectTensors, optionalId } from '../tensor/arguments.js';
import { ownOp } from '../tensor/define-op.js';
import type { FloatDType } from '../tensor/dtype.js';
import { fail, named } from '../tensor/error.js';
import { type RandomState, getRandomState, takeRandom } from '../tensor/random.js';
import { type Tensor, wrap } from '../tensor/tensor.js';

/** How scores become weights. */
export interface AttentionOptions<D extends FloatDType = FloatDType> {
  /** Added to the scaled scores; broadcasts to `[B, H, Nq, Nk]`; has a gradient. */
  readonly bias?: Tensor<D> | undefined;
  /** True where a query may attend to a key; broadcasts to `[B, H, Nq, Nk]`. A query that sees no key gives zeros. */
  readonly mask?: Tensor<'bool'> | undefined;
  /** Default 1 / sqrt(d). */
  readonly scale?: number;
  /** Probability of dropping an attention weight. Default 0. */
  readonly dropout?: number;
}

/** The number of heads in packed projections, and how scores become weights. */
export interface PackedAttentionOptions<D extends FloatDType = FloatDType> extends AttentionOptions<D> {
  readonly numHeads: number;
  /** Only the first so many tokens attend (to all of them). Default: all. */
  readonly queries?: number | undefined;
}

interface Settings {
  readonly scale: number;
  readonly dropout: number;
  readonly random: RandomState;
}

function settings(options: AttentionOptions, headDim: number): Settings {
  const dropout = options.dropout ?? 0;
  return {
    scale: options.scale ?? 1 / Math.sqrt(headDim),
    dropout,
    random: dropout > 0 ? getRandomState() : { seed: 0, offset: 0 },
  };
}

const attentionOp = ownOp({
  name: 'attention',
  autocast: 'lower',
  forward(
    ctx,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | undefined,
    mask: Tensor | undefined,
    s: Settings,
  ): [Tensor, Tensor] {
    const { seed, offset } = s.random;
    const [biasId, maskId] = [optionalId('attention', 'bias', bias), optionalId('attention', 'mask', mask)];
    const ids = native.attention(q.id, k.id, v.id, biasId, maskId, s.scale, s.dropout, seed, offset);
    const out = wrap(ids[0]);
    const lse = wrap(ids[1]);
    ctx.save(q, k, v, out, lse, bias, mask);
    ctx.state = s;
    return [out, lse];
  },
  backward({ saved: [q, k, v, out, lse, bias, mask], needsGrad, state }, dout, dlse) {
    if (dlse !== undefined)
      fail('attention', 'AUTOGRAD', 'expected no gradient for the log-sum-exp: it has none');
    if (dout === undefined) return [];
    const { scale, dropout, random } = state as Settings;
    return native
      .attentionBackward(
        dout.id,
        q.id,
        k.id,
        v.id,
        (bias as Tensor | undefined)?.id,
        (mask as Tensor | undefined)?.id,
        out.id,
        lse.id,
        scale,
        dropout,
        random.seed,
        random.offset,
        needsGrad[3] === true,
      )
      .map((id) => ((id as unknown) === undefined ? undefined : wrap(id)));
  },
});

const attentionPackedOp = ownOp({
  name: 'attentionPacked',
  autocast: 'lower',
  forward(
    ctx,
    qkv: Tensor,
    bias: Tensor | undefined,
    mask: Tensor | undefined,
    heads: number,
    queries: number,
    s: Settings,
  ): [Tensor, Tensor] {
    const { seed, offset } = s.random;
    const biasId = optionalId('attentionPacked', 'bias', bias);
    const maskId = optionalId('attentionPacked', 'mask', mask);
    const ids = native.attentionPacked(
      qkv.id,
      heads,
      queries,
      biasId,
      maskId,
      s.scale,
      s.dropout,
      seed,
      offset,
    );
    const out = wrap(ids[0]);
    const lse = wrap(ids[1]);
    ctx.save(qkv, out, lse, bias, mask);
    ctx.state = { ...s, heads };
    return [out, lse];
  },
  backward({ saved: [qkv, out, lse, bias, mask], needsGrad, state }, dout) {
    if (dout === undefined) return [];
    const { scale, dropout, random, heads } = state as Settings & { heads: number };
    return native
      .attentionPackedBackward(
        dout.id,
        qkv.id,
        heads,
        (bias as Tensor | undefined)?.id,
        (mask as Tensor | undefined)?.id,
        out.id,
        lse.id,
        scale,
        dropout,
        random.seed,
        random.offset,
        needsGrad[1] === true,
      )
      .map((id) => ((id as unknown) === undefined ? undefined : wrap(id)));
  },
});

const attentionRowsOp = ownOp({
  name: 'attentionRows',
  autocast: 'lower',
  forward: (
    _ctx,
    q: Tensor,
    k: Tensor,
    rows: Tensor,
    bias: Tensor | undefined,
    mask: Tensor | undefined,
    scale: number,
  ): Tensor => {
    const biasId = optionalId('attentionRows', 'bias', bias);
    const maskId = optionalId('attentionRows', 'mask', mask);
    return wrap(native.attentionRows(q.id, k.id, biasId, maskId, rows.id, scale));
  },
});

const OPTIONS = {
  bias: true,
  mask: true,
  scale: true,
  dropout: true,
} satisfies OptionNames<AttentionOptions>;

function runAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  options: AttentionOptions,
): [out: Tensor, lse: Tensor] {
  expectTensors('attention', q, k, v);
  expectOptions('attention', options, OPTIONS);
  if (q.ndim !== 4) fail('attention', 'SHAPE', `expected q [B, H, N, d], got [${q.shape.join(', ')}]`);
  const scores = q.shape[0] * q.shape[1] * q.shape[2] * (k.shape[2] ?? 0);
  const { bias, mask } = options as { bias?: Tensor; mask?: Tensor };
  const s = settings(options, q.shape[3]);
  const result = attentionOp(q, k, v, bias, mask, s);
  if (s.dropout > 0) takeRandom(scores); // an error leaves the sequence where it was
  return result;
}

/**
 * Fused attention: `softmax(q k^T * scale + bias) v`.
 *
 * Shapes: q `[B, H, Nq, d]`, k and v `[B, H, Nk, d]` -> `[B, H, Nq, d]`; d up to 256, any strides. The result is
 * stored as `[B, Nq, H, d]`, so that `transpose(1, 2).reshape([B, Nq, H * d])` moves nothing.
 *
 * @throws TensorError SHAPE, DTYPE or VALUE
 * @example
 * const out = attention(q, k, v, { mask });
 */
export function attention<D extends FloatDType>(
  q: Tensor<D>,
  k: Tensor<D>,
  v: Tensor<D>,
  options: AttentionOptions<D> = {},
): Tensor<D> {
  const [out, lse] = runAttention(q, k, v, options);
  lse.dispose();
  return out as unknown as Tensor<D>;
}

/**
 * As `attention`, and also the log-sum-exp of each query's scores `[B, H, Nq]` (float32; float64 for float64 inputs),
 * which has no gradient. With it, attention over parts of the keys can be merged.
 */
export function attentionWithLse<D extends FloatDType>(
  q: Tensor<D>,
  k: Tensor<D>,
  v: Tensor<D>,
  options: AttentionOptions<D> = {},
): { out: Tensor<D>; lse: Tensor<'float32' | 'float64'> } {
  const [out, lse] = named('attentionWithLse', 'attention', () => runAttention(q, k, v, options));
  return { out: out as unknown as Tensor<D>, lse: lse as unknown as Tensor<'float32' | 'float64'> };
}

const PACKED_OPTIONS = {
  bias: true,
  mask: true,
  scale: true,
  dropout: true,
  numHeads: true,
  queries: true,
} satisfies OptionNames<PackedAttentionOptions>;

/**
 * Self-attention straight from a packed projection, copying neither q, k nor v.
 *
 * Shapes: qkv `[B, N, 3 * H * d]`, whose features are ordered (q, k, v), head, d as timm's fused projection has them
 * -> `[B, N, H * d]`, or `[B, queries, H * d]`.
 *
 * @throws TensorError SHAPE when the last dimension is no multiple of 3 * numHeads, DTYPE or VALUE
 * @example
 * const out = attentionPacked(linear(x, wQkv, bQkv), { numHeads: 3 });
 */
export function attentionPacked<D extends FloatDType>(
  qkv: Tensor<D>,
  options: PackedAttentionOptions<D>,
): Tensor<D> {
  expectTensors('attentionPacked', qkv);
  expectOptions('attentionPacked', options, PACKED_OPTIONS);
  const { numHeads, queries = qkv.shape[1] } = options;
  if (qkv.ndim !== 3 || !(numHeads >= 1) || qkv.shape[2] % (3 * numHeads) !== 0) {
    fail(
      'attentionPacked',
      'SHAPE',
      `expected qkv [B, N, 3 * ${numHeads} * d], got [${qkv.shape.join(', ')}]`,
    );
  }
  const [batch, n, features] = qkv.shape;
  const { bias, mask } = options as unknown as { bias?: Tensor; mask?: Tensor };
  const s = settings(options, features / (3 * numHeads));
  const [out, lse] = attentionPackedOp(qkv, bias, mask, numHeads, queries, s);
  if (s.dropout > 0) takeRandom(batch * numHeads * queries * n);
  lse.dispose();
  return out as unknown as Tensor<D>;
}

const ROWS_OPTIONS = { bias: true, mask: true, scale: true } satisfies OptionNames<
  Omit<AttentionOptions, 'dropout'>
>;

/**
 * The attention probabilities of chosen queries, to look at what a model attends to without an N x N matrix.
 *
 * Shapes: q `[B, H, Nq, d]`, k `[B, H, Nk, d]`, rows: R query indices -> `[B, H, R, Nk]`. No gradient.
 *
 * @throws TensorError SHAPE, DTYPE, or (when read) INDEX for a row outside [0, Nq)
 * @example
 * const classToken = attentionRows(q, k, tensor([0], { dtype: 'int64' }));
 */
export function attentionRows<D extends FloatDType>(
  q: Tensor<D>,
  k: Tensor<D>,
  rows: Tensor<'int64'>,
  options: Pick<AttentionOptions<D>, 'bias' | 'mask' | 'scale'> = {},
): Tensor<D> {
  expectTensors('attentionRows', q, k, rows);
  expectOptions('attentionRows', options, ROWS_OPTIONS);
  const scale = options.scale ?? 1 / Math.sqrt(q.shape.at(-1) ?? 1);
  const { bias, mask } = options as { bias?: Tensor; mask?: Tensor };
  return attentionRowsOp(q, k, rows, bias, mask, scale) as Tensor<D>;
}
