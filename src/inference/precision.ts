/**
 * The precisions of training and inference, by the names that command lines use.
 */
import { fail, shown } from '../tensor/error.js';
import { autocast } from '../tensor/index.js';

/** @internal Every precision, and what `autocast` calls it. */
export const PRECISIONS = { float32: 'float32', bf16: 'bfloat16', fp16: 'float16' } as const;

/**
 * What matrix products and attention compute in: 'float32', or with float32 weights 'bf16' (bfloat16) or 'fp16' (float16, whose
 * losses are scaled in training).
 */
export type Precision = keyof typeof PRECISIONS;

/** @internal @throws TensorError VALUE for another */
export function expectPrecision(op: string, precision: Precision): Precision {
  if (Object.hasOwn(PRECISIONS, precision)) return precision;
  const known = Object.keys(PRECISIONS).join(', ');
  return fail(op, 'VALUE', `expected a precision of ${known}, got ${shown(precision)}`);
}

/** @internal Runs `fn` in a precision. */
export function inPrecision<T>(precision: Precision, fn: () => T): T {
  return autocast(PRECISIONS[precision], fn);
}
