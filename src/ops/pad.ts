/**
 * Moving elements about: borders, cyclic shifts, mirror images.
 */
import { native } from '../native.js';
import { expectArray, expectTensors, numbersOf } from '../tensor/arguments.js';
import { ownOp } from '../tensor/define-op.js';
import type { DType } from '../tensor/dtype.js';
import { fail } from '../tensor/error.js';
import { type Tensor, wrap } from '../tensor/tensor.js';

interface Padding {
  readonly before: readonly number[];
  readonly after: readonly number[];
  readonly value: number;
}

const padOp = ownOp({
  name: 'pad',
  forward(ctx, x: Tensor, p: Padding): Tensor {
    if (ctx.recording) ctx.state = { p, shape: x.shape };
    return wrap(native.pad(x.id, p.before, p.after, p.value));
  },
  backward({ state }, dy) {
    if (dy === undefined) return [];
    const { p, shape } = state as { p: Padding; shape: readonly number[] };
    return [
      shape.reduce(
        (part, n, dim) => wrap(native.slice(part.id, dim, p.before[dim], p.before[dim] + n, 1)),
        dy,
      ),
    ];
  },
});

/**
 * Adds a border of one value: `padding` gives `[before, after]` for the last dimensions, the last one last.
 *
 * @throws TensorError SHAPE for more pairs than dimensions; VALUE for negative widths, or a value that the dtype cannot
 *   hold
 * @example
 * pad(images, [[4, 4], [4, 4]]) // [B, C, H, W] -> [B, C, H + 8, W + 8]
 */
export function pad<D extends DType>(
  x: Tensor<D>,
  padding: readonly (readonly [before: number, after: number])[],
  value = 0,
): Tensor<D> {
  expectTensors('pad', x);
  expectArray('pad', 'padding', padding);
  for (const pair of padding) expectArray('pad', 'padding', pair);
  const free = x.ndim - padding.length;
  if (free < 0) {
    fail(
      'pad',
      'SHAPE',
      `expected at most ${x.ndim} pairs for [${x.shape.join(', ')}], got ${padding.length}`,
    );
  }
  const still = new Array<number>(free).fill(0);
  const before = [...still, ...padding.map((pair) => pair[0])];
  const after = [...still, ...padding.map((pair) => pair[1])];
  return padOp(x, { before, after, value }) as Tensor<D>;
}

const rollOp = ownOp({
  name: 'roll',
  forward(ctx, x: Tensor, shifts: readonly number[], dims: readonly number[]): Tensor {
    ctx.state = [shifts.map((shift) => -shift), dims];
    return wrap(native.roll(x.id, shifts, dims));
  },
  backward({ state }, dy) {
    if (dy === undefined) return [];
    const [shifts, dims] = state as [readonly number[], readonly number[]];
    return [wrap(native.roll(dy.id, shifts, dims))];
  },
});

/**
 * Shifts elements along dimensions; what leaves at one end enters at the other.
 *
 * @throws TensorError SHAPE unless there is one shift for each dim; INDEX for a dimension that x lacks
 * @example
 * roll(tensor([1, 2, 3]), 1, 0) // [3, 1, 2]
 */
export function roll<D extends DType>(
  x: Tensor<D>,
  shifts: number | readonly number[],
  dims: number | readonly number[],
): Tensor<D> {
  return rollOp(x, numbersOf('roll', 'shifts', shifts), numbersOf('roll', 'dims', dims)) as Tensor<D>;
}

const flipOp = ownOp({
  name: 'flip',
  forward(ctx, x: Tensor, dims: readonly number[]): Tensor {
    ctx.state = dims;
    return wrap(native.flip(x.id, dims));
  },
  backward: ({ state }, dy) =>
    dy === undefined ? [] : [wrap(native.flip(dy.id, state as readonly number[]))],
});

/**
 * Reverses the order of elements along dimensions.
 *
 * @throws TensorError INDEX for a dimension that x lacks
 * @example
 * flip(images, [3]) // mirror images
 */
export function flip<D extends DType>(x: Tensor<D>, dims: number | readonly number[]): Tensor<D> {
  return flipOp(x, numbersOf('flip', 'dims', dims)) as Tensor<D>;
}
