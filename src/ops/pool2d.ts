import { native } from '../native.js';
import { type OptionNames, expectOptions } from '../tensor/arguments.js';
import { ownOp } from '../tensor/define-op.js';
import type { FloatDType } from '../tensor/dtype.js';
import { type Tensor, wrap } from '../tensor/tensor.js';
import { type Pair, pairOf } from './operand.js';

/** How a pooling window moves over the image. */
export interface PoolOptions {
  /** Default: the kernel's size, so that windows neither overlap nor leave gaps. */
  readonly stride?: Pair;
  /** Pixels on either side, at most half the kernel. Default 0. */
  readonly padding?: Pair;
  /** Keep a last window that reaches beyond the padded image. Default false. */
  readonly ceilMode?: boolean;
}

/** The same for `maxPool2d`. */
export interface MaxPoolOptions extends PoolOptions {
  /** Distance of the window's elements. Default 1. */
  readonly dilation?: Pair;
}

/** The same for `avgPool2d`. */
export interface AvgPoolOptions extends PoolOptions {
  /** Zeros of the padding count as elements. Default true. */
  readonly countIncludePad?: boolean;
}

/** @internal */
export const MAX_OPTIONS = {
  stride: true,
  padding: true,
  ceilMode: true,
  dilation: true,
} satisfies OptionNames<MaxPoolOptions>;

/** @internal */
export const AVG_OPTIONS = {
  stride: true,
  padding: true,
  ceilMode: true,
  countIncludePad: true,
} satisfies OptionNames<AvgPoolOptions>;

/** @internal What the op is given besides tensors; exports read it too. */
export interface Pool2dSettings {
  readonly kernel: readonly number[];
  readonly stride: readonly number[];
  readonly padding: readonly number[];
  readonly dilation: readonly number[];
  readonly ceilMode: boolean;
  readonly countPadding: boolean;
}

function settings(op: string, kernel: Pair, options: MaxPoolOptions & AvgPoolOptions): Pool2dSettings {
  const { stride = kernel, padding = 0, dilation = 1, ceilMode = false, countIncludePad = true } = options;
  return {
    kernel: pairOf(op, 'kernel', kernel),
    stride: pairOf(op, 'stride', stride),
    padding: pairOf(op, 'padding', padding),
    dilation: pairOf(op, 'dilation', dilation),
    ceilMode,
    countPadding: countIncludePad,
  };
}

/** What backward needs of the input. */
interface State {
  readonly height: number;
  readonly width: number;
  readonly settings: Pool2dSettings;
}

const stateOf = (x: Tensor, s: Pool2dSettings): State => ({
  height: x.shape[2],
  width: x.shape[3],
  settings: s,
});

const maxPool2dOp = ownOp({
  name: 'maxPool2d',
  forward(ctx, x: Tensor, s: Pool2dSettings): Tensor {
    const [y, index] = native
      .maxPool2d(x.id, s.kernel, s.stride, s.padding, s.dilation, s.ceilMode)
      .map((id) => wrap(id));
    ctx.state = stateOf(x, s);
    ctx.save(index);
    return y;
  },
  backward({ saved: [index], state }, dy) {
    if (dy === undefined) return [];
    const { height, width, settings: s } = state as State;
    return [
      wrap(
        native.maxPool2dBackward(dy.id, index.id, height, width, s.kernel, s.stride, s.padding, s.dilation),
      ),
    ];
  },
});

const avgPool2dOp = ownOp({
  name: 'avgPool2d',
  forward(ctx, x: Tensor, s: Pool2dSettings): Tensor {
    const y = wrap(native.avgPool2d(x.id, s.kernel, s.stride, s.padding, s.ceilMode, s.countPadding));
    ctx.state = stateOf(x, s);
    return y;
  },
  backward({ state }, dy) {
    if (dy === undefined) return [];
    const { height, width, settings: s } = state as State;
    return [
      wrap(native.avgPool2dBackward(dy.id, height, width, s.kernel, s.stride, s.padding, s.countPadding)),
    ];
  },
});

const adaptiveAvgPool2dOp = ownOp({
  name: 'adaptiveAvgPool2d',
  forward(ctx, x: Tensor, [height, width]: readonly number[]): Tensor {
    ctx.state = x.shape;
    return wrap(native.adaptiveAvgPool2d(x.id, height, width));
  },
  backward({ state }, dy) {
    if (dy === undefined) return [];
    const [, , height, width] = state as readonly number[];
    return [wrap(native.adaptiveAvgPool2dBackward(dy.id, height, width))];
  },
});

/**
 * The largest element under each window: `[B, C, H, W]` -> `[B, C, h, w]`, with
 * `h = floor((H + 2 padding - dilation (kernel - 1) - 1) / stride) + 1`, w alike. The padding never wins; of equals the
 * first, row by row, takes the gradient; NaN wins.
 *
 * @throws TensorError SHAPE or DTYPE unless x is a floating-point image that the window fits; VALUE for a padding above
 *   half the kernel
 * @example
 * const y = maxPool2d(x, 3, { stride: 2, padding: 1 });
 */
export function maxPool2d<D extends FloatDType>(
  x: Tensor<D>,
  kernel: Pair,
  options: MaxPoolOptions = {},
): Tensor<D> {
  expectOptions('maxPool2d', options, MAX_OPTIONS);
  return maxPool2dOp(x, settings('maxPool2d', kernel, options)) as unknown as Tensor<D>;
}

/**
 * The mean of the elements under each window: `[B, C, H, W]` -> `[B, C, h, w]`, sizes as for `maxPool2d`.
 *
 * @throws TensorError SHAPE or DTYPE unless x is a floating-point image that the window fits; VALUE for a padding above
 *   half the kernel
 * @example
 * const y = avgPool2d(x, 2);
 */
export function avgPool2d<D extends FloatDType>(
  x: Tensor<D>,
  kernel: Pair,
  options: AvgPoolOptions = {},
): Tensor<D> {
  expectOptions('avgPool2d', options, AVG_OPTIONS);
  return avgPool2dOp(x, settings('avgPool2d', kernel, options)) as unknown as Tensor<D>;
}

/**
 * Averages an image to a given size, whatever its own: output row i is the mean of rows
 * `[floor(i H / h), ceil((i + 1) H / h))`, and columns alike. Size 1 is global average pooling.
 *
 * Shapes: `[B, C, H, W]` -> `[B, C, h, w]`.
 *
 * @throws TensorError SHAPE or DTYPE unless x is a floating-point image and the size is of 1 or more
 * @example
 * const features = adaptiveAvgPool2d(x, 1).flatten(1); // [B, C]
 */
export function adaptiveAvgPool2d<D extends FloatDType>(x: Tensor<D>, size: Pair): Tensor<D> {
  return adaptiveAvgPool2dOp(x, pairOf('adaptiveAvgPool2d', 'size', size)) as unknown as Tensor<D>;
}
