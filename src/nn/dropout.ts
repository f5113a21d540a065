import { dropPath, dropout } from '../ops/dropout.js';
import { fail } from '../tensor/error.js';
import type { Linear } from './linear.js';
import { type FloatTensor, Module } from './module.js';

function checkRate(op: string, p: number): number {
  return p >= 0 && p < 1 ? p : fail(op, 'VALUE', `expected a probability in [0, 1), got ${p}`);
}

/** In training, zeroes elements with probability p and divides the others by 1 - p. */
export class Dropout extends Module<[x: FloatTensor], FloatTensor> {
  readonly p: number;

  constructor(p: number) {
    super();
    this.p = checkRate('Dropout', p);
  }

  override forward(x: FloatTensor): FloatTensor {
    return this.training ? dropout(x, this.p) : x;
  }

  /** Whether a call would change anything now. */
  get active(): boolean {
    return this.training && this.p > 0;
  }
}

/** `drop(layer(x)) + residual`: in one kernel where no dropout stands between the product and the sum. */
export function dropAndAdd(
  layer: Linear,
  drop: Dropout,
  x: FloatTensor,
  residual?: FloatTensor,
): FloatTensor {
  if (!drop.active) return layer.call(x, residual);
  const y = drop.call(layer.call(x));
  return residual === undefined ? y : y.add(residual);
}

/** Stochastic depth: in training, zeroes whole samples with probability p and divides the others by 1 - p. */
export class DropPath extends Module<[x: FloatTensor], FloatTensor> {
  readonly p: number;

  constructor(p: number) {
    super();
    this.p = checkRate('DropPath', p);
  }

  override forward(x: FloatTensor): FloatTensor {
    return this.training ? dropPath(x, this.p) : x;
  }

  /** Whether a call would change anything now. */
  get active(): boolean {
    return this.training && this.p > 0;
  }
}
