/**
 * einops: reshaping, reducing and repeating by names of axes. `src/tensor/einops.ts` explains the pattern language;
 * these functions carry out its plans with views and reductions, so gradients come of themselves.
 */
import { expectTensors } from '../tensor/arguments.js';
import { type EinopsPlan, planEinops } from '../tensor/einops.js';
import {
  type AxisSizes,
  type AxisSizesArgument,
  type RearrangePattern,
  type ReducePattern,
  type RepeatPattern,
} from '../tensor/einops-types.js';
import type { DType, FloatDType, NumericDType } from '../tensor/dtype.js';
import { fail, named } from '../tensor/error.js';
import { scope } from '../tensor/scope.js';
import type { Tensor } from '../tensor/tensor.js';
import { max, mean, min, sum } from './reduce.js';
import { expand, permute, reshape } from './shape.js';

/** What `reduce` may do with the axes that it drops. */
export type Reduction = 'mean' | 'sum' | 'max' | 'min';

/** The dtypes that each reduction takes. */
export interface ReductionDTypes extends Record<Reduction, DType> {
  mean: FloatDType;
  max: NumericDType;
  min: NumericDType;
}

/** The dtype of a reduction's result: sums of integers and bools are int64. */
export type ReducedDType<D extends DType, R extends Reduction> = R extends 'sum'
  ? D extends FloatDType
    ? D
    : 'int64'
  : D;

function run(
  x: Tensor,
  plan: EinopsPlan,
  reduceDims: (y: Tensor, dims: readonly number[]) => Tensor,
): Tensor {
  return scope(() => {
    let y = x;
    if (plan.split !== undefined) y = reshape(y, plan.split);
    if (plan.reduced !== undefined) y = reduceDims(y, plan.reduced);
    if (plan.order !== undefined) y = permute(y, plan.order);
    const { repeated } = plan;
    if (repeated !== undefined)
      y = named('repeat', 'expand', () => expand(reshape(y, repeated.from), repeated.to));
    // The result is always a tensor of its own, which may be disposed without x.
    return plan.merges || y === x ? reshape(y, plan.shape) : y;
  });
}

const neverReduces = (y: Tensor): Tensor => y;

/**
 * Splits, reorders and merges dimensions by name: `'b (h p) (w q) c -> b (h w) (p q c)'`. A view where strides allow.
 *
 * Each axis is on both sides; `(h p)` is one dimension of h times p elements, h the outer; `1` is a dimension of
 * size 1, `...` all dimensions that are not named. In each pair of parentheses on the left, all sizes but one are given.
 * A literal pattern is checked by the compiler.
 *
 * @param sizes of axes that the shape alone does not tell
 * @throws TensorError VALUE for a pattern that is not well formed; SHAPE when it does not fit the shape
 * @example
 * rearrange(images, 'b (h p) (w q) c -> b (h w) (p q c)', { p: 16, q: 16 }) // [B, H, W, C] -> patches
 */
export function rearrange<D extends DType, P extends string>(
  x: Tensor<D>,
  pattern: RearrangePattern<P>,
  sizes?: AxisSizes<'rearrange', P>,
): Tensor<D> {
  expectTensors('rearrange', x);
  return run(x, planEinops('rearrange', pattern, x.shape, sizes ?? {}), neverReduces) as Tensor<D>;
}

/**
 * Reduces the axes that are only on the left, and rearranges the others: `'b (h 2) (w 2) c -> b h w c'`, `'max'`.
 *
 * Patterns are those of `rearrange`; on the left, a number is an axis without a name. There is no `'prod'`: Tenon
 * has no product over dimensions.
 *
 * @param reduction `'mean'` (floats), `'sum'` (int64 for integers and bool), `'max'` or `'min'` (all but bool)
 * @param sizes of axes that the shape alone does not tell
 * @throws TensorError VALUE for a pattern that is not well formed, or another reduction; SHAPE when the pattern does not
 *   fit the shape; DTYPE for a dtype without the reduction
 * @example
 * reduce(tokens, 'b n d -> b d', 'mean') // global average pooling
 * reduce(images, 'b (h p) (w q) c -> b h w c', 'max', { p: 2, q: 2 }) // 2 x 2 max pooling
 */
export function reduce<R extends Reduction, D extends ReductionDTypes[R], P extends string>(
  x: Tensor<D>,
  pattern: ReducePattern<P>,
  reduction: R,
  sizes?: AxisSizes<'reduce', P>,
): Tensor<ReducedDType<D, R>> {
  expectTensors('reduce', x);
  const kind: string = reduction;
  if (!isReduction(kind)) {
    fail('reduce', 'VALUE', `expected 'mean', 'sum', 'max' or 'min' as reduction, got '${kind}'`);
  }
  const plan = planEinops('reduce', pattern, x.shape, sizes ?? {});
  const y = run(x, plan, (part, dim) => REDUCTIONS[kind](part as Tensor<FloatDType>, { dim }));
  return y as Tensor<ReducedDType<D, R>>;
}

/** Calls are typed as for floats; the kernels refuse the dtypes that they lack. */
const REDUCTIONS: Record<Reduction, (y: Tensor<FloatDType>, options: { dim: readonly number[] }) => Tensor> =
  { mean, sum, max, min };

function isReduction(name: string): name is Reduction {
  return Object.hasOwn(REDUCTIONS, name);
}

/**
 * Repeats elements along new axes, which are only on the right: `'b c -> b n c'`. Inside parentheses a new axis tiles:
 * `'w -> (n w)'` repeats the whole, `'w -> (w n)'` each element. Without parentheses no memory is copied.
 *
 * Patterns are those of `rearrange`; on the right, a number is a new axis of that size.
 *
 * @param sizes of the new axes, and of others that the shape alone does not tell
 * @throws TensorError VALUE for a pattern that is not well formed, or a new axis without size; SHAPE when the pattern does
 *   not fit the shape
 * @example
 * repeat(classToken, '1 1 d -> b 1 d', { b: 32 })
 * repeat(image, 'h w c -> (h 2) (w 2) c') // upsampling by the nearest neighbour
 */
export function repeat<D extends DType, P extends string>(
  x: Tensor<D>,
  pattern: RepeatPattern<P>,
  ...[sizes]: AxisSizesArgument<'repeat', P>
): Tensor<D> {
  expectTensors('repeat', x);
  return run(x, planEinops('repeat', pattern, x.shape, sizes ?? {}), neverReduces) as Tensor<D>;
}
