/**
 * Filling parameters with their first values.
 */
import { full } from '../ops/creation.js';
import { normal, truncatedNormal, uniform } from '../ops/random.js';
import { expectTensors } from '../tensor/arguments.js';
import type { Device } from '../tensor/device.js';
import { copyInto } from '../tensor/memory.js';
import type { FloatDType } from '../tensor/dtype.js';
import type { FloatTensor } from './module.js';

function fill(
  op: string,
  target: FloatTensor,
  make: (shape: readonly number[], options: { dtype: FloatDType; device: Device }) => FloatTensor,
): void {
  expectTensors(op, target);
  const values = make(target.shape, { dtype: target.dtype, device: target.device });
  copyInto(target, values);
  values.dispose();
}

/** One value everywhere. */
export function initConstant(target: FloatTensor, value: number): void {
  fill('initConstant', target, (shape, options) => full(shape, value, options));
}

/** A normal distribution around 0. */
export function initNormal(target: FloatTensor, std: number): void {
  fill('initNormal', target, (shape, options) => normal(shape, { ...options, std }));
}

/** A normal distribution around 0, cut off at ±2 (not at two standard deviations), as timm's `trunc_normal_`. */
export function initTruncatedNormal(target: FloatTensor, std: number): void {
  fill('initTruncatedNormal', target, (shape, options) => truncatedNormal(shape, { ...options, std }));
}

/** Uniform within ±bound. */
export function initUniform(target: FloatTensor, bound: number): void {
  fill('initUniform', target, (shape, options) => uniform(shape, { ...options, low: -bound, high: bound }));
}

/** Xavier: uniform within ±sqrt(6 / (fanIn + fanOut)) for a weight `[fanOut, fanIn]`. Source: Glorot and Bengio, 2010. */
export function initXavierUniform(target: FloatTensor): void {
  expectTensors('initXavierUniform', target);
  const [fanOut, fanIn] = target.shape;
  initUniform(target, Math.sqrt(6 / (fanIn + fanOut)));
}

/** LeCun: normal cut off at two standard deviations, with variance 1 / fanIn. */
export function initLecunNormal(target: FloatTensor): void {
  expectTensors('initLecunNormal', target);
  const fanIn = target.shape.slice(1).reduce((product, n) => product * n, 1);
  const std = Math.sqrt(1 / fanIn) / 0.87962566103423978; // the standard deviation of a normal cut off at ±2
  fill('initLecunNormal', target, (shape, options) =>
    truncatedNormal(shape, { ...options, std, low: -2 * std, high: 2 * std }),
  );
}
