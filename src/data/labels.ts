/**
 * Checks that every data set makes.
 */
import { fail } from '../tensor/error.js';

/** Integers in memory that worker threads share. */
export function sharedInt32(values: readonly number[] | Int32Array): Int32Array {
  const shared = new Int32Array(new SharedArrayBuffer(4 * values.length));
  shared.set(values);
  return shared;
}

/** Integers up to 2^53 in memory that worker threads share. */
export function sharedFloat64(values: readonly number[]): Float64Array {
  const shared = new Float64Array(new SharedArrayBuffer(8 * values.length));
  shared.set(values);
  return shared;
}

/** @throws TensorError IO for a label outside the classes */
export function checkLabels(name: string, labels: Int32Array, classes: number): void {
  const at = labels.findIndex((label) => label < 0 || label >= classes);
  if (at >= 0) {
    fail(
      'openDataset',
      'IO',
      `expected labels below ${classes} in ${name}, got ${labels[at]} for image ${at}`,
    );
  }
}

/** @throws TensorError INDEX */
export function checkIndex(name: string, index: number, length: number): void {
  if (!(Number.isInteger(index) && index >= 0 && index < length)) {
    fail('dataset', 'INDEX', `expected an image below ${length} of ${name}, got ${index}`);
  }
}
