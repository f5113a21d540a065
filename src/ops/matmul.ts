import { native } from '../native.js';
import { ownOp } from '../tensor/define-op.js';
import type { FloatDType } from '../tensor/dtype.js';
import { type Tensor, wrap } from '../tensor/tensor.js';

const matmulOp = ownOp({
  name: 'matmul',
  autocast: 'lower',
  forward(ctx, a: Tensor, b: Tensor): Tensor {
    ctx.save(a, b);
    return wrap(native.matmul(a.id, b.id));
  },
  backward({ saved: [a, b], needsGrad }, dy) {
    if (dy === undefined) return [];
    // A vector is a matrix with one row (on the left) or one column (on the right).
    const a2 = a.ndim === 1 ? wrap(native.unsqueeze(a.id, 0)) : a;
    const b2 = b.ndim === 1 ? wrap(native.unsqueeze(b.id, 1)) : b;
    let d = dy;
    if (b.ndim === 1) d = wrap(native.unsqueeze(d.id, -1));
    if (a.ndim === 1) d = wrap(native.unsqueeze(d.id, -2));
    const transposed = (x: Tensor): Tensor => wrap(native.transpose(x.id, -2, -1));
    return [
      needsGrad[0] ? sumTo(wrap(native.matmul(d.id, transposed(b2).id)), a2, a) : undefined,
      needsGrad[1] ? sumTo(wrap(native.matmul(transposed(a2).id, d.id)), b2, b) : undefined,
    ];
  },
});

/** Undoes the broadcasting of batch dimensions, then the added row or column. */
function sumTo(gradient: Tensor, seen: Tensor, original: Tensor): Tensor {
  const summed = wrap(native.sumTo(gradient.id, seen.shape));
  return seen === original ? summed : wrap(native.reshape(summed.id, original.shape));
}

/**
 * Matrix product over the last two dimensions: `out[..., i, j] = sum_k a[..., i, k] b[..., k, j]`.
 *
 * Shapes: a `[..., M, K]`, b `[..., K, N]` -> `[..., M, N]`; leading dimensions broadcast. A 1-D `a` is a row, a 1-D
 * `b` a column, and the dimension added for it is dropped from the result. Transposed views cost no copy.
 *
 * @throws TensorError SHAPE when the inner dimensions differ or the batches do not broadcast, DTYPE when the dtypes
 *   differ
 * @example
 * matmul(tensor([[1, 2]]), tensor([[3], [4]])) // [[11]]
 */
export function matmul<D extends FloatDType>(a: Tensor<D>, b: Tensor<D>): Tensor<D> {
  return matmulOp(a, b) as unknown as Tensor<D>;
}
