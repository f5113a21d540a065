import type { Activation } from '../ops/linear.js';
import { mlp } from '../ops/mlp.js';
import { type OptionNames, expectOptions } from '../tensor/arguments.js';
import { Dropout, dropAndAdd } from './dropout.js';
import { Linear } from './linear.js';
import { type FloatTensor, Module } from './module.js';

/** What is between and in the two layers. */
export interface MlpLayerOptions {
  /** Default 'gelu'. */
  readonly activation?: Activation;
  /** Default true. */
  readonly bias?: boolean;
  /** Dropout after the activation and after the second layer. Default 0. */
  readonly dropout?: number;
}

const OPTIONS = { activation: true, bias: true, dropout: true } satisfies OptionNames<MlpLayerOptions>;

/**
 * The feed-forward part of a transformer block: `fc2(gelu(fc1(x)))`, and plus `residual` if one is given.
 *
 * Shapes: x `[..., C]` -> `[..., C]`, hidden units in between.
 */
export class Mlp extends Module<[x: FloatTensor, residual?: FloatTensor | undefined], FloatTensor> {
  readonly fc1: Linear;
  readonly fc2: Linear;
  readonly drop: Dropout;

  constructor(channels: number, hidden: number, options: MlpLayerOptions = {}) {
    super();
    expectOptions('Mlp', options, OPTIONS);
    const bias = options.bias ?? true;
    this.fc1 = new Linear(channels, hidden, { bias, activation: options.activation ?? 'gelu' });
    this.fc2 = new Linear(hidden, channels, { bias });
    this.drop = new Dropout(options.dropout ?? 0);
  }

  override forward(x: FloatTensor, residual?: FloatTensor): FloatTensor {
    const { fc1, fc2, drop } = this;
    // As one op, unless something stands between the layers, or listens there.
    if (drop.active || fc1.activation === 'none' || this.isHooked)
      return dropAndAdd(fc2, drop, drop.call(fc1.call(x)), residual);
    return mlp(x, fc1.weight, fc1.bias, fc2.weight, fc2.bias, { activation: fc1.activation, residual });
  }
}
