/**
 * Picking and adding elements by index tensors. Indices are int32 or int64; one outside its dimension is an error that
 * surfaces when a result is read. Sums over equal indices are taken in their order, so that results do not vary.
 */
import { native } from '../native.js';
import { type OptionNames, expectOptions, expectTensors } from '../tensor/arguments.js';
import { ownOp } from '../tensor/define-op.js';
import { type DType, type IndexDType, type NumericDType, dtypeCode } from '../tensor/dtype.js';
import { fail, named } from '../tensor/error.js';
import { type Tensor, wrap } from '../tensor/tensor.js';
import { type IndexTensor, times, zeroView } from './operand.js';

const indexSelectOp = ownOp({
  name: 'indexSelect',
  forward(ctx, x: Tensor, dim: number, index: Tensor): Tensor {
    ctx.save(index);
    if (ctx.recording) ctx.state = { dim, shape: x.shape };
    return wrap(native.indexSelect(x.id, index.id, dim));
  },
  backward(ctx, dy) {
    if (dy === undefined) return [];
    const [index] = ctx.saved;
    const { dim, shape } = ctx.state as { dim: number; shape: readonly number[] };
    const sum = ctx.takeGradient(0, dy.dtype) ?? zeroView(dy, shape);
    return [wrap(native.indexAdd(sum.id, index.id, dy.id, dim, 1))];
  },
});

/**
 * The slices of x along a dimension that `index` `[n]` names, in its order.
 *
 * @throws TensorError SHAPE unless the index has one dimension; DTYPE; INDEX for a dimension that x lacks
 * @example
 * indexSelect(table, 0, tensor([2, 0], { dtype: 'int64' }))
 */
export function indexSelect<D extends DType>(x: Tensor<D>, dim: number, index: IndexTensor): Tensor<D> {
  return indexSelectOp(x, dim, index) as Tensor<D>;
}

const indexAddOp = ownOp({
  name: 'indexAdd',
  forward(ctx, x: Tensor, dim: number, index: Tensor, src: Tensor, alpha: number): Tensor {
    ctx.save(index);
    if (ctx.recording) ctx.state = { dim, alpha };
    return wrap(native.indexAdd(x.id, index.id, src.id, dim, alpha));
  },
  backward({ saved: [index], needsGrad, state }, dy) {
    if (dy === undefined) return [];
    const { dim, alpha } = state as { dim: number; alpha: number };
    const dx = needsGrad[0] ? dy : undefined;
    if (!needsGrad[3]) return [dx];
    const picked = wrap(native.indexSelect(dy.id, index.id, dim));
    return [dx, undefined, undefined, alpha === 1 ? picked : times(picked, alpha)];
  },
});

/** What `indexAdd` may be told. */
export interface IndexAddOptions {
  /** A factor of `src`, for floating-point tensors. Default 1. */
  readonly alpha?: number;
}

const INDEX_ADD_OPTIONS = { alpha: true } satisfies OptionNames<IndexAddOptions>;

/**
 * x with slices of `src` added along a dimension where `index` `[n]` says: `y = x; y[index[i]] += alpha src[i]` for dim 0.
 * `src` has x's shape with n in that dimension.
 *
 * @throws TensorError SHAPE; DTYPE, also for an alpha beside whole numbers; INDEX, when the result is read
 * @example
 * indexAdd(zeros([3, 2]), 0, tensor([2, 0], { dtype: 'int64' }), ones([2, 2]), { alpha: 0.5 })
 */
export function indexAdd<D extends NumericDType>(
  x: Tensor<D>,
  dim: number,
  index: IndexTensor,
  src: Tensor<NoInfer<D>>,
  options: IndexAddOptions = {},
): Tensor<D> {
  expectOptions('indexAdd', options, INDEX_ADD_OPTIONS);
  return indexAddOp(x, dim, index, src, options.alpha ?? 1) as Tensor<D>;
}

/**
 * Rows of a table: index `[...]`, weight `[entries, D]` -> `[..., D]`.
 *
 * @throws TensorError SHAPE or DTYPE; INDEX, when the result is read, for an index outside the table
 * @example
 * embedding(tokens, weight)
 */
export function embedding<D extends DType>(index: IndexTensor, weight: Tensor<D>): Tensor<D> {
  expectTensors('embedding', index, weight);
  if (!isIndex(index.dtype)) {
    fail('embedding', 'DTYPE', `expected index to be int32 or int64, got ${String(index.dtype)}`);
  }
  if (weight.ndim === 0) {
    fail('embedding', 'SHAPE', 'expected a weight with at least one dimension, got a scalar');
  }
  const flat = embeddingShape(index, [-1]) as Tensor<IndexDType>;
  const picked = named('embedding', 'indexSelect', () => indexSelect(weight, 0, flat));
  flat.dispose();
  if (index.ndim === 1) return picked;
  const shaped = embeddingShape(picked, [...index.shape, ...weight.shape.slice(1)]) as Tensor<D>;
  picked.dispose();
  return shaped;
}

