/**
 * Sums, means, variances and extremes over some dimensions, or all.
 */
import { native } from '../native.js';
import { type OptionNames, expectOptions, expectTensors, numbersOf } from '../tensor/arguments.js';
import { ownOp } from '../tensor/define-op.js';
import { type DType, type FloatDType, type NumericDType, dtypeCode } from '../tensor/dtype.js';
import { fail, named } from '../tensor/error.js';
import { type Tensor, wrap } from '../tensor/tensor.js';
import { applyBinary, minus, over, times } from './operand.js';

/** What to reduce. */
export interface ReduceOptions {
  /** The dimension or dimensions to reduce, counted from the end when negative. Default: all. */
  readonly dim?: number | readonly number[] | undefined;
  /** Keep reduced dimensions with size 1. Default false. */
  readonly keepdim?: boolean | undefined;
}

/** What to reduce, and by which divisor. */
export interface VarianceOptions extends ReduceOptions {
  /** Subtracted from the count in the divisor: 1 (default) for the unbiased estimate, 0 for the population's variance. */
  readonly correction?: number;
}

const OPTIONS = { dim: true, keepdim: true } satisfies OptionNames<ReduceOptions>;

const VARIANCE_OPTIONS = {
  dim: true,
  keepdim: true,
  correction: true,
} satisfies OptionNames<VarianceOptions>;

/** What the native functions take: an empty list stands for all dimensions. */
function dimsOf(
  op: string,
  options: ReduceOptions,
  known: Readonly<Record<string, true>> = OPTIONS,
): readonly number[] {
  expectOptions(op, options, known);
  if (options.dim === undefined) return [];
  const dims = numbersOf(op, 'dim', options.dim);
  if (dims.length === 0) fail(op, 'VALUE', 'expected at least one dim (leave it out to reduce all), got []');
  return dims;
}

/** The shape with every reduced dimension kept as 1. */
function keptShape(shape: readonly number[], dims: readonly number[]): number[] {
  const reduced = new Set(dims.map((dim) => (dim < 0 ? dim + shape.length : dim)));
  return shape.map((n, dim) => (dims.length === 0 || reduced.has(dim) ? 1 : n));
}

/** The number of elements behind each result. */
function countOf(shape: readonly number[], dims: readonly number[]): number {
  const kept = keptShape(shape, dims);
  return shape.reduce((product, n, dim) => (kept[dim] === n ? product : product * n), 1);
}

/** What backward knows of the reduction. */
interface Reduction {
  readonly shape: readonly number[];
  readonly dims: readonly number[];
  readonly correction: number;
}

/** A gradient or result in the kept shape, so that it broadcasts against x. */
function kept(y: Tensor, { shape, dims }: Reduction): Tensor {
  return wrap(native.reshape(y.id, keptShape(shape, dims)));
}

function spread(dy: Tensor, reduction: Reduction): Tensor {
  return wrap(native.expand(kept(dy, reduction).id, reduction.shape));
}

const sumOp = ownOp({
  name: 'sum',
  autocast: 'float32',
  forward(ctx, x: Tensor, dims: readonly number[], keepdim: boolean): Tensor {
    const y = wrap(native.sum(x.id, dims, keepdim));
    if (ctx.recording) ctx.state = { shape: x.shape, dims, correction: 0 } satisfies Reduction;
    return y;
  },
  backward: ({ state }, dy) => (dy === undefined ? [] : [spread(dy, state as Reduction)]),
});

const meanOp = ownOp({
  name: 'mean',
  autocast: 'float32',
  forward(ctx, x: Tensor, dims: readonly number[], keepdim: boolean): Tensor {
    const y = wrap(native.mean(x.id, dims, keepdim));
    if (ctx.recording) ctx.state = { shape: x.shape, dims, correction: 0 } satisfies Reduction;
    return y;
  },
  backward({ state }, dy) {
    if (dy === undefined) return [];
    const reduction = state as Reduction;
    return [spread(over(dy, countOf(reduction.shape, reduction.dims)), reduction)];
  },
});

