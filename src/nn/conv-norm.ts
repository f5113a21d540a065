/**
 * Convolutions with a batch norm behind them, and folding the two into one for inference.
 */
import { type OptionNames, expectOptions } from '../tensor/arguments.js';
import { BatchNorm2d } from './batch-norm.js';
import { Conv2d, type Conv2dLayerOptions, type ImageEpilogue } from './conv2d.js';
import { type AnyModule, type FloatTensor, Module } from './module.js';

/** A convolution and the batch norm that follows it. */
export type ConvNormPair = readonly [conv: Conv2d, norm: BatchNorm2d];

/** A module with such pairs among its children: `foldBatchNorm` finds them by this. */
export interface ConvNormOwner {
  /** The pairs, without those of the modules below. */
  readonly convNorms: readonly ConvNormPair[];
}

const OPTIONS = {
  stride: true,
  padding: true,
  dilation: true,
  groups: true,
} satisfies OptionNames<Omit<Conv2dLayerOptions, 'bias'>>;

/** A convolution and its norm, with what follows in the last kernel of the two. */
export function convNorm([conv, norm]: ConvNormPair, x: FloatTensor, epilogue?: ImageEpilogue): FloatTensor {
  return norm.isFolded ? conv.call(x, epilogue) : norm.call(conv.call(x), epilogue);
}

/**
 * A convolution without bias, and batch norm: `y = activation(norm(x * weight) + residual)`.
 *
 * @example
 * const y = new ConvNorm(3, 32, 3, { stride: 2, padding: 1 }).call(images, { activation: 'relu' });
 */
export class ConvNorm
  extends Module<[x: FloatTensor, epilogue?: ImageEpilogue], FloatTensor>
  implements ConvNormOwner
{
  readonly conv: Conv2d;
  readonly bn: BatchNorm2d;

  constructor(
    inChans: number,
    outChans: number,
    kernel: number,
    options: Omit<Conv2dLayerOptions, 'bias'> = {},
  ) {
    super();
    expectOptions('ConvNorm', options, OPTIONS);
    this.conv = new Conv2d(inChans, outChans, kernel, { ...options, bias: false });
    this.bn = new BatchNorm2d(outChans);
  }

  get convNorms(): ConvNormPair[] {
    return [[this.conv, this.bn]];
  }

  override forward(x: FloatTensor, epilogue?: ImageEpilogue): FloatTensor {
    return convNorm([this.conv, this.bn], x, epilogue);
  }
}

/**
 * Folds every batch norm of a model into the convolution before it, for inference: one kernel then does both, and the
 * sum and ReLU behind them. The model is in evaluation mode afterwards, its norms are gone from the state dict, and its
 * convolutions have biases. A model without batch norm stays as it is. Returns the model.
 *
 * @throws TensorError VALUE when it is folded already
 * @example
 * const { model } = await loadModel('runs/demo/checkpoints/best.safetensors');
 * foldBatchNorm(model);
 */
export function foldBatchNorm<M extends AnyModule>(model: M): M {
  for (const [, module] of model.namedModules()) {
    if (!ownsConvNorms(module)) continue;
    for (const [conv, norm] of module.convNorms) norm.foldInto(conv);
  }
  model.eval();
  return model;
}

function ownsConvNorms(module: AnyModule): module is AnyModule & ConvNormOwner {
  return 'convNorms' in module;
}
