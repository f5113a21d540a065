/**
 * Dimensions by number, counted from the end where negative.
 */
import { fail } from '../tensor/error.js';
import type { Tensor } from '../tensor/tensor.js';

/** A dimension counted from the start. @throws TensorError INDEX for one that x lacks */
export function place(op: string, x: Tensor, dim: number): number {
  const at = dim < 0 ? dim + x.ndim : dim;
  if (!(Number.isInteger(at) && at >= 0 && at < x.ndim)) {
    fail(op, 'INDEX', `expected a dim within [${x.shape.join(', ')}], got ${dim}`);
  }
  return at;
}
