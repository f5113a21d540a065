/**
 * Arithmetic of two operands, which broadcast against each other by numpy's rules: shapes are aligned at the end, and
 * a dimension of size 1 (or a missing one) is repeated. A number takes the dtype of the tensor.
 */
import { native } from '../native.js';
import { ownOp } from '../tensor/define-op.js';
import type { FloatDType, NumericDType } from '../tensor/dtype.js';
import { type Tensor, wrap } from '../tensor/tensor.js';
import {
  type MaybeLike,
  type Operand,
  applyBinary,
  choose,
  minus,
  negative,
  over,
  power,
  sumTo,
  times,
  zeroView,
} from './operand.js';

/** The gradient of one operand before broadcasting is undone. */
interface Partial {
  /** Which of a, b and the result y it reads; only these are kept for backward. */
  readonly reads: string;
  readonly of: (dy: Tensor, a: Operand, b: Operand, y: Tensor) => Tensor;
}

/**
 * Where the gradient of a maximum or minimum goes: to the operand that did not lose, half to each where they are equal, and
 * whole to both where one is NaN.
 */
function taken(loses: typeof native.less, dy: Tensor, mine: Operand, other: Operand): Tensor {
  const shared = choose(applyBinary(native.equal, mine, other), times(dy, 0.5), dy);
  return choose(applyBinary(loses, mine, other), 0, shared);
}

/** dy b a^(b-1), and 0 where b is 0, whatever dy is. */
function powerByBase(dy: Tensor, a: Operand, b: Operand): Tensor {
  if (b === 0) return zeroView(dy, dy.shape);
  const product = times(dy, times(power(a, typeof b === 'number' ? b - 1 : minus(b, 1)), b));
  return typeof b === 'number' ? product : choose(applyBinary(native.equal, b, 0), 0, product);
}

/** dy a^b ln a, and 0 where a is 0 and b is not negative. */
function powerByExponent(dy: Tensor, a: Operand, b: Operand, y: Tensor): Tensor {
  const logarithm = typeof a === 'number' ? Math.log(a) : wrap(native.log(a.id));
  const product = times(dy, times(y, logarithm));
  const flat = applyBinary(native.greaterEqual, b, 0);
  if (typeof a === 'number') return a === 0 ? choose(flat, 0, product) : product;
  const zero = applyBinary(native.equal, a, 0);
  return choose(wrap(native.logicalAnd(zero.id, flat.id, 0)), 0, product);
}

const DERIVATIVES = {
  add: { da: { reads: '', of: (dy) => dy }, db: { reads: '', of: (dy) => dy } },
  sub: { da: { reads: '', of: (dy) => dy }, db: { reads: '', of: (dy) => negative(dy) } },
  mul: {
    da: { reads: 'b', of: (dy, _a, b) => times(dy, b) },
    db: { reads: 'a', of: (dy, a) => times(dy, a) },
  },
  div: {
    da: { reads: 'b', of: (dy, _a, b) => over(dy, b) },
    db: { reads: 'by', of: (dy, _a, b, y) => negative(over(times(dy, y), b)) },
  },
  pow: {
    da: { reads: 'ab', of: powerByBase },
    db: { reads: 'aby', of: powerByExponent },
  },
  maximum: {
    da: { reads: 'ab', of: (dy, a, b) => taken(native.less, dy, a, b) },
    db: { reads: 'ab', of: (dy, a, b) => taken(native.less, dy, b, a) },
  },
  minimum: {
    da: { reads: 'ab', of: (dy, a, b) => taken(native.greater, dy, a, b) },
    db: { reads: 'ab', of: (dy, a, b) => taken(native.greater, dy, b, a) },
  },
} as const satisfies Record<string, { readonly da: Partial; readonly db: Partial }>;

/** What backward needs to know of the operands besides the tensors it reads. */
interface Operands {
  readonly aShape: readonly number[];
  readonly bShape: readonly number[];
  /** Operands that are numbers. */
  readonly aNumber: number | undefined;
  readonly bNumber: number | undefined;
}

