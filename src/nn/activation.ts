import { gelu } from '../ops/unary.js';
import { type FloatTensor, Module } from './module.js';

/** `y = x Φ(x)`, with the error function, or its tanh approximation. */
export class GELU extends Module<[x: FloatTensor], FloatTensor> {
  readonly approximate: 'none' | 'tanh';

  constructor(approximate: 'none' | 'tanh' = 'none') {
    super();
    this.approximate = approximate;
  }

  override forward(x: FloatTensor): FloatTensor {
    return gelu(x, { approximate: this.approximate });
  }
}
