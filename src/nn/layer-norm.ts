import { layerNorm } from '../ops/layer-norm.js';
import { ones, zeros } from '../ops/creation.js';
import { type OptionNames, expectOptions } from '../tensor/arguments.js';
import { type FloatTensor, Module, parameter } from './module.js';

/** What a layer norm learns. */
export interface LayerNormLayerOptions {
  /** Added to the variance. Default 1e-6, as in ViT (PyTorch's is 1e-5). */
  readonly eps?: number;
  /** Learn a scale and a shift. Default true. */
  readonly affine?: boolean;
  /** Under `autocast`, give the result in 16 bits, for matrix products alone (`layerNorm`'s `lower`). Default false. */
  readonly lower?: boolean;
}

const OPTIONS = { eps: true, affine: true, lower: true } satisfies OptionNames<LayerNormLayerOptions>;

/**
 * Layer normalisation over the last dimension: `y = (x - mean) / sqrt(var + eps) * weight + bias`.
 *
 * @example
 * const y = new LayerNorm(192).call(x);
 */
export class LayerNorm extends Module<[x: FloatTensor], FloatTensor> {
  /** `[C]`, ones at first. */
  readonly weight: FloatTensor | undefined;
  /** `[C]`, zeros at first. */
  readonly bias: FloatTensor | undefined;
  readonly eps: number;
  readonly lower: boolean;

  constructor(channels: number, options: LayerNormLayerOptions = {}) {
    super();
    expectOptions('LayerNorm', options, OPTIONS);
    this.eps = options.eps ?? 1e-6;
    this.lower = options.lower === true;
    const affine = options.affine !== false;
    this.weight = affine ? parameter(ones([channels])) : undefined;
    this.bias = affine ? parameter(zeros([channels])) : undefined;
  }

  override forward(x: FloatTensor): FloatTensor {
    return layerNorm(x, this.weight, this.bias, { eps: this.eps, lower: this.lower });
  }
}
