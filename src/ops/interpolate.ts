import { native } from '../native.js';
import { type OptionNames, expectArray, expectOptions } from '../tensor/arguments.js';
import { ownOp } from '../tensor/define-op.js';
import type { FloatDType } from '../tensor/dtype.js';
import { type Tensor, wrap } from '../tensor/tensor.js';

/** How pixels between pixels are found. */
export interface InterpolateOptions {
  /** Default 'bilinear'. */
  readonly mode?: 'nearest' | 'bilinear' | 'bicubic';
  /** Widen the filter when shrinking, as Pillow does; bicubic then uses a = -0.5 rather than -0.75. Default false. */
  readonly antialias?: boolean;
}

interface Settings {
  readonly height: number;
  readonly width: number;
  readonly mode: 'nearest' | 'bilinear' | 'bicubic';
  readonly antialias: boolean;
}

const interpolateOp = ownOp({
  name: 'interpolate',
  forward(ctx, x: Tensor, s: Settings): Tensor {
    const y = wrap(native.interpolate(x.id, s.height, s.width, s.mode, s.antialias));
    ctx.state = { ...s, height: x.shape[2], width: x.shape[3] };
    return y;
  },
  backward({ state }, dy) {
    if (dy === undefined) return [];
    const { height, width, mode, antialias } = state as Settings;
    return [wrap(native.interpolateBackward(dy.id, height, width, mode, antialias))];
  },
});

const OPTIONS = { mode: true, antialias: true } satisfies OptionNames<InterpolateOptions>;

/**
 * Resizes images `[B, C, H, W]` to `[B, C, height, width]`, with half-pixel centres (PyTorch's align_corners = false).
 *
 * Without antialias the numbers are PyTorch's; with it, PyTorch's antialiased and Pillow's (in floating point).
 *
 * @throws TensorError SHAPE, DTYPE, or VALUE for nearest with antialias
 * @example
 * const small = interpolate(images, [112, 112], { mode: 'bicubic', antialias: true });
 */
export function interpolate<D extends FloatDType>(
  x: Tensor<D>,
  size: readonly [height: number, width: number],
  options: InterpolateOptions = {},
): Tensor<D> {
  expectOptions('interpolate', options, OPTIONS);
  expectArray('interpolate', 'size', size);
  const [height, width] = size;
  const { mode = 'bilinear', antialias = false } = options;
  return interpolateOp(x, { height, width, mode, antialias }) as unknown as Tensor<D>;
}
