import { linear, type Activation } from '../ops/linear.js';
import { uniform } from '../ops/random.js';
import { type OptionNames, expectNumber, expectOptions } from '../tensor/arguments.js';
import { type FloatTensor, Module, parameter } from './module.js';

/** What a linear layer learns, and applies after it. */
export interface LinearLayerOptions {
  /** Default true. */
  readonly bias?: boolean;
  /** Applied to the product plus bias, in the same kernel where that is possible. Default 'none'. */
  readonly activation?: Activation;
}

const OPTIONS = { bias: true, activation: true } satisfies OptionNames<LinearLayerOptions>;

/**
 * A fully connected layer: `y = activation(x W^T + b)`, and plus `residual` if one is given.
 *
 * Shapes: x `[..., in]` -> `[..., out]`. Weight and bias start uniform in ±1 / sqrt(in), as PyTorch's.
 *
 * @example
 * const y = new Linear(192, 768, { activation: 'gelu' }).call(x);
 */
export class Linear extends Module<[x: FloatTensor, residual?: FloatTensor | undefined], FloatTensor> {
  /** `[out, in]` */
  readonly weight: FloatTensor;
  /** `[out]` */
  readonly bias: FloatTensor | undefined;
  readonly activation: Activation;

  constructor(inFeatures: number, outFeatures: number, options: LinearLayerOptions = {}) {
    super();
    expectOptions('Linear', options, OPTIONS);
    expectNumber('Linear', 'inFeatures', inFeatures);
    const bound = 1 / Math.sqrt(inFeatures);
    this.weight = parameter(uniform([outFeatures, inFeatures], { low: -bound, high: bound }));
    this.bias =
      options.bias === false ? undefined : parameter(uniform([outFeatures], { low: -bound, high: bound }));
    this.activation = options.activation ?? 'none';
  }

  override forward(x: FloatTensor, residual?: FloatTensor): FloatTensor {
    return linear(x, this.weight, this.bias, { activation: this.activation, residual });
  }
}
