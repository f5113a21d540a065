import { expectTensors } from '../tensor/arguments.js';
import type { FloatDType } from '../tensor/dtype.js';
import { type Arrangement, planEinsum } from '../tensor/einsum.js';
import { scope } from '../tensor/scope.js';
import type { Tensor } from '../tensor/tensor.js';
import { mul } from './arithmetic.js';
import { matmul } from './matmul.js';
import { sum } from './reduce.js';
import { permute, reshape } from './shape.js';

function arrange<D extends FloatDType>(x: Tensor<D>, { summed, order, shape }: Arrangement): Tensor<D> {
  let y = x;
  if (summed !== undefined) y = sum(y, { dim: summed });
  if (order !== undefined) y = permute(y, order);
  return shape === undefined ? y : reshape(y, shape);
}

/**
 * Sums of products by Einstein's convention: indices that the output lacks are summed over.
 *
 * `'ij,jk->ik'` is the matrix product, `out_ik = Σ_j a_ij b_jk`. Each letter is an index, with one size in all operands;
 * `...` stands for further dimensions, which broadcast; without `->` the output has `...`, then the letters that occur
 * once, in alphabetical order (capitals first). Spaces are ignored. Operands are contracted from left to right, each
 * pair by one batched matmul of views, so gradients come of themselves. An index may not occur twice in one operand:
 * diagonals are not supported.
 *
 * @throws TensorError VALUE for an equation that is not well formed or another number of operands; SHAPE when shapes do
 *   not fit it; DTYPE when the dtypes differ or are not floating-point
 * @example
 * einsum('bhid,bhjd->bhij', q, k) // attention scores
 * einsum('...c,c->...', features, weights)
 */
export function einsum<D extends FloatDType>(equation: string, ...operands: readonly Tensor<D>[]): Tensor<D> {
  expectTensors('einsum', ...operands);
  const plan = planEinsum(
    equation,
    operands.map((operand) => operand.shape),
  );
  return scope(() => {
    let y = operands[0];
    plan.steps.forEach((step, i) => {
      const [a, b] = [arrange(y, step.left), arrange(operands[i + 1], step.right)];
      y = step.product === 'mul' ? mul<D>(a, b) : matmul(a, b);
      if (step.shape !== undefined) y = reshape(y, step.shape);
    });
    const result = arrange(y, plan.last);
    // The result is always a tensor of its own, which may be disposed without the operand.
    return result === operands[0] ? reshape(result, result.shape) : result;
  });
}