const varianceOp = ownOp({
  name: 'variance',
  autocast: 'float32',
  forward(ctx, x: Tensor, dims: readonly number[], keepdim: boolean, correction: number): Tensor {
    const y = wrap(native.variance(x.id, dims, correction, keepdim));
    ctx.save(x);
    if (ctx.recording) ctx.state = { shape: x.shape, dims, correction } satisfies Reduction;
    return y;
  },
  backward({ saved: [x], state }, dy) {
    if (dy === undefined) return [];
    const { shape, dims, correction } = state as Reduction;
    const centred = minus(x, wrap(native.mean(x.id, dims, true)));
    const scale = 2 / (countOf(shape, dims) - correction);
    return [times(centred, times(kept(dy, state as Reduction), scale))];
  },
});

/** A maximum or minimum; equal extremes share the gradient evenly, so that it does not depend on their order. */
function extreme(name: 'max' | 'min'): (x: Tensor, dims: readonly number[], keepdim: boolean) => Tensor {
  return ownOp({
    name,
    forward(ctx, x: Tensor, dims: readonly number[], keepdim: boolean): Tensor {
      const y = wrap(native[name](x.id, dims, keepdim));
      ctx.save(x, y);
      if (ctx.recording) ctx.state = { shape: x.shape, dims, correction: 0 } satisfies Reduction;
      return y;
    },
    backward({ saved: [x, y], state }, dy) {
      if (dy === undefined) return [];
      const reduction = state as Reduction;
      const hits = applyBinary(native.equal, x, kept(y, reduction));
      const marks = wrap(native.to(hits.id, dtypeCode(x.dtype)));
      const share = over(kept(dy, reduction), wrap(native.sum(marks.id, reduction.dims, true)));
      return [times(marks, share)];
    },
  });
}

const maxOp = extreme('max');
const minOp = extreme('min');

/** A reduction that has no derivative. */
const counted = (name: 'any' | 'all'): ((x: Tensor, dims: readonly number[], keepdim: boolean) => Tensor) =>
  ownOp({
    name,
    forward: (_ctx, x: Tensor, dims: readonly number[], keepdim: boolean): Tensor =>
      wrap(native[name](x.id, dims, keepdim)),
  });

const anyOp = counted('any');
const allOp = counted('all');

/**
 * The sum over dimensions: `y = Σ x`. Integers and bools add up as int64; 16-bit floats are added in float32.
 *
 * @throws TensorError INDEX for a dimension that x lacks; VALUE for an empty list
 * @example
 * sum(tensor([[1, 2], [3, 4]]), { dim: 0 }) // [4, 6]
 */
export function sum<D extends FloatDType>(x: Tensor<D>, options?: ReduceOptions): Tensor<D>;
export function sum(x: Tensor<Exclude<DType, FloatDType>>, options?: ReduceOptions): Tensor<'int64'>;
export function sum(x: Tensor, options: ReduceOptions = {}): Tensor {
  return sumOp(x, dimsOf('sum', options), options.keepdim === true);
}

/**
 * The mean over dimensions: `y = Σ x / n`.
 *
 * @throws TensorError INDEX for a dimension that x lacks; DTYPE unless x is floating-point; VALUE for an empty list
 * @example
 * mean(tensor([[1, 2], [3, 4]])) // 2.5
 */
export function mean<D extends FloatDType>(x: Tensor<D>, options: ReduceOptions = {}): Tensor<D> {
  return meanOp(x, dimsOf('mean', options), options.keepdim === true) as Tensor<D>;
}

/**
 * The variance over dimensions: `y = Σ (x - mean)² / (n - correction)`, in two passes.
 *
 * @throws TensorError INDEX for a dimension that x lacks; DTYPE unless x is floating-point; VALUE for an empty list, or
 *   a correction that is not finite
 * @example
 * variance(tensor([1, 2, 3, 4]), { correction: 0 }) // 1.25
 */
export function variance<D extends FloatDType>(x: Tensor<D>, options: VarianceOptions = {}): Tensor<D> {
  const dims = dimsOf('variance', options, VARIANCE_OPTIONS);
  const { keepdim, correction = 1 } = options;
  return varianceOp(x, dims, keepdim === true, correction) as Tensor<D>;
}

/**
 * The largest element over dimensions, NaN where there is one. Equal ones share the gradient evenly.
 *
 * @throws TensorError INDEX for a dimension that x lacks; SHAPE where a reduced dimension is empty; VALUE for an empty list
 * @example
 * max(tensor([[1, 5], [3, 2]]), { dim: 1 }) // [5, 3]
 */
