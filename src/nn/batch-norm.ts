import { batchNorm } from '../ops/batch-norm.js';
import { ones, zeros } from '../ops/creation.js';
import { relu } from '../ops/unary.js';
import { type OptionNames, expectOptions } from '../tensor/arguments.js';
import { fail } from '../tensor/error.js';
import { copyInto } from '../tensor/memory.js';
import { scope } from '../tensor/scope.js';
import { noGrad } from '../tensor/tape.js';
import type { Tensor } from '../tensor/tensor.js';
import type { Conv2d, ImageEpilogue } from './conv2d.js';
import { type FloatTensor, Module, buffer, parameter } from './module.js';

/** What a batch norm remembers. */
export interface BatchNormLayerOptions {
  /** Added to the variance. Default 1e-5. */
  readonly eps?: number;
  /** How far the running statistics move with each batch. Default 0.1. */
  readonly momentum?: number;
}

const TENSORS = ['weight', 'bias', 'runningMean', 'runningVar', 'numBatchesTracked'] as const;

const OPTIONS = { eps: true, momentum: true } satisfies OptionNames<BatchNormLayerOptions>;

/**
 * Batch normalisation of the channels of images: `y = activation((x - mean) / sqrt(var + eps) * weight + bias + residual)`.
 *
 * In training mean and variance are those of the batch, and the running statistics follow them; in evaluation they are
 * the running statistics. Shapes: x `[B, C, H, W]` or `[B, C]`, and y alike.
 *
 * @example
 * const y = new BatchNorm2d(64).call(x, { activation: 'relu' });
 */
export class BatchNorm2d extends Module<[x: FloatTensor, epilogue?: ImageEpilogue], FloatTensor> {
  /** `[C]`, ones at first. */
  readonly weight: FloatTensor;
  /** `[C]`, zeros at first. */
  readonly bias: FloatTensor;
  /** `[C]`, zeros at first. */
  readonly runningMean: FloatTensor;
  /** `[C]`, ones at first. */
  readonly runningVar: FloatTensor;
  /** Batches seen in training. */
  readonly numBatchesTracked: Tensor<'int64'>;
  readonly eps: number;
  readonly momentum: number;
  private folded = false;

  constructor(channels: number, options: BatchNormLayerOptions = {}) {
    super();
    expectOptions('BatchNorm2d', options, OPTIONS);
    this.eps = options.eps ?? 1e-5;
    this.momentum = options.momentum ?? 0.1;
    this.weight = parameter(ones([channels]));
    this.bias = parameter(zeros([channels]));
    this.runningMean = buffer(zeros([channels]));
    this.runningVar = buffer(ones([channels]));
    this.numBatchesTracked = buffer(zeros([], { dtype: 'int64' }));
  }

  /** Whether a convolution does this layer's work since `foldInto`. */
  get isFolded(): boolean {
    return this.folded;
  }

  override forward(x: FloatTensor, epilogue: ImageEpilogue = {}): FloatTensor {
    if (this.folded) {
      const sum = epilogue.residual === undefined ? x : x.add(epilogue.residual);
      return epilogue.activation === 'relu' ? relu(sum) : sum;
    }
    const { runningMean, runningVar, training, momentum, eps } = this;
    if (training) copyInto(this.numBatchesTracked, this.numBatchesTracked.add(1));
    return batchNorm(x, this.weight, this.bias, {
      runningMean,
      runningVar,
      training,
      momentum,
      eps,
      ...epilogue,
    });
  }

  /**
   * Gives the work of this layer in evaluation to the convolution before it: scales its weight, and its bias takes the
   * shift. What this layer holds is freed, and it lets its input through.
   *
   * @throws TensorError VALUE when it is folded already
   */
  foldInto(conv: Conv2d): void {
    if (this.folded) fail('foldInto', 'VALUE', 'expected a batch norm to fold, got one that is folded');
    const [weight, bias] = scope(() =>
      noGrad(() => {
        const scale = this.weight.mul(this.runningVar.add(this.eps).rsqrt());
        const centre = conv.bias === undefined ? this.runningMean.mul(-1) : conv.bias.sub(this.runningMean);
        return [conv.weight.mul(scale.reshape([-1, 1, 1, 1])), centre.mul(scale).add(this.bias)];
      }),
    );
    conv.weight.dispose();
    conv.bias?.dispose();
    conv.weight = parameter(weight);
    conv.bias = parameter(bias);
    this.dispose();
    for (const key of TENSORS) Reflect.deleteProperty(this, key);
    this.folded = true;
  }
}
