/**
 * Tensors from a shape: constants, ranges, the identity; and conversion.
 */
import { native } from '../native.js';
import { type OptionNames, expectNumber, expectOptions, expectTensors } from '../tensor/arguments.js';
import { ownOp } from '../tensor/define-op.js';
import { type Device, deviceIndex, isDeviceName } from '../tensor/device.js';
import { type DType, type FloatDType, dtypeCode } from '../tensor/dtype.js';
import { fail, named } from '../tensor/error.js';
import { setRequiresGrad } from '../tensor/tape.js';
import { type Tensor, share, wrap } from '../tensor/tensor.js';

/** What kind of tensor to make, and where. */
export interface CreateOptions<D extends DType = DType> {
  /** Element type. Default 'float32', unless the function says otherwise. */
  readonly dtype?: D;
  /** Default 'cpu'. */
  readonly device?: Device;
  /** Make it a leaf that collects its gradient. Default false. */
  readonly requiresGrad?: boolean;
}

/** @internal */
export const CREATE_OPTIONS = {
  dtype: true,
  device: true,
  requiresGrad: true,
} satisfies OptionNames<CreateOptions>;

/** @internal Applies the `requiresGrad` option to a new tensor. */
export function withGrad<D extends DType>(tensor: Tensor<D>, options: CreateOptions<D>): Tensor<D> {
  if (options.requiresGrad === true) setRequiresGrad(tensor as unknown as Tensor<FloatDType>);
  return tensor;
}

/** @internal The native numbers of the options' device and dtype. */
export function target(options: CreateOptions, dtype: DType = 'float32'): [device: number, dtype: number] {
  return [deviceIndex(options.device ?? 'cpu'), dtypeCode(options.dtype ?? dtype)];
}

/**
 * A tensor filled with one value.
 *
 * @throws TensorError SHAPE for a negative size; VALUE for a value that the dtype cannot hold
 * @example
 * full([2, 2], 7) // [[7, 7], [7, 7]]
 */
export function full<D extends DType = 'float32'>(
  shape: readonly number[],
  value: number,
  options: CreateOptions<D> = {},
): Tensor<NoInfer<D>> {
  expectOptions('full', options, CREATE_OPTIONS);
  const [device, dtype] = target(options);
  return withGrad(wrap<D>(native.full(device, shape, value, dtype)), options);
}

/**
 * A tensor of zeros.
 *
 * @throws TensorError SHAPE for a negative size
 * @example
 * zeros([2, 3], { dtype: 'int64' })
 */
export function zeros<D extends DType = 'float32'>(
  shape: readonly number[],
  options: CreateOptions<D> = {},
): Tensor<NoInfer<D>> {
  return named('zeros', 'full', () => full(shape, 0, options));
}

/**
 * A tensor of ones.
 *
 * @throws TensorError SHAPE for a negative size
 * @example
 * const gamma = ones([192], { requiresGrad: true });
 */
export function ones<D extends DType = 'float32'>(
  shape: readonly number[],
  options: CreateOptions<D> = {},
): Tensor<NoInfer<D>> {
  return named('ones', 'full', () => full(shape, 1, options));
}

/**
 * Zeros with the shape, dtype and device of x.
 *
 * @example
 * const momentum = zerosLike(weight);
 */
export function zerosLike<D extends DType>(x: Tensor<D>): Tensor<D> {
  expectTensors('zerosLike', x);
  return named('zerosLike', 'full', () => full(x.shape, 0, { dtype: x.dtype, device: x.device }));
}

/**
 * Ones with the shape, dtype and device of x.
 *
 * @example
 * backward(y, { gradient: onesLike(y) });
 */
export function onesLike<D extends DType>(x: Tensor<D>): Tensor<D> {
  expectTensors('onesLike', x);
  return named('onesLike', 'full', () => full(x.shape, 1, { dtype: x.dtype, device: x.device }));
}

/** The distance of the numbers, and what kind of tensor to make. */
export interface ArangeOptions<D extends DType = DType> extends CreateOptions<D> {
  /** Distance between neighbours; negative to count down. Default 1. */
  readonly step?: number;
}

const ARANGE_OPTIONS = { ...CREATE_OPTIONS, step: true } satisfies OptionNames<ArangeOptions>;

/**
 * Evenly spaced numbers: `start, start + step, ...` up to and without `stop`; `arange(stop)` starts at 0. The default
 * dtype is int64.
 *
 * @throws TensorError VALUE for a step of 0, or for numbers that the dtype cannot hold
 * @example
 * arange(4) // [0, 1, 2, 3]
 * arange(0, 1, { step: 0.25, dtype: 'float32' }) // [0, 0.25, 0.5, 0.75]
 */