export function max<D extends NumericDType>(x: Tensor<D>, options: ReduceOptions = {}): Tensor<D> {
  return maxOp(x, dimsOf('max', options), options.keepdim === true) as Tensor<D>;
}

/**
 * The smallest element over dimensions, NaN where there is one. Equal ones share the gradient evenly.
 *
 * @throws TensorError INDEX for a dimension that x lacks; SHAPE where a reduced dimension is empty; VALUE for an empty list
 * @example
 * min(tensor([[1, 5], [3, 2]]), { dim: 1 }) // [1, 2]
 */
export function min<D extends NumericDType>(x: Tensor<D>, options: ReduceOptions = {}): Tensor<D> {
  return minOp(x, dimsOf('min', options), options.keepdim === true) as Tensor<D>;
}

/**
 * True where any element over the dimensions is.
 *
 * @throws TensorError INDEX for a dimension that x lacks; DTYPE unless x is bool; VALUE for an empty list
 * @example
 * any(greater(x, 0), { dim: -1 })
 */
export function any(x: Tensor<'bool'>, options: ReduceOptions = {}): Tensor<'bool'> {
  expectTensors('any', x);
  return anyOp(x, dimsOf('any', options), options.keepdim === true) as Tensor<'bool'>;
}

/**
 * True where all elements over the dimensions are.
 *
 * @throws TensorError INDEX for a dimension that x lacks; DTYPE unless x is bool; VALUE for an empty list
 * @example
 * all(less(x, 1))
 */
export function all(x: Tensor<'bool'>, options: ReduceOptions = {}): Tensor<'bool'> {
  expectTensors('all', x);
  return allOp(x, dimsOf('all', options), options.keepdim === true) as Tensor<'bool'>;
}

/** Where to search for a position. */
export interface ArgOptions {
  /** The dimension to search, counted from the end when negative. Default: the flattened tensor. */
  readonly dim?: number | undefined;
  /** Keep the dimension with size 1. Default false. */
  readonly keepdim?: boolean | undefined;
}

type PositionOp = (x: Tensor, dim: number | undefined, keepdim: boolean) => Tensor;

/** Where an extreme is along a dimension, or in the flattened tensor. */
const position = (name: 'argmax' | 'argmin'): PositionOp =>
  ownOp({
    name,
    forward: (_ctx, x: Tensor, dim: number | undefined, keepdim: boolean): Tensor => {
      if (dim !== undefined) return wrap(native[name](x.id, dim, keepdim));
      const index = wrap(native[name](flat(name, x).id, 0, false));
      return keepdim ? wrap(native.reshape(index.id, new Array<number>(x.ndim).fill(1))) : index;
    },
  });

const flat = (op: string, x: Tensor): Tensor => named(op, 'reshape', () => wrap(native.reshape(x.id, [-1])));

const argmaxOp = position('argmax');
const argminOp = position('argmin');

/** Checks the arguments, and searches. */
function positionIn(op: string, search: PositionOp, x: Tensor, options: ArgOptions): Tensor<'int64'> {
  expectTensors(op, x);
  expectOptions(op, options, OPTIONS);
  return search(x, options.dim, options.keepdim === true) as Tensor<'int64'>;
}

/**
 * Where the largest element is; the first of equal ones, and the first NaN if there is one.
 *
 * @throws TensorError INDEX for a dimension that x lacks; SHAPE when there are no elements
 * @example
 * argmax(logits, { dim: 1 }) // class indices, int64
 */
export function argmax(x: Tensor<NumericDType>, options: ArgOptions = {}): Tensor<'int64'> {
  return positionIn('argmax', argmaxOp, x, options);
}

/**
 * Where the smallest element is; the first of equal ones, and the first NaN if there is one.
 *
 * @throws TensorError INDEX for a dimension that x lacks; SHAPE when there are no elements
 * @example
 * argmin(distances, { dim: -1, keepdim: true })
 */
export function argmin(x: Tensor<NumericDType>, options: ArgOptions = {}): Tensor<'int64'> {
  return positionIn('argmin', argminOp, x, options);
}
