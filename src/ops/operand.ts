/**
 * What the arithmetic files share: operands that are tensors or numbers, and kernels on tensors without recording,
 * for forward and backward functions.
 */
import { native, type TensorId } from '../native.js';
import { numbersOf } from '../tensor/arguments.js';
import { type Device, deviceIndex } from '../tensor/device.js';
import { type DType, type IndexDType, dtypeCode } from '../tensor/dtype.js';
import { fail, shown } from '../tensor/error.js';
import { Tensor, wrap } from '../tensor/tensor.js';

/** A tensor, or a number that takes the dtype of the tensor beside it. */
export type Operand<D extends DType = DType> = Tensor<D> | number;

/**
 * A tensor whose dtype E may be D, as far as the compiler knows: of a model's output it knows no more than that it is a float.
 * At run time they are one, or the op throws; a result has a dtype that both may have.
 */
export type MaybeLike<D extends DType, E extends DType> = Tensor<E> &
  ([D & E] extends [never] ? never : unknown);

/** Whole numbers that are places in another tensor. */
export type IndexTensor = Tensor<'int32'> | Tensor<'int64'> | Tensor<IndexDType>;

/** A measure of an image: one number for rows and columns alike, or [rows, columns]. */
export type Pair = number | readonly [rows: number, columns: number];

/** The measure as [rows, columns]. @throws TensorError VALUE for what is neither a number nor an array of them */
export function pairOf(op: string, parameter: string, value: Pair): readonly [rows: number, columns: number] {
  const numbers = typeof value === 'number' ? [value, value] : numbersOf(op, parameter, value);
  return numbers as readonly [rows: number, columns: number];
}

/** Whether an image op ends in ReLU. @throws TensorError VALUE for any other activation but none */
export function isRelu(op: string, activation: string): boolean {
  if (activation !== 'none' && activation !== 'relu') {
    fail(op, 'VALUE', `expected an activation of none or relu, got '${activation}'`);
  }
  return activation === 'relu';
}

/** Zeros to be read, of the dtype and on the device of `like`: one element seen everywhere. */
export function zeroView(like: { dtype: DType; device: Device }, shape: readonly number[]): Tensor {
  const zero = wrap(native.full(deviceIndex(like.device), [], 0, dtypeCode(like.dtype)));
  return wrap(native.expand(zero.id, shape));
}

type BinaryKernel = (a: TensorId | undefined, b: TensorId | undefined, scalar: number) => TensorId;

/** The identifier of an operand, undefined for a number. @throws TensorError VALUE for what JavaScript may give instead */
function idOf(op: string, x: unknown): TensorId | undefined {
  if (x instanceof Tensor) return x.id;
  if (typeof x === 'number') return undefined;
  return fail(op, 'VALUE', `expected a tensor or a number, got ${shown(x)}`);
}

/** Calls a native function of two operands, which bears its op's name. */
export function applyBinary(kernel: BinaryKernel, a: Operand, b: Operand): Tensor {
  const scalar = typeof a === 'number' ? a : typeof b === 'number' ? b : 0;
  return wrap(kernel(idOf(kernel.name, a), idOf(kernel.name, b), scalar));
}

export const plus = (a: Operand, b: Operand): Tensor => applyBinary(native.add, a, b);
export const minus = (a: Operand, b: Operand): Tensor => applyBinary(native.sub, a, b);
export const times = (a: Operand, b: Operand): Tensor => applyBinary(native.mul, a, b);
export const over = (a: Operand, b: Operand): Tensor => applyBinary(native.div, a, b);
export const power = (a: Operand, b: Operand): Tensor => applyBinary(native.pow, a, b);
export const negative = (x: Tensor): Tensor => wrap(native.neg(x.id));

/** `chosen` where `condition` holds, else `other`. */
export function choose(condition: Tensor, chosen: Operand, other: Operand): Tensor {
  const scalar = (x: Operand): number => (typeof x === 'number' ? x : 0);
  const [a, b] = [idOf('where', chosen), idOf('where', other)];
  return wrap(native.where(condition.id, a, b, scalar(chosen), scalar(other)));
}

/** Undoes broadcasting: sums a gradient over the dimensions along which an operand of `shape` was repeated. */
export function sumTo(gradient: Tensor, shape: readonly number[]): Tensor {
  return wrap(native.sumTo(gradient.id, shape));
}
