/**
 * Comparisons and logic. Operands broadcast as in arithmetic; results are bool and have no gradient.
 */
import { native } from '../native.js';
import { ownOp } from '../tensor/define-op.js';
import type { DType, NumericDType } from '../tensor/dtype.js';
import type { Tensor } from '../tensor/tensor.js';
import { type MaybeLike, type Operand, applyBinary } from './operand.js';

type Name =
  'equal' | 'notEqual' | 'less' | 'lessEqual' | 'greater' | 'greaterEqual' | 'logicalAnd' | 'logicalOr';

const comparison = (name: Name): ((a: Operand, b: Operand) => Tensor) =>
  ownOp({ name, forward: (_ctx, a: Operand, b: Operand): Tensor => applyBinary(native[name], a, b) });

const equalOp = comparison('equal');
const notEqualOp = comparison('notEqual');
const lessOp = comparison('less');
const lessEqualOp = comparison('lessEqual');
const greaterOp = comparison('greater');
const greaterEqualOp = comparison('greaterEqual');
const logicalAndOp = comparison('logicalAnd');
const logicalOrOp = comparison('logicalOr');

/**
 * True where a equals b: `y = a == b`, with broadcasting. NaN equals nothing.
 *
 * @throws TensorError SHAPE when the shapes do not broadcast; DTYPE when the dtypes differ; VALUE for a number that the
 *   dtype cannot hold
 * @example
 * equal(tensor([1, 2]), 2) // [false, true]
 */
export function equal<D extends DType>(a: Tensor<D>, b: Tensor<NoInfer<D>> | number): Tensor<'bool'>;
export function equal<D extends DType>(a: number, b: Tensor<D>): Tensor<'bool'>;
export function equal<D extends DType, E extends DType>(a: Tensor<D>, b: MaybeLike<D, E>): Tensor<'bool'>;
export function equal(a: Operand, b: Operand): Tensor {
  return equalOp(a, b);
}

/**
 * True where a differs from b: `y = a != b`, with broadcasting. NaN differs from everything.
 *
 * @throws TensorError SHAPE when the shapes do not broadcast; DTYPE when the dtypes differ; VALUE for a number that the
 *   dtype cannot hold
 * @example
 * notEqual(tensor([1, 2]), 2) // [true, false]
 */
export function notEqual<D extends DType>(a: Tensor<D>, b: Tensor<NoInfer<D>> | number): Tensor<'bool'>;
export function notEqual<D extends DType>(a: number, b: Tensor<D>): Tensor<'bool'>;
export function notEqual<D extends DType, E extends DType>(a: Tensor<D>, b: MaybeLike<D, E>): Tensor<'bool'>;
export function notEqual(a: Operand, b: Operand): Tensor {
  return notEqualOp(a, b);
}

/**
 * True where a is less than b: `y = a < b`, with broadcasting.
 *
 * @throws TensorError SHAPE when the shapes do not broadcast; DTYPE when the dtypes differ; VALUE for a number that the
 *   dtype cannot hold
 * @example
 * less(tensor([1, 2]), 2) // [true, false]
 */
export function less<D extends NumericDType>(a: Tensor<D>, b: Tensor<NoInfer<D>> | number): Tensor<'bool'>;
export function less<D extends NumericDType>(a: number, b: Tensor<D>): Tensor<'bool'>;
export function less<D extends NumericDType, E extends NumericDType>(
  a: Tensor<D>,
  b: MaybeLike<D, E>,
): Tensor<'bool'>;
export function less(a: Operand, b: Operand): Tensor {
  return lessOp(a, b);
}

/**
 * True where a is at most b: `y = a <= b`, with broadcasting.
 *
 * @throws TensorError SHAPE when the shapes do not broadcast; DTYPE when the dtypes differ; VALUE for a number that the
 *   dtype cannot hold
 * @example
 * lessEqual(tensor([1, 2]), 1) // [true, false]
 */
export function lessEqual<D extends NumericDType>(
  a: Tensor<D>,
  b: Tensor<NoInfer<D>> | number,
): Tensor<'bool'>;
export function lessEqual<D extends NumericDType>(a: number, b: Tensor<D>): Tensor<'bool'>;
export function lessEqual<D extends NumericDType, E extends NumericDType>(
  a: Tensor<D>,
  b: MaybeLike<D, E>,
): Tensor<'bool'>;
export function lessEqual(a: Operand, b: Operand): Tensor {
  return lessEqualOp(a, b);
}

/**
 * True where a is greater than b: `y = a > b`, with broadcasting.
 *
 * @throws TensorError SHAPE when the shapes do not broadcast; DTYPE when the dtypes differ; VALUE for a number that the
 *   dtype cannot hold
 * @example
 * greater(tensor([1, 2]), 1) // [false, true]
 */
export function greater<D extends NumericDType>(a: Tensor<D>, b: Tensor<NoInfer<D>> | number): Tensor<'bool'>;
export function greater<D extends NumericDType>(a: number, b: Tensor<D>): Tensor<'bool'>;
export function greater<D extends NumericDType, E extends NumericDType>(
  a: Tensor<D>,
  b: MaybeLike<D, E>,
): Tensor<'bool'>;
export function greater(a: Operand, b: Operand): Tensor {
  return greaterOp(a, b);
}

/**
 * True where a is at least b: `y = a >= b`, with broadcasting.
 *
 * @throws TensorError SHAPE when the shapes do not broadcast; DTYPE when the dtypes differ; VALUE for a number that the
 *   dtype cannot hold
 * @example
 * greaterEqual(tensor([1, 2]), 2) // [false, true]
 */
export function greaterEqual<D extends NumericDType>(
  a: Tensor<D>,
  b: Tensor<NoInfer<D>> | number,
): Tensor<'bool'>;
export function greaterEqual<D extends NumericDType>(a: number, b: Tensor<D>): Tensor<'bool'>;
export function greaterEqual<D extends NumericDType, E extends NumericDType>(
  a: Tensor<D>,
  b: MaybeLike<D, E>,
): Tensor<'bool'>;
export function greaterEqual(a: Operand, b: Operand): Tensor {
  return greaterEqualOp(a, b);
}

/**
 * True where both a and b are, with broadcasting.
 *
 * @throws TensorError SHAPE when the shapes do not broadcast; DTYPE unless both are bool
 * @example
 * logicalAnd(greater(x, 0), less(x, 1))
 */
export function logicalAnd(a: Tensor<'bool'>, b: Tensor<'bool'>): Tensor<'bool'> {
  return logicalAndOp(a, b) as Tensor<'bool'>;
}

/**
 * True where a or b is, with broadcasting.
 *
 * @throws TensorError SHAPE when the shapes do not broadcast; DTYPE unless both are bool
 * @example
 * logicalOr(less(x, 0), greater(x, 1))
 */
export function logicalOr(a: Tensor<'bool'>, b: Tensor<'bool'>): Tensor<'bool'> {
  return logicalOrOp(a, b) as Tensor<'bool'>;
}
