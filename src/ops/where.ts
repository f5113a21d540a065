/**
 * Choosing between two tensors, element by element.
 */
import { expectTensors } from '../tensor/arguments.js';
import { ownOp } from '../tensor/define-op.js';
import type { DType } from '../tensor/dtype.js';
import { fail, named } from '../tensor/error.js';
import type { Tensor } from '../tensor/tensor.js';
import { type MaybeLike, type Operand, choose, sumTo } from './operand.js';

const shapeOf = (x: Operand): readonly number[] => (typeof x === 'number' ? [] : x.shape);

const whereOp = ownOp({
  name: 'where',
  forward(ctx, condition: Tensor<'bool'>, a: Operand, b: Operand): Tensor {
    const y = choose(condition, a, b);
    ctx.save(condition);
    ctx.state = [shapeOf(a), shapeOf(b)];
    return y;
  },
  backward({ saved: [condition], needsGrad, state }, dy) {
    if (dy === undefined) return [];
    const [aShape, bShape] = state as [readonly number[], readonly number[]];
    return [
      undefined,
      needsGrad[1] ? sumTo(choose(condition, dy, 0), aShape) : undefined,
      needsGrad[2] ? sumTo(choose(condition, 0, dy), bShape) : undefined,
    ];
  },
});

/**
 * a where the condition holds, b elsewhere: `y = condition ? a : b`. All three broadcast against each other, and a
 * number takes the dtype of the tensor beside it.
 *
 * @throws TensorError SHAPE when the shapes do not broadcast; DTYPE unless the condition is bool and a and b share a
 *   dtype; VALUE for a number that the dtype cannot hold
 * @example
 * where(greater(x, 0), x, mul(x, 0.01)) // leaky ReLU
 */
export function where<D extends DType>(
  condition: Tensor<'bool'>,
  a: Tensor<D>,
  b: Tensor<NoInfer<D>> | number,
): Tensor<D>;
export function where<D extends DType>(condition: Tensor<'bool'>, a: number, b: Tensor<D>): Tensor<D>;
export function where<D extends DType, E extends DType>(
  condition: Tensor<'bool'>,
  a: Tensor<D>,
  b: MaybeLike<D, E>,
): Tensor<D & E>;
export function where(condition: Tensor<'bool'>, a: Operand, b: Operand): Tensor {
  return whereOp(condition, a, b);
}

/**
 * Puts a value wherever the mask is true: `y = mask ? value : x`. The mask broadcasts to x.
 *
 * @throws TensorError SHAPE when the mask does not broadcast to x's shape; DTYPE unless the mask is bool; VALUE for
 *   a value that the dtype cannot hold
 * @example
 * maskedFill(scores, mask, -Infinity)
 */
export function maskedFill<D extends DType>(x: Tensor<D>, mask: Tensor<'bool'>, value: number): Tensor<D> {
  expectTensors('maskedFill', x, mask);
  if ((mask as Tensor).dtype !== 'bool') {
    fail('maskedFill', 'DTYPE', `expected a bool mask, got ${(mask as Tensor).dtype}`);
  }
  const lead = x.ndim - mask.ndim;
  if (lead < 0 || mask.shape.some((n, dim) => n !== 1 && n !== x.shape[lead + dim])) {
    fail(
      'maskedFill',
      'SHAPE',
      `expected a mask that broadcasts to [${x.shape.join(', ')}], got [${mask.shape.join(', ')}]`,
    );
  }
  return named('maskedFill', 'where', () => whereOp(mask, value, x)) as Tensor<D>;
}
