/**
 * Dimensions by number, counted from the end where negative.
 */
import { expectNumber, expectTensors } from '../tensor/arguments.js';
import { fail } from '../tensor/error.js';
import type { Tensor } from '../tensor/tensor.js';

/** A dimension counted from the start. @throws TensorError INDEX for one that x lacks; VALUE for no tensor or no number */
export function place(op: string, x: Tensor, dim: number): number {
  expectTensors(op, x);
  expectNumber(op, 'dim', dim);
  const at = dim < 0 ? dim + x.ndim : dim;
  if (!(Number.isInteger(at) && at >= 0 && at < x.ndim)) {
    fail(op, 'INDEX', `expected a dim within [${x.shape.join(', ')}], got ${dim}`);
  }
  return at;
}
