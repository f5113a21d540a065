/**
 * Running sums and the largest few along a dimension.
 */
import { native } from '../native.js';
import { type OptionNames, expectOptions } from '../tensor/arguments.js';
import { ownOp } from '../tensor/define-op.js';
import type { FloatDType, NumericDType } from '../tensor/dtype.js';
import { type Tensor, setEdge, wrap } from '../tensor/tensor.js';
import { zeroView } from './operand.js';

const cumsumOp = ownOp({
  name: 'cumsum',
  autocast: 'float32',
  forward(ctx, x: Tensor, dim: number): Tensor {
    ctx.state = dim;
    return wrap(native.cumsum(x.id, dim, false));
  },
  backward: ({ state }, dy) => (dy === undefined ? [] : [wrap(native.cumsum(dy.id, state as number, true))]),
});

/**
 * Running sums along a dimension: `y_i = x_0 + ... + x_i`.
 *
 * @throws TensorError INDEX for a dimension that x lacks; DTYPE for a dtype without addition
 * @example
 * cumsum(tensor([1, 2, 3]), 0) // [1, 3, 6]
 */
export function cumsum<D extends NumericDType>(x: Tensor<D>, dim: number): Tensor<D> {
  return cumsumOp(x, dim) as Tensor<D>;
}

/** Where to search, and for which end. */
export interface TopkOptions {
  /** The dimension to search. Default the last. */
  readonly dim?: number;
  /** False for the smallest. Default true. */
  readonly largest?: boolean;
}

const topkOp = ownOp({
  name: 'topk',
  forward(ctx, x: Tensor, k: number, dim: number, largest: boolean): [Tensor, Tensor] {
    const [values, indices] = native.topk(x.id, k, dim, largest).map((id) => wrap(id));
    ctx.save(indices);
    if (ctx.recording) ctx.state = { dim, shape: x.shape };
    return [values, indices];
  },
  backward({ saved: [indices], state }, dy) {
    if (dy === undefined) return [];
    const { dim, shape } = state as { dim: number; shape: readonly number[] };
    return [wrap(native.scatterAdd(zeroView(dy, shape).id, indices.id, dy.id, dim))];
  },
});

const TOPK_OPTIONS = { dim: true, largest: true } satisfies OptionNames<TopkOptions>;

/**
 * The k largest elements along a dimension, in falling order, and where they are; of equal ones the first.
 *
 * @throws TensorError VALUE unless k is from 0 to the size of the dimension; INDEX for a dimension that x lacks
 * @example
 * const { values, indices } = topk(probabilities, 5);
 */
export function topk<D extends FloatDType>(
  x: Tensor<D>,
  k: number,
  options: TopkOptions = {},
): { values: Tensor<D>; indices: Tensor<'int64'> } {
  expectOptions('topk', options, TOPK_OPTIONS);
  const { dim = -1, largest = true } = options;
  const [values, indices] = topkOp(x, k, dim, largest);
  // Indices have no gradient, whatever the tape recorded for the pair.
  setEdge(indices, undefined);
  return { values: values as Tensor<D>, indices: indices as Tensor<'int64'> };
}