export function arange<D extends DType = 'int64'>(
  stop: number,
  options?: ArangeOptions<D>,
): Tensor<NoInfer<D>>;
export function arange<D extends DType = 'int64'>(
  start: number,
  stop: number,
  options?: ArangeOptions<D>,
): Tensor<NoInfer<D>>;
export function arange<D extends DType = 'int64'>(
  first: number,
  second: number | ArangeOptions<D> = {},
  third: ArangeOptions<D> = {},
): Tensor<NoInfer<D>> {
  const [start, stop, options] = typeof second === 'number' ? [first, second, third] : [0, first, second];
  expectOptions('arange', options, ARANGE_OPTIONS);
  const { step = 1, dtype = 'int64' as D } = options;
  expectNumber('arange', 'start', start);
  expectNumber('arange', 'stop', stop);
  expectNumber('arange', 'step', step);
  const count = Math.max(0, Math.ceil((stop - start) / step));
  if (!Number.isSafeInteger(count)) {
    fail(
      'arange',
      'VALUE',
      `expected a finite range and a step other than 0, got ${start} to ${stop} by ${step}`,
    );
  }
  const fractional = !Number.isInteger(start) || !Number.isInteger(step);
  if (fractional && (dtype === 'int64' || dtype === 'int32' || dtype === 'uint8')) {
    fail('arange', 'VALUE', `expected whole numbers for ${dtype}, got ${start} by ${step}`);
  }
  const [device, code] = target(options, dtype);
  return withGrad(wrap<D>(native.arange(device, count, start, step, code)), options);
}

/**
 * The identity matrix `[n, n]`.
 *
 * @throws TensorError SHAPE for a negative size
 * @example
 * eye(2) // [[1, 0], [0, 1]]
 */
export function eye<D extends DType = 'float32'>(
  n: number,
  options: CreateOptions<D> = {},
): Tensor<NoInfer<D>> {
  expectOptions('eye', options, CREATE_OPTIONS);
  const [device, dtype] = target(options);
  return withGrad(wrap<D>(native.eye(device, n, dtype)), options);
}

const toOp = ownOp({
  name: 'to',
  forward(ctx, x: Tensor, dtype: DType): Tensor {
    ctx.state = x.dtype;
    return x.dtype === dtype ? share(x) : wrap(native.to(x.id, dtypeCode(dtype)));
  },
  backward({ state }, dy) {
    if (dy === undefined) return [];
    const dtype = state as DType;
    return [dy.dtype === dtype ? dy : wrap(native.to(dy.id, dtypeCode(dtype)))];
  },
});

const toWholeOp = ownOp({
  name: 'to',
  forward: (_ctx, x: Tensor, dtype: DType): Tensor => wrap(native.to(x.id, dtypeCode(dtype))),
});

const UNRECORDED: ReadonlySet<DType> = new Set(['int32', 'int64', 'uint8', 'bool']);

function moved(x: Tensor, device: Device): Tensor {
  const index = deviceIndex(device);
  return deviceIndex(x.device) === index ? share(x) : wrap(native.toDevice(x.id, index));
}

const toDeviceOp = ownOp({
  name: 'to',
  forward(ctx, x: Tensor, device: Device): Tensor {
    ctx.state = x.device;
    return moved(x, device);
  },
  backward: ({ state }, dy) => [dy && moved(dy, state as Device)],
});

/**
 * x with another dtype, or on another device. Floating-point to integer truncates towards zero; anything but zero becomes
 * true. A move waits until x has been computed, and blocks meanwhile. The result is a tensor of its own to dispose of, but
 * shares x's memory when x has the dtype, or is on the device, already.
 *
 * @throws TensorError DEVICE for a device that is not there
 * @example
 * const half = to(weight, 'bfloat16');
 * const there = to(weight, 'cuda');
 */
export function to<E extends DType>(x: Tensor, dtype: E): Tensor<E>;
export function to<D extends DType>(x: Tensor<D>, device: Device): Tensor<D>;
export function to(x: Tensor, target: DType | Device): Tensor {
  expectTensors('to', x);
  if (isDeviceName(target)) return toDeviceOp(x, target);
  if (UNRECORDED.has(target)) return toWholeOp(x, target);
  return toOp(x, target);
}

const cloneOp = ownOp({
  name: 'clone',
  forward: (_ctx, x: Tensor): Tensor => wrap(native.clone(x.id)),
  backward: (_ctx, dy) => [dy],
});

/**
 * A copy of x in memory of its own, in row-major order.
 *
 * @example
 * const snapshot = clone(weight);
 */
export function clone<D extends DType>(x: Tensor<D>): Tensor<D> {
  return cloneOp(x) as Tensor<D>;
}
