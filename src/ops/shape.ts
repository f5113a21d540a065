/**
 * Views: the same elements under another shape or order of dimensions. None of them moves memory, except `reshape`
 * of a tensor whose strides do not allow the new shape.
 */
import { native } from '../native.js';
import { expectNumber, expectTensors, numbersOf } from '../tensor/arguments.js';
import { ownOp } from '../tensor/define-op.js';
import type { DType } from '../tensor/dtype.js';
import { fail, named } from '../tensor/error.js';
import { type Tensor, wrap } from '../tensor/tensor.js';

/** Undone by giving the gradient the old shape. */
const reshapeOp = ownOp({
  name: 'reshape',
  forward(ctx, x: Tensor, make: (id: Tensor['id']) => Tensor['id']): Tensor {
    if (ctx.recording) ctx.state = x.shape;
    return wrap(make(x.id));
  },
  backward: ({ state }, dy) =>
    dy === undefined ? [] : [wrap(native.reshape(dy.id, state as readonly number[]))],
});

/**
 * The same elements in row-major order with another shape; one size may be -1, to be inferred.
 *
 * @throws TensorError SHAPE when the number of elements differs
 * @example
 * reshape(x, [8, -1])
 */
export function reshape<D extends DType>(x: Tensor<D>, shape: readonly number[]): Tensor<D> {
  return reshapeOp(x, (id) => native.reshape(id, shape)) as Tensor<D>;
}

/**
 * Drops dimensions of size 1: the given ones (others than size 1 stay), or all.
 *
 * @throws TensorError INDEX for a dimension that x lacks
 * @example
 * squeeze(zeros([1, 3, 1])) // shape [3]
 */
export function squeeze<D extends DType>(x: Tensor<D>, dim?: number | readonly number[]): Tensor<D> {
  expectTensors('squeeze', x);
  const dims = dim === undefined ? [] : numbersOf('squeeze', 'dim', dim);
  if (dim !== undefined && dims.length === 0) return reshape(x, x.shape);
  return named('squeeze', 'reshape', () => reshapeOp(x, (id) => native.squeeze(id, dims))) as Tensor<D>;
}

/**
 * Inserts a dimension of size 1 before `dim`; -1 appends it.
 *
 * @throws TensorError INDEX unless dim is in [-ndim - 1, ndim]
 * @example
 * unsqueeze(zeros([3]), 0) // shape [1, 3]
 */
export function unsqueeze<D extends DType>(x: Tensor<D>, dim: number): Tensor<D> {
  return named('unsqueeze', 'reshape', () => reshapeOp(x, (id) => native.unsqueeze(id, dim))) as Tensor<D>;
}

/**
 * Joins the dimensions from `startDim` to `endDim` (both included) into one.
 *
 * @throws TensorError INDEX for a dimension that x lacks, or when they are in the wrong order
 * @example
 * flatten(zeros([2, 3, 4]), 1) // shape [2, 12]
 */
export function flatten<D extends DType>(x: Tensor<D>, startDim = 0, endDim = -1): Tensor<D> {
  expectTensors('flatten', x);
  expectNumber('flatten', 'startDim', startDim);
  expectNumber('flatten', 'endDim', endDim);
  const { shape } = x;
  if (shape.length === 0) return reshape(x, [1]);
  const place = (dim: number): number => (dim < 0 ? dim + shape.length : dim);
  const [first, last] = [place(startDim), place(endDim)];
  if (!(first >= 0 && first <= last && last < shape.length)) {
    fail(
      'flatten',
      'INDEX',
      `expected dims in order within [${shape.join(', ')}], got ${startDim} to ${endDim}`,
    );
  }
  const joined = shape.slice(first, last + 1).reduce((product, n) => product * n, 1);
  return reshape(x, [...shape.slice(0, first), joined, ...shape.slice(last + 1)]);
}

const permuteOp = ownOp({
  name: 'permute',
  forward(ctx, x: Tensor, dims: readonly number[]): Tensor {
    ctx.state = dims;
    return wrap(native.permute(x.id, dims));
  },
  backward({ state }, dy) {
    if (dy === undefined) return [];
    const dims = state as readonly number[];
    const back = new Array<number>(dims.length);
    dims.forEach((dim, to) => (back[dim < 0 ? dim + dims.length : dim] = to));
    return [wrap(native.permute(dy.id, back))];
  },
});

/**
 * Another order of dimensions: dimension i of the result is dimension `dims[i]` of x.
 *
 * @throws TensorError SHAPE unless dims names every dimension once
 * @example
 * permute(images, [0, 3, 1, 2]) // [B, H, W, C] -> [B, C, H, W]
 */
export function permute<D extends DType>(x: Tensor<D>, dims: readonly number[]): Tensor<D> {
  return permuteOp(x, dims) as Tensor<D>;
}

const transposeOp = ownOp({
  name: 'transpose',
  forward(ctx, x: Tensor, dim0: number, dim1: number): Tensor {
    ctx.state = [dim0, dim1];
    return wrap(native.transpose(x.id, dim0, dim1));
  },
  backward({ state }, dy) {
    if (dy === undefined) return [];
    const [dim0, dim1] = state as [number, number];
    return [wrap(native.transpose(dy.id, dim0, dim1))];
  },
});

/**
 * Swaps two dimensions, the last two by default.
 *
 * @throws TensorError INDEX for a dimension that x lacks
 * @example
 * matmul(q, transpose(k))
 */
export function transpose<D extends DType>(x: Tensor<D>, dim0 = -2, dim1 = -1): Tensor<D> {
  return transposeOp(x, dim0, dim1) as Tensor<D>;
}

const expandOp = ownOp({
  name: 'expand',
  forward(ctx, x: Tensor, shape: readonly number[]): Tensor {
    if (ctx.recording) ctx.state = x.shape;
    return wrap(native.expand(x.id, shape));
  },
  backward: ({ state }, dy) =>
    dy === undefined ? [] : [wrap(native.sumTo(dy.id, state as readonly number[]))],
});

/**
 * Repeats dimensions of size 1, and new ones in front, without copying; -1 keeps a size.
 *
 * @throws TensorError SHAPE when x does not broadcast to the shape
 * @example
 * expand(classToken, [batch, -1, -1])
 */
export function expand<D extends DType>(x: Tensor<D>, shape: readonly number[]): Tensor<D> {
  return expandOp(x, shape) as Tensor<D>;
}
