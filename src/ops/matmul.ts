import { native } from '../native.js';
import { ownOp } from '../tensor/define-op.js';
import type { FloatDType } from '../tensor/dtype.js';
import { type Tensor, wrap } from '../tensor/tensor.js';

const matmulOp = ownOp({
  name: 'matmul',
  autocast: 'lower',
  forward(ctx, a: Tensor, b: Tensor): Tensor {
    // Each operand's gradient needs the other, and of itself the shape.
    ctx.save(ctx.needsGrad[1] === true ? a : undefined, ctx.needsGrad[0] === true ? b : undefined);
    if (ctx.recording) ctx.state = [a.shape, b.shape] satisfies Shapes;
    return wrap(native.matmul(a.id, b.id));
  },
  backward({ saved: [a, b], needsGrad, state }, dy) {
    if (dy === undefined) return [];
    const [aShape, bShape] = state as Shapes;
    // A vector is a matrix with one row (on the left) or one column (on the right).
    const isRow = aShape.length === 1;
    const isColumn = bShape.length === 1;
    let d = dy;
    if (isColumn) d = wrap(native.unsqueeze(d.id, -1));
    if (isRow) d = wrap(native.unsqueeze(d.id, -2));
    const transposed = (x: Tensor): Tensor => wrap(native.transpose(x.id, -2, -1));
    const da = (): Tensor => {
      const matrix = isColumn ? wrap(native.unsqueeze(b.id, 1)) : b;
      const seen = isRow ? [1, ...aShape] : aShape;
      return sumTo(wrap(native.matmul(d.id, transposed(matrix).id)), seen, aShape);
    };
    const db = (): Tensor => {
      const matrix = isRow ? wrap(native.unsqueeze(a.id, 0)) : a;
      const seen = isColumn ? [...bShape, 1] : bShape;
      return sumTo(wrap(native.matmul(transposed(matrix).id, d.id)), seen, bShape);
    };
    return [needsGrad[0] ? da() : undefined, needsGrad[1] ? db() : undefined];
  },
});

type Shapes = readonly [a: readonly number[], b: readonly number[]];

/** Undoes the broadcasting of batch dimensions, then the added row or column. */
function sumTo(gradient: Tensor, seen: readonly number[], original: readonly number[]): Tensor {
  const summed = wrap(native.sumTo(gradient.id, seen));
  return seen === original ? summed : wrap(native.reshape(summed.id, original));
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
