import { native } from '../native.js';
import { type OptionNames, expectOptions, optionalId } from '../tensor/arguments.js';
import { ownOp } from '../tensor/define-op.js';
import type { FloatDType } from '../tensor/dtype.js';
import { isFixed } from '../tensor/tape.js';
import { type Tensor, wrap } from '../tensor/tensor.js';
import { type Pair, isRelu, pairOf } from './operand.js';

/** How a convolution moves over the image, and what follows it in the same kernel. */
export interface Conv2dOptions<D extends FloatDType = FloatDType> {
  /** Default 1. */
  readonly stride?: Pair;
  /** Zeros on either side. Default 0. */
  readonly padding?: Pair;
  /** Distance of the kernel's taps. Default 1. */
  readonly dilation?: Pair;
  /** Each group of output channels sees its own group of input channels. Default 1. */
  readonly groups?: number;
  /** Added to the product plus bias; the shape of the result. */
  readonly residual?: Tensor<D> | undefined;
  /** Applied last. Default 'none'. */
  readonly activation?: 'none' | 'relu';
}

/** @internal What the op is given besides tensors; exports read it too. */
export interface Conv2dSettings {
  readonly stride: readonly number[];
  readonly padding: readonly number[];
  readonly dilation: readonly number[];
  readonly groups: number;
  readonly relu: boolean;
}

const conv2dOp = ownOp({
  name: 'conv2d',
  autocast: 'lower',
  forward(
    ctx,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | undefined,
    residual: Tensor | undefined,
    s: Conv2dSettings,
  ): Tensor {
    const y = wrap(
      native.conv2d(
        x.id,
        weight.id,
        optionalId('conv2d', 'bias', bias),
        optionalId('conv2d', 'residual', residual),
        s.stride,
        s.padding,
        s.dilation,
        s.groups,
        s.relu,
        isFixed(weight),
      ),
    );
    ctx.state = s;
    ctx.save(x, weight, s.relu ? y : undefined);
    return y;
  },
  backward({ saved: [x, weight, y], needsGrad, state }, dy) {
    if (dy === undefined) return [];
    const { stride, padding, dilation, groups, relu } = state as Conv2dSettings;
    const dz = relu ? wrap(native.reluBackward(dy.id, y.id, 0)) : dy;
    const [, , height, width] = x.shape;
    const dx = needsGrad[0]
      ? wrap(native.conv2dInputGradient(dz.id, weight.id, height, width, stride, padding, dilation, groups))
      : undefined;
    if (!needsGrad[1] && !needsGrad[2]) return [dx, undefined, undefined, dz];
    const [dweight, dbias] = native.conv2dWeightGradient(
      dz.id,
      x.id,
      weight.shape.slice(2),
      stride,
      padding,
      dilation,
      groups,
      needsGrad[2],
    );
    return [dx, wrap(dweight), needsGrad[2] ? wrap(dbias) : undefined, dz];
  },
});

const OPTIONS = {
  stride: true,
  padding: true,
  dilation: true,
  groups: true,
  residual: true,
  activation: true,
} satisfies OptionNames<Conv2dOptions>;

/**
 * Convolution of images, in one kernel with what follows it: `y = activation(x * weight + bias + residual)`.
 *
 * Shapes: x `[B, C, H, W]`, weight `[O, C / groups, kh, kw]`, bias `[O]` -> `[B, O, h, w]` with
 * `h = floor((H + 2 padding - dilation (kh - 1) - 1) / stride) + 1`, w alike. `groups = C` is a depthwise convolution.
 * Results lie channels-last in memory (as `[B, h, w, O]`), as do those of `batchNorm`, pooling and elementwise ops on
 * them: a chain of image ops copies nothing, and only an x that lies otherwise is copied first.
 *
 * @throws TensorError SHAPE or DTYPE when the operands do not fit; VALUE for settings that make no window
 * @example
 * const y = conv2d(images, weight, bias, { stride: 2, padding: 1, activation: 'relu' });
 */
export function conv2d<D extends FloatDType>(
  x: Tensor<D>,
  weight: Tensor<D>,
  bias?: Tensor<D>,
  options: Conv2dOptions<D> = {},
): Tensor<D> {
  expectOptions('conv2d', options, OPTIONS);
  const { stride = 1, padding = 0, dilation = 1, groups = 1, residual, activation = 'none' } = options;
  return conv2dOp(x, weight, bias, residual, {
    stride: pairOf('conv2d', 'stride', stride),
    padding: pairOf('conv2d', 'padding', padding),
    dilation: pairOf('conv2d', 'dilation', dilation),
    groups,
    relu: isRelu('conv2d', activation),
  }) as unknown as Tensor<D>;
}
