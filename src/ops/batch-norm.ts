import { native } from '../native.js';
import { type OptionNames, expectOptions, expectTensors, optionalId } from '../tensor/arguments.js';
import { cast } from '../tensor/autocast.js';
import { ownOp } from '../tensor/define-op.js';
import type { DType, FloatDType } from '../tensor/dtype.js';
import { type Tensor, wrap } from '../tensor/tensor.js';
import { isRelu } from './operand.js';

/** Which statistics normalise, and what follows in the same kernel. */
export interface BatchNormOptions<D extends FloatDType = FloatDType> {
  /** `[C]`. In training they move in place towards the batch's, unseen by autograd; else they normalise. */
  readonly runningMean?: Tensor<D> | undefined;
  readonly runningVar?: Tensor<D> | undefined;
  /** Normalise by the batch's own statistics. Default: without running ones. */
  readonly training?: boolean;
  /** How far the running statistics move: `running = (1 - momentum) running + momentum batch`. Default 0.1. */
  readonly momentum?: number;
  /** Added to the variance. Default 1e-5. */
  readonly eps?: number;
  /** Added to the normalised values; the shape of x. */
  readonly residual?: Tensor<D> | undefined;
  /** Applied last. Default 'none'. */
  readonly activation?: 'none' | 'relu';
}

interface Settings {
  readonly runningMean: Tensor | undefined;
  readonly runningVar: Tensor | undefined;
  readonly training: boolean;
  readonly momentum: number;
  readonly eps: number;
  readonly relu: boolean;
}

/** What backward needs of the settings. */
interface State {
  readonly training: boolean;
  /** The dtype of the residual, which may be wider than x. */
  readonly residual: DType | undefined;
}

const batchNormOp = ownOp({
  name: 'batchNorm',
  autocast: 'keep', // 16-bit images beside float32 parameters
  forward(
    ctx,
    x: Tensor,
    gamma: Tensor | undefined,
    beta: Tensor | undefined,
    residual: Tensor | undefined,
    s: Settings,
  ): Tensor {
    const [y, mean, rstd] = native
      .batchNorm(
        x.id,
        optionalId('batchNorm', 'gamma', gamma),
        optionalId('batchNorm', 'beta', beta),
        optionalId('batchNorm', 'runningMean', s.runningMean),
        optionalId('batchNorm', 'runningVar', s.runningVar),
        optionalId('batchNorm', 'residual', residual && cast(residual, x.dtype)),
        s.training,
        s.momentum,
        s.eps,
        s.relu,
      )
      .map((id) => wrap(id));
    ctx.state = { training: s.training, residual: residual?.dtype } satisfies State;
    ctx.save(x, mean, rstd, gamma, beta, s.relu ? y : undefined);
    return y;
  },
  backward({ saved: [x, mean, rstd, gamma, beta, y], needsGrad, state }, dy) {
    if (dy === undefined) return [];
    const { training, residual } = state as State;
    const masked = (y as Tensor | undefined) !== undefined;
    const [dx, dgamma, dbeta, dresidual] = native
      .batchNormBackward(
        dy.id,
        x.id,
        (y as Tensor | undefined)?.id,
        (gamma as Tensor | undefined)?.id,
        (beta as Tensor | undefined)?.id,
        mean.id,
        rstd.id,
        training,
        masked && needsGrad[3],
      )
      .map((id) => ((id as typeof id | undefined) === undefined ? undefined : wrap(id)));
    const around = masked ? dresidual : dy;
    return [dx, dgamma, dbeta, residual && around && cast(around, residual)];
  },
});

const OPTIONS = {
  runningMean: true,
  runningVar: true,
  training: true,
  momentum: true,
  eps: true,
  residual: true,
  activation: true,
} satisfies OptionNames<BatchNormOptions>;

/**
 * Batch normalisation of the channels, in one kernel with what follows it:
 * `y = activation((x - mean) / sqrt(var + eps) * gamma + beta + residual)`.
 *
 * Shapes: x, y and residual `[B, C, H, W]` or `[B, C]`; the others `[C]`. In training, mean and variance are those of a
 * channel over the batch and its pixels (the variance divided by their number n; the running one by n - 1). Beside a
 * 16-bit x, the others but the residual may be float32. Sums have a fixed order. Source: Ioffe and Szegedy, "Batch
 * Normalization", 2015.
 *
 * @throws TensorError SHAPE or DTYPE when an operand does not fit x, or a channel has one value in training; VALUE for
 *   evaluation without running statistics
 * @example
 * const y = batchNorm(x, gamma, beta, { runningMean, runningVar, training: true, activation: 'relu' });
 */
export function batchNorm<D extends FloatDType>(
  x: Tensor<D>,
  gamma?: Tensor<D>,
  beta?: Tensor<D>,
  options: BatchNormOptions<D> = {},
): Tensor<D> {
  expectTensors('batchNorm', x);
  expectOptions('batchNorm', options, OPTIONS);
  const { runningMean, runningVar, residual, momentum = 0.1, eps = 1e-5, activation = 'none' } = options;
  return batchNormOp(x, gamma, beta, residual, {
    runningMean,
    runningVar,
    training: options.training ?? runningMean === undefined,
    momentum,
    eps,
    relu: isRelu('batchNorm', activation),
  }) as unknown as Tensor<D>;
}
