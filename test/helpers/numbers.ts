import type { ExecutionContext } from 'ava';

import { type FloatTensor, type Tensor, scope } from '../../src/index.js';

/** Asserts that a tensor (or an array) holds these numbers, each to an absolute tolerance. */
export async function close(
  t: ExecutionContext,
  actual: Tensor | ArrayLike<number> | undefined,
  expected: ArrayLike<number>,
  tolerance = 1e-6,
): Promise<void> {
  const values = actual !== undefined && 'handle' in actual ? await actual.data() : actual;
  const got = Array.from(values ?? []);
  const wanted = Array.from(expected);
  const fits = got.length === wanted.length && got.every((x, i) => Math.abs(x - wanted[i]) <= tolerance);
  t.true(fits, `expected [${wanted.join(', ')}], got [${got.join(', ')}]`);
}

/**
 * The gradient of a scalar function with respect to a float64 tensor by central differences,
 * `(f(x + h) - f(x - h)) / 2h`, one element at a time. `rebuild` makes x from its elements.
 */
export function finiteDifferences(
  f: (x: FloatTensor) => FloatTensor,
  values: Float64Array,
  rebuild: (values: Float64Array) => FloatTensor,
  h = 1e-6,
): Float64Array {
  const at = (i: number, offset: number): number =>
    scope(() => {
      const moved = values.slice();
      moved[i] += offset;
      return f(rebuild(moved)).itemSync();
    });
  return values.map((_, i) => (at(i, h) - at(i, -h)) / (2 * h));
}