function arithmetic(name: keyof typeof DERIVATIVES): (a: Operand, b: Operand) => Tensor {
  const { da, db }: { da: Partial; db: Partial } = DERIVATIVES[name];
  return ownOp({
    name,
    ...(name === 'pow' && { autocast: 'float32' }),
    forward(ctx, a: Operand, b: Operand): Tensor {
      const y = applyBinary(native[name], a, b);
      if (!ctx.recording) return y;
      const reads = (ctx.needsGrad[0] ? da.reads : '') + (ctx.needsGrad[1] ? db.reads : '');
      const keep = (which: string, x: Operand): Tensor | undefined =>
        reads.includes(which) && typeof x !== 'number' ? x : undefined;
      ctx.save(keep('a', a), keep('b', b), keep('y', y));
      ctx.state = {
        aShape: typeof a === 'number' ? [] : a.shape,
        bShape: typeof b === 'number' ? [] : b.shape,
        aNumber: typeof a === 'number' ? a : undefined,
        bNumber: typeof b === 'number' ? b : undefined,
      } satisfies Operands;
      return y;
    },
    backward({ saved, needsGrad, state }, dy) {
      if (dy === undefined) return [];
      const { aShape, bShape, aNumber, bNumber } = state as Operands;
      const a = aNumber ?? saved[0];
      const b = bNumber ?? saved[1];
      return [
        needsGrad[0] ? sumTo(da.of(dy, a, b, saved[2]), aShape) : undefined,
        needsGrad[1] ? sumTo(db.of(dy, a, b, saved[2]), bShape) : undefined,
      ];
    },
  });
}

const addOp = arithmetic('add');
const subOp = arithmetic('sub');
const mulOp = arithmetic('mul');
const divOp = arithmetic('div');
const powOp = arithmetic('pow');
const maximumOp = arithmetic('maximum');
const minimumOp = arithmetic('minimum');

/**
 * Sum: `y = a + b`, with broadcasting.
 *
 * @throws TensorError SHAPE when the shapes do not broadcast; DTYPE when the dtypes differ or are bool; VALUE for
 *   a number that the dtype cannot hold
 * @example
 * add(tensor([[1, 2], [3, 4]]), tensor([10, 20])) // [[11, 22], [13, 24]]
 */
export function add<D extends NumericDType>(a: Tensor<D>, b: Tensor<NoInfer<D>> | number): Tensor<D>;
export function add<D extends NumericDType>(a: number, b: Tensor<D>): Tensor<D>;
export function add<D extends NumericDType, E extends NumericDType>(
  a: Tensor<D>,
  b: MaybeLike<D, E>,
): Tensor<D & E>;
export function add(a: Operand, b: Operand): Tensor {
  return addOp(a, b);
}

/**
 * Difference: `y = a - b`, with broadcasting.
 *
 * @throws TensorError SHAPE when the shapes do not broadcast; DTYPE when the dtypes differ or are bool; VALUE for
 *   a number that the dtype cannot hold
 * @example
 * sub(1, tensor([0.25, 0.5])) // [0.75, 0.5]
 */
export function sub<D extends NumericDType>(a: Tensor<D>, b: Tensor<NoInfer<D>> | number): Tensor<D>;
export function sub<D extends NumericDType>(a: number, b: Tensor<D>): Tensor<D>;
export function sub<D extends NumericDType, E extends NumericDType>(
  a: Tensor<D>,
  b: MaybeLike<D, E>,
): Tensor<D & E>;
export function sub(a: Operand, b: Operand): Tensor {
  return subOp(a, b);
}

/**
 * Product, element by element: `y = a b`, with broadcasting.
 *
 * @throws TensorError SHAPE when the shapes do not broadcast; DTYPE when the dtypes differ or are bool; VALUE for
 *   a number that the dtype cannot hold
 * @example
 * mul(tensor([1, 2, 3]), 2) // [2, 4, 6]
 */
