/**
 * Softmax, its logarithm, and the logarithm of its denominator, each in one stable pass over a dimension.
 */
import { native } from '../native.js';
import { type OptionNames, expectOptions } from '../tensor/arguments.js';
import { ownOp } from '../tensor/define-op.js';
import type { FloatDType } from '../tensor/dtype.js';
import { named } from '../tensor/error.js';
import { type Tensor, wrap } from '../tensor/tensor.js';
import { applyBinary, choose, minus, times } from './operand.js';

/** The dimension that sums to one. */
export interface SoftmaxOptions {
  /** The dimension whose elements compete. Default the last. */
  readonly dim?: number;
}

/** The dimension to reduce. */
export interface LogsumexpOptions extends SoftmaxOptions {
  /** Keep the dimension with size 1. Default false. */
  readonly keepdim?: boolean;
}

const OPTIONS = { dim: true } satisfies OptionNames<SoftmaxOptions>;

const LOGSUMEXP_OPTIONS = { dim: true, keepdim: true } satisfies OptionNames<LogsumexpOptions>;

interface State {
  readonly dim: number;
  readonly log: boolean;
}

const softmaxOp = ownOp({
  name: 'softmax',
  autocast: 'float32',
  forward(ctx, x: Tensor, state: State): Tensor {
    const y = wrap(native.softmax(x.id, state.dim, state.log));
    ctx.save(y);
    ctx.state = state;
    return y;
  },
  backward({ saved: [y], state }, dy) {
    if (dy === undefined) return [];
    const { dim, log } = state as State;
    return [wrap(native.softmaxBackward(y.id, dy.id, dim, log))];
  },
});

/**
 * Probabilities: `y_i = e^{x_i} / Σ_j e^{x_j}` along a dimension.
 *
 * @throws TensorError INDEX for a dimension that x lacks; DTYPE unless x is floating-point
 * @example
 * softmax(tensor([0, 0, Math.log(2)])) // [0.25, 0.25, 0.5]
 */
export function softmax<D extends FloatDType>(x: Tensor<D>, options: SoftmaxOptions = {}): Tensor<D> {
  expectOptions('softmax', options, OPTIONS);
  const { dim = -1 } = options;
  return softmaxOp(x, { dim, log: false }) as Tensor<D>;
}

/**
 * Logarithms of probabilities: `y_i = x_i - ln Σ_j e^{x_j}` along a dimension.
 *
 * @throws TensorError INDEX for a dimension that x lacks; DTYPE unless x is floating-point
 * @example
 * logSoftmax(logits, { dim: 1 })
 */
export function logSoftmax<D extends FloatDType>(x: Tensor<D>, options: SoftmaxOptions = {}): Tensor<D> {
  expectOptions('logSoftmax', options, OPTIONS);
  const { dim = -1 } = options;
  return named('logSoftmax', 'softmax', () => softmaxOp(x, { dim, log: true })) as Tensor<D>;
}

const logsumexpOp = ownOp({
  name: 'logsumexp',
  autocast: 'float32',
  forward(ctx, x: Tensor, dim: number, keepdim: boolean): Tensor {
    const y = wrap(native.logsumexp(x.id, dim, true));
    ctx.save(x, y);
    ctx.state = { dim, keepdim };
    return keepdim ? y : wrap(native.squeeze(y.id, [dim]));
  },
  backward({ saved: [x, y], state }, dy) {
    if (dy === undefined) return [];
    const { dim, keepdim } = state as { dim: number; keepdim: boolean };
    const kept = keepdim ? dy : wrap(native.unsqueeze(dy.id, dim));
    // Softmax, more exact than e^(x - y), is NaN all along a row with an infinite element.
    const none = applyBinary(native.equal, minus(x, y), -Infinity);
    return [times(choose(none, 0, wrap(native.softmax(x.id, dim, false))), kept)];
  },
});

/**
 * `y = ln Σ_j e^{x_j}` along a dimension, without overflow.
 *
 * @throws TensorError INDEX for a dimension that x lacks; DTYPE unless x is floating-point
 * @example
 * logsumexp(tensor([1000, 1000])) // 1000.6931
 */
export function logsumexp<D extends FloatDType>(x: Tensor<D>, options: LogsumexpOptions = {}): Tensor<D> {
  expectOptions('logsumexp', options, LOGSUMEXP_OPTIONS);
  const { dim = -1, keepdim } = options;
  return logsumexpOp(x, dim, keepdim === true) as Tensor<D>;
}
