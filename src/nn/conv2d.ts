import { type Conv2dOptions, conv2d } from '../ops/conv2d.js';
import { type Pair, pairOf } from '../ops/operand.js';
import { uniform } from '../ops/random.js';
import { type OptionNames, expectNumber, expectOptions } from '../tensor/arguments.js';
import { type FloatTensor, Module, parameter } from './module.js';

/** How a convolution moves over the image, and what it learns. */
export interface Conv2dLayerOptions extends Pick<
  Conv2dOptions,
  'stride' | 'padding' | 'dilation' | 'groups'
> {
  /** Default true. */
  readonly bias?: boolean;
}

/** What an image layer does to its result in the same kernel: add a tensor of its shape, then ReLU. */
export type ImageEpilogue = Pick<Conv2dOptions, 'residual' | 'activation'>;

const OPTIONS = {
  stride: true,
  padding: true,
  dilation: true,
  groups: true,
  bias: true,
} satisfies OptionNames<Conv2dLayerOptions>;

/**
 * A convolution: `y = activation(x * weight + bias + residual)`.
 *
 * Shapes: x `[B, C, H, W]` -> `[B, O, h, w]`. Weight and bias start uniform in ±1 / sqrt(C / groups kh kw), as PyTorch's.
 *
 * @example
 * const y = new Conv2d(3, 64, 7, { stride: 2, padding: 3, bias: false }).call(images);
 */
export class Conv2d extends Module<[x: FloatTensor, epilogue?: ImageEpilogue], FloatTensor> {
  /** `[O, C / groups, kh, kw]` */
  weight: FloatTensor;
  /** `[O]` */
  bias: FloatTensor | undefined;
  readonly window: Pick<Conv2dOptions, 'stride' | 'padding' | 'dilation' | 'groups'>;

  constructor(inChans: number, outChans: number, kernel: Pair, options: Conv2dLayerOptions = {}) {
    super();
    expectOptions('Conv2d', options, OPTIONS);
    const { bias = true, ...window } = options;
    this.window = window;
    expectNumber('Conv2d', 'inChans', inChans);
    const shape = [outChans, inChans / (window.groups ?? 1), ...pairOf('Conv2d', 'kernel', kernel)];
    const bound = 1 / Math.sqrt(shape[1] * shape[2] * shape[3]);
    this.weight = parameter(uniform(shape, { low: -bound, high: bound }));
    this.bias = bias ? parameter(uniform([outChans], { low: -bound, high: bound })) : undefined;
  }

  override forward(x: FloatTensor, epilogue: ImageEpilogue = {}): FloatTensor {
    return conv2d(x, this.weight, this.bias, { ...this.window, ...epilogue });
  }
}