const isIndex = (dtype: DType): dtype is IndexDType => dtype === 'int32' || dtype === 'int64';

const embeddingShape = ownOp({
  name: 'embedding',
  forward(ctx, x: Tensor, shape: readonly number[]): Tensor {
    if (ctx.recording) ctx.state = x.shape;
    return wrap(native.reshape(x.id, shape));
  },
  backward: ({ state }, dy) =>
    dy === undefined ? [] : [wrap(native.reshape(dy.id, state as readonly number[]))],
});

const gatherOp = ownOp({
  name: 'gather',
  forward(ctx, x: Tensor, dim: number, index: Tensor): Tensor {
    ctx.save(index);
    if (ctx.recording) ctx.state = { dim, shape: x.shape };
    return wrap(native.gather(x.id, index.id, dim));
  },
  backward({ saved: [index], state }, dy) {
    if (dy === undefined) return [];
    const { dim, shape } = state as { dim: number; shape: readonly number[] };
    return [wrap(native.scatterAdd(zeroView(dy, shape).id, index.id, dy.id, dim))];
  },
});

/**
 * One element of x along a dimension for each index: `y[i][j] = x[index[i][j]][j]` for dim 0 of a matrix. The index has
 * x's number of dimensions, and is no larger than x along the others.
 *
 * @throws TensorError SHAPE, DTYPE, or INDEX
 * @example
 * gather(logits, 1, unsqueeze(labels, 1))
 */
export function gather<D extends DType>(x: Tensor<D>, dim: number, index: IndexTensor): Tensor<D> {
  return gatherOp(x, dim, index) as Tensor<D>;
}

const scatterAddOp = ownOp({
  name: 'scatterAdd',
  forward(ctx, x: Tensor, dim: number, index: Tensor, src: Tensor): Tensor {
    ctx.save(index);
    if (ctx.recording) ctx.state = { dim, srcShape: src.shape, indexShape: index.shape };
    return wrap(native.scatterAdd(x.id, index.id, src.id, dim));
  },
  backward({ saved: [index], needsGrad, state }, dy) {
    if (dy === undefined) return [];
    const { dim } = state as { dim: number };
    const dsrc = needsGrad[3] ? wrap(native.gather(dy.id, index.id, dim)) : undefined;
    return [needsGrad[0] ? dy : undefined, undefined, undefined, dsrc];
  },
});

/**
 * x with elements of `src` added where the index says: `y = x; y[index[i][j]][j] += src[i][j]` for dim 0 of a matrix.
 * The index and src have one shape.
 *
 * @throws TensorError SHAPE, DTYPE, or INDEX
 * @example
 * scatterAdd(zeros([3]), 0, tensor([0, 2, 0], { dtype: 'int64' }), tensor([1, 2, 3])) // [4, 0, 2]
 */
export function scatterAdd<D extends NumericDType>(
  x: Tensor<D>,
  dim: number,
  index: IndexTensor,
  src: Tensor<NoInfer<D>>,
): Tensor<D> {
  return scatterAddOp(x, dim, index, src) as Tensor<D>;
}

const oneHotOp = ownOp({
  name: 'oneHot',
  forward: (_ctx, index: Tensor, classes: number, dtype: DType): Tensor =>
    wrap(native.oneHot(index.id, classes, dtypeCode(dtype))),
});

const ONE_HOT_OPTIONS = { dtype: true } satisfies OptionNames<{ dtype?: DType }>;

/**
 * Class indices `[...]` as rows with a single one: `[..., classes]`, float32 unless `dtype` says otherwise.
 *
 * @throws TensorError VALUE unless classes is above 0; INDEX, when the result is read, for an index outside
 * @example
 * oneHot(tensor([2, 0], { dtype: 'int64' }), 3) // [[0, 0, 1], [1, 0, 0]]
 */
export function oneHot<D extends DType = 'float32'>(
  index: IndexTensor,
  classes: number,
  options: { readonly dtype?: D } = {},
): Tensor<NoInfer<D>> {
  expectTensors('oneHot', index);
  expectOptions('oneHot', options, ONE_HOT_OPTIONS);
  return oneHotOp(index, classes, options.dtype ?? 'float32') as Tensor<D>;
}
