import { zeros } from '../ops/index.js';
import { windowAttention } from '../ops/window-attention.js';
import { type OptionNames, expectOptions, expectTensors } from '../tensor/arguments.js';
import { fail } from '../tensor/error.js';
import { Dropout, dropAndAdd } from './dropout.js';
import { initTruncatedNormal } from './init.js';
import { Linear } from './linear.js';
import { type FloatTensor, Module, parameter } from './module.js';

/** Heads, windows, biases and dropouts of a window attention layer. */
export interface WindowAttentionLayerOptions {
  readonly numHeads: number;
  /** Tokens of a window, down and across. */
  readonly window: readonly [height: number, width: number];
  /** How far the windows are shifted. Default none. */
  readonly shift?: readonly [down: number, right: number];
  /** A bias in the joint projection to q, k and v. Default true. */
  readonly qkvBias?: boolean;
  /** Dropout on the attention weights. Default 0. */
  readonly attnDropout?: number;
  /** Dropout after the output projection. Default 0. */
  readonly projDropout?: number;
}

const OPTIONS = {
  numHeads: true,
  window: true,
  shift: true,
  qkvBias: true,
  attnDropout: true,
  projDropout: true,
} satisfies OptionNames<WindowAttentionLayerOptions>;

/**
 * Multi-head self-attention inside windows of a map, with a learned bias for each relative position: one projection to
 * q, k and v, fused window attention, one projection of the result, and plus `residual` if one is given.
 *
 * Shapes: x `[B, H, W, C]` -> `[B, H, W, C]`. A map that the window does not divide is filled up with zeros at the bottom
 * and the right before the projection, as timm does it: only their projection, the bias, is ever seen.
 *
 * Source: Liu et al., "Swin Transformer", 2021, section 3.2.
 */
export class WindowAttention extends Module<
  [x: FloatTensor, residual?: FloatTensor | undefined],
  FloatTensor
> {
  /** `[(2 h - 1) (2 w - 1), heads]` for windows of h x w. */
  readonly relativePositionBiasTable: FloatTensor;
  readonly qkv: Linear;
  readonly proj: Linear;
  readonly projDrop: Dropout;
  readonly window: readonly [height: number, width: number];
  readonly shift: readonly [down: number, right: number];
  readonly attnDropout: number;

  constructor(channels: number, options: WindowAttentionLayerOptions) {
    super();
    expectOptions('WindowAttention', options, OPTIONS);
    const { numHeads, window } = options;
    if (!(Number.isInteger(numHeads) && numHeads > 0 && channels % numHeads === 0)) {
      fail('WindowAttention', 'VALUE', `expected heads that divide ${channels} channels, got ${numHeads}`);
    }
    this.window = window;
    this.shift = options.shift ?? [0, 0];
    this.relativePositionBiasTable = parameter(zeros([(2 * window[0] - 1) * (2 * window[1] - 1), numHeads]));
    initTruncatedNormal(this.relativePositionBiasTable, 0.02);
    this.qkv = new Linear(channels, 3 * channels, { bias: options.qkvBias ?? true });
    this.proj = new Linear(channels, channels);
    this.projDrop = new Dropout(options.projDropout ?? 0);
    this.attnDropout = options.attnDropout ?? 0;
  }

  override forward(x: FloatTensor, residual?: FloatTensor): FloatTensor {
    expectTensors('WindowAttention', x);
    const { window, shift } = this;
    const padded = x.shape[1] % window[0] !== 0 || x.shape[2] % window[1] !== 0;
    const mixed = windowAttention(this.qkv.call(x), this.relativePositionBiasTable, {
      window,
      shift,
      padding: padded ? this.qkv.bias : undefined,
      dropout: this.training ? this.attnDropout : 0,
    });
    return dropAndAdd(this.proj, this.projDrop, mixed, residual);
  }
}
