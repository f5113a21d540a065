/**
 * What a model gives, beside the classes that it is used with.
 */
import { fail } from '../tensor/error.js';

/** @throws TensorError VALUE unless logits are `[B, classes]` */
export function expectOutputs(op: string, shape: readonly number[], classes: number): void {
  if (shape.length === 2 && shape[1] === classes) return;
  const came = shape.length === 2 ? shape[1] : `logits [${shape.join(', ')}]`;
  fail(op, 'VALUE', `expected a model of ${classes} outputs, one for each class, got ${came}`);
}
