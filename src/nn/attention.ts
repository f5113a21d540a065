import { type AttentionOptions, attention, attentionPacked } from '../ops/attention.js';
import { type OptionNames, expectOptions } from '../tensor/arguments.js';
import { fail } from '../tensor/error.js';
import { Dropout, dropAndAdd } from './dropout.js';
import { LayerNorm } from './layer-norm.js';
import { Linear } from './linear.js';
import { type FloatTensor, Module } from './module.js';

/** Heads, biases, norms and dropouts of an attention layer. */
export interface AttentionLayerOptions {
  readonly numHeads: number;
  /** A bias in the joint projection to q, k and v. Default true. */
  readonly qkvBias?: boolean;
  /** Normalise q and k of each head before their product. Default false. */
  readonly qkNorm?: boolean;
  /** Dropout on the attention weights. Default 0. */
  readonly attnDropout?: number;
  /** Dropout after the output projection. Default 0. */
  readonly projDropout?: number;
  /** Of the q and k norms. Default 1e-6. */
  readonly eps?: number;
}

/** Extras of a call: what to add to the scores, where not to look, who asks, and a residual to add to the result. */
export interface AttentionCall {
  readonly bias?: AttentionOptions['bias'];
  readonly mask?: AttentionOptions['mask'];
  /** Compute the result of the first so many tokens alone. Default: of all. */
  readonly queries?: number | undefined;
  /** Shape of the result. */
  readonly residual?: FloatTensor | undefined;
}

const OPTIONS = {
  numHeads: true,
  qkvBias: true,
  qkNorm: true,
  attnDropout: true,
  projDropout: true,
  eps: true,
} satisfies OptionNames<AttentionLayerOptions>;

/**
 * Multi-head self-attention: one projection to q, k and v, fused attention, one projection of the result.
 *
 * Shapes: x `[B, N, C]` -> `[B, N, C]`, or `[B, queries, C]`. The features of `qkv` are ordered (q, k, v), head, d, as in timm.
 */
export class Attention extends Module<[x: FloatTensor, extras?: AttentionCall], FloatTensor> {
  readonly qkv: Linear;
  readonly qNorm: LayerNorm | undefined;
  readonly kNorm: LayerNorm | undefined;
  readonly proj: Linear;
  readonly projDrop: Dropout;
  readonly numHeads: number;
  readonly attnDropout: number;

  constructor(channels: number, options: AttentionLayerOptions) {
    super();
    expectOptions('Attention', options, OPTIONS);
    const { numHeads } = options;
    if (!(Number.isInteger(numHeads) && numHeads > 0 && channels % numHeads === 0)) {
      fail('Attention', 'VALUE', `expected heads that divide ${channels} channels, got ${numHeads}`);
    }
    this.numHeads = numHeads;
    this.qkv = new Linear(channels, 3 * channels, { bias: options.qkvBias ?? true });
    const eps = options.eps ?? 1e-6;
    this.qNorm =
      options.qkNorm === true ? new LayerNorm(channels / numHeads, { eps, lower: true }) : undefined;
    this.kNorm =
      options.qkNorm === true ? new LayerNorm(channels / numHeads, { eps, lower: true }) : undefined;
    this.proj = new Linear(channels, channels);
    this.projDrop = new Dropout(options.projDropout ?? 0);
    this.attnDropout = options.attnDropout ?? 0;
  }

  override forward(x: FloatTensor, extras: AttentionCall = {}): FloatTensor {
    const { residual, ...rest } = extras;
    const options = { ...rest, dropout: this.training ? this.attnDropout : 0 };
    const qkv = this.qkv.call(x);
    const mixed =
      this.qNorm === undefined || this.kNorm === undefined
        ? attentionPacked(qkv, { ...options, numHeads: this.numHeads })
        : this.normedAttention(qkv, this.qNorm, this.kNorm, options);
    return dropAndAdd(this.proj, this.projDrop, mixed, residual);
  }

  /** Attention with q and k normalised by head. */
  private normedAttention(
    qkv: FloatTensor,
    qNorm: LayerNorm,
    kNorm: LayerNorm,
    options: AttentionOptions & Pick<AttentionCall, 'queries'>,
  ): FloatTensor {
    const [batch, n, features] = qkv.shape;
    const { queries = n, ...rest } = options;
    const heads = qkv.reshape([batch, n, 3, this.numHeads, features / (3 * this.numHeads)]);
    const [q, k, v] = heads.unbind(2).map((part) => part.transpose(1, 2));
    const mixed = attention(qNorm.call(q.narrow(2, 0, queries)), kNorm.call(k), v, rest);
    return mixed.transpose(1, 2).reshape([batch, queries, features / 3]);
  }
}