export function mul<D extends NumericDType>(a: Tensor<D>, b: Tensor<NoInfer<D>> | number): Tensor<D>;
export function mul<D extends NumericDType>(a: number, b: Tensor<D>): Tensor<D>;
export function mul<D extends NumericDType, E extends NumericDType>(
  a: Tensor<D>,
  b: MaybeLike<D, E>,
): Tensor<D & E>;
export function mul(a: Operand, b: Operand): Tensor {
  return mulOp(a, b);
}

/**
 * Quotient: `y = a / b`, with broadcasting. Division by zero gives an infinity or NaN.
 *
 * @throws TensorError SHAPE when the shapes do not broadcast; DTYPE when the dtypes differ or are not floating-point; VALUE for
 *   a number that the dtype cannot hold
 * @example
 * div(tensor([1, 2]), tensor([4, 8])) // [0.25, 0.25]
 */
export function div<D extends FloatDType>(a: Tensor<D>, b: Tensor<NoInfer<D>> | number): Tensor<D>;
export function div<D extends FloatDType>(a: number, b: Tensor<D>): Tensor<D>;
export function div<D extends FloatDType, E extends FloatDType>(
  a: Tensor<D>,
  b: MaybeLike<D, E>,
): Tensor<D & E>;
export function div(a: Operand, b: Operand): Tensor {
  return divOp(a, b);
}

/**
 * Power: `y = a^b`, with broadcasting. The gradient of b is 0 where a is 0 and b is not negative.
 *
 * @throws TensorError SHAPE when the shapes do not broadcast; DTYPE when the dtypes differ or are not floating-point; VALUE for
 *   a number that the dtype cannot hold
 * @example
 * pow(tensor([1, 2, 3]), 2) // [1, 4, 9]
 */
export function pow<D extends FloatDType>(a: Tensor<D>, b: Tensor<NoInfer<D>> | number): Tensor<D>;
export function pow<D extends FloatDType>(a: number, b: Tensor<D>): Tensor<D>;
export function pow<D extends FloatDType, E extends FloatDType>(
  a: Tensor<D>,
  b: MaybeLike<D, E>,
): Tensor<D & E>;
export function pow(a: Operand, b: Operand): Tensor {
  return powOp(a, b);
}

/**
 * The larger of each pair, NaN where either is: `y = max(a, b)`, with broadcasting. Where they are equal, each gets half
 * of the gradient; where one is NaN, each gets all of it.
 *
 * @throws TensorError SHAPE when the shapes do not broadcast; DTYPE when the dtypes differ or are bool; VALUE for
 *   a number that the dtype cannot hold
 * @example
 * maximum(tensor([1, 5]), tensor([3, 2])) // [3, 5]
 */
export function maximum<D extends NumericDType>(a: Tensor<D>, b: Tensor<NoInfer<D>> | number): Tensor<D>;
export function maximum<D extends NumericDType>(a: number, b: Tensor<D>): Tensor<D>;
export function maximum<D extends NumericDType, E extends NumericDType>(
  a: Tensor<D>,
  b: MaybeLike<D, E>,
): Tensor<D & E>;
export function maximum(a: Operand, b: Operand): Tensor {
  return maximumOp(a, b);
}

/**
 * The smaller of each pair, NaN where either is: `y = min(a, b)`, with broadcasting. Where they are equal, each gets
 * half of the gradient; where one is NaN, each gets all of it.
 *
 * @throws TensorError SHAPE when the shapes do not broadcast; DTYPE when the dtypes differ or are bool; VALUE for
 *   a number that the dtype cannot hold
 * @example
 * minimum(tensor([1, 5]), 3) // [1, 3]
 */
export function minimum<D extends NumericDType>(a: Tensor<D>, b: Tensor<NoInfer<D>> | number): Tensor<D>;
export function minimum<D extends NumericDType>(a: number, b: Tensor<D>): Tensor<D>;
export function minimum<D extends NumericDType, E extends NumericDType>(
  a: Tensor<D>,
  b: MaybeLike<D, E>,
): Tensor<D & E>;
export function minimum(a: Operand, b: Operand): Tensor {
  return minimumOp(a, b);
}
