import { full } from '../ops/creation.js';
import { expectTensors } from '../tensor/arguments.js';
import { type FloatTensor, Module, parameter } from './module.js';

/**
 * A learned scale for each channel of a residual branch: `y = gamma x`.
 *
 * Source: Touvron et al., "Going deeper with image transformers", 2021.
 */
export class LayerScale extends Module<[x: FloatTensor], FloatTensor> {
  /** `[C]` */
  readonly gamma: FloatTensor;

  constructor(channels: number, initValue: number) {
    super();
    this.gamma = parameter(full([channels], initValue));
  }

  override forward(x: FloatTensor): FloatTensor {
    expectTensors('LayerScale', x);
    return x.mul(this.gamma);
  }
}
