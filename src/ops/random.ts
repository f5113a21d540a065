/**
 * Tensors of random numbers, from the Philox sequence that `manualSeed()` starts: the same seed gives the same numbers
 * on every device and for any number of threads.
 *
 * Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011.
 */
import { native } from '../native.js';
import { expectOptions } from '../tensor/arguments.js';
import { type Device, deviceIndex } from '../tensor/device.js';
import type { DType, FloatDType } from '../tensor/dtype.js';
import { named } from '../tensor/error.js';
import { getRandomState, takeRandom } from '../tensor/random.js';
import { type Tensor, wrap } from '../tensor/tensor.js';
import { CREATE_OPTIONS, type CreateOptions, target, withGrad } from './creation.js';

type Kind = 'uniform' | 'normal' | 'truncatedNormal' | 'bernoulli' | 'randint';

const OPTIONS: Readonly<Record<Kind, Readonly<Record<string, true>>>> = {
  uniform: { ...CREATE_OPTIONS, low: true, high: true },
  normal: { ...CREATE_OPTIONS, mean: true, std: true },
  truncatedNormal: { ...CREATE_OPTIONS, mean: true, std: true, low: true, high: true },
  bernoulli: CREATE_OPTIONS,
  randint: CREATE_OPTIONS,
};

function draw<D extends DType>(
  kind: Kind,
  shape: readonly number[],
  [a, b, c, d]: readonly [number, number, number, number],
  options: CreateOptions<D>,
  fallback: DType = 'float32',
): Tensor<D> {
  expectOptions(kind, options, OPTIONS[kind]);
  const [device, dtype] = target(options, fallback);
  const { seed, offset } = getRandomState();
  const x = named(kind, 'random', () =>
    wrap<D>(native.random(device, shape, kind, a, b, c, d, seed, offset, dtype)),
  );
  takeRandom(x.size); // an error leaves the sequence where it was
  return withGrad(x, options);
}

/**
 * Uniform numbers in `[low, high)`.
 *
 * @throws TensorError SHAPE for a negative size; VALUE unless low <= high; DTYPE unless floating-point
 * @example
 * uniform([2, 3], { low: -1, high: 1 })
 */
export function uniform<D extends FloatDType = 'float32'>(
  shape: readonly number[],
  options: CreateOptions<D> & { readonly low?: number; readonly high?: number } = {},
): Tensor<NoInfer<D>> {
  return draw('uniform', shape, [options.low ?? 0, options.high ?? 1, 0, 0], options);
}

/**
 * Normal numbers with a mean (default 0) and standard deviation (default 1).
 *
 * @throws TensorError SHAPE for a negative size; VALUE unless std >= 0; DTYPE unless floating-point
 * @example
 * normal([768], { std: 0.02 })
 */
export function normal<D extends FloatDType = 'float32'>(
  shape: readonly number[],
  options: CreateOptions<D> & { readonly mean?: number; readonly std?: number } = {},
): Tensor<NoInfer<D>> {
  return draw('normal', shape, [options.mean ?? 0, options.std ?? 1, 0, 0], options);
}

/**
 * Normal numbers cut off outside `[low, high]` (default -2 and 2, absolute values and not standard deviations, as in
 * timm's `trunc_normal_`).
 *
 * @throws TensorError SHAPE for a negative size; VALUE unless std >= 0 and low < high; DTYPE unless floating-point
 * @example
 * truncatedNormal([1, 197, 192], { std: 0.02 })
 */
export function truncatedNormal<D extends FloatDType = 'float32'>(
  shape: readonly number[],
  options: CreateOptions<D> & {
    readonly mean?: number;
    readonly std?: number;
    readonly low?: number;
    readonly high?: number;
  } = {},
): Tensor<NoInfer<D>> {
  const { mean = 0, std = 1, low = -2, high = 2 } = options;
  return draw('truncatedNormal', shape, [mean, std, low, high], options);
}

/**
 * Ones with probability p, else zeros.
 *
 * @throws TensorError SHAPE for a negative size; VALUE unless p is in [0, 1]
 * @example
 * bernoulli([8], 0.5)
 */
export function bernoulli<D extends DType = 'float32'>(
  shape: readonly number[],
  p: number,
  options: CreateOptions<D> = {},
): Tensor<NoInfer<D>> {
  return draw('bernoulli', shape, [p, 0, 0, 0], options);
}

/**
 * Whole numbers in `[low, high)`, int64 unless `dtype` says otherwise.
 *
 * @throws TensorError SHAPE for a negative size; VALUE unless low < high, both in the dtype's range
 * @example
 * randint([8], 0, 10)
 */
export function randint<D extends DType = 'int64'>(
  shape: readonly number[],
  low: number,
  high: number,
  options: CreateOptions<D> = {},
): Tensor<NoInfer<D>> {
  return draw('randint', shape, [low, high, 0, 0], options, 'int64');
}

/**
 * The numbers 0 to n - 1 in random order, int64.
 *
 * @throws TensorError VALUE for a negative n
 * @example
 * indexSelect(batch, 0, permutation(batch.shape[0]))
 */
export function permutation(n: number, options: { readonly device?: Device } = {}): Tensor<'int64'> {
  expectOptions('permutation', options, { device: true });
  const { seed, offset } = getRandomState();
  const x = wrap<'int64'>(native.permutation(deviceIndex(options.device ?? 'cpu'), n, seed, offset));
  takeRandom(n);
  return x;
}
