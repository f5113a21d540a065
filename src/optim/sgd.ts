import { native } from '../native.js';
import { type OptionNames, expectOptions } from '../tensor/arguments.js';
import type { FloatDType } from '../tensor/dtype.js';
import { fail } from '../tensor/error.js';
import type { Tensor } from '../tensor/tensor.js';
import { Optimizer, type ParamGroup, type Update } from './optimizer.js';

/** Settings of SGD. */
export interface SgdOptions {
  readonly lr: number;
  /** Default 0. */
  readonly momentum?: number;
  /** Look ahead along the momentum. Needs a momentum. Default false. */
  readonly nesterov?: boolean;
  /** Added to the gradient. Default 0. */
  readonly weightDecay?: number;
}

const OPTIONS = {
  lr: true,
  momentum: true,
  nesterov: true,
  weightDecay: true,
} satisfies OptionNames<SgdOptions>;

/**
 * Stochastic gradient descent with momentum, exactly as PyTorch: `g += wd p; b = mu b + g` (`b = g` at the first
 * step); `p -= lr b`, or `p -= lr (g + mu b)` with Nesterov.
 *
 * Source: Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.
 *
 * @example
 * const optimizer = new SGD(model.parameters(), { lr: 0.1, momentum: 0.9, nesterov: true });
 */
export class SGD extends Optimizer {
  protected readonly stateNames: readonly string[];
  private readonly momentum: number;
  private readonly nesterov: boolean;

  constructor(params: readonly Tensor<FloatDType>[] | readonly ParamGroup[], options: SgdOptions) {
    expectOptions('SGD', options, OPTIONS);
    super('SGD', params, { lr: options.lr, weightDecay: options.weightDecay ?? 0 });
    this.momentum = options.momentum ?? 0;
    this.nesterov = options.nesterov ?? false;
    if (!(this.momentum >= 0)) fail('SGD', 'VALUE', `expected a momentum of 0 or more, got ${this.momentum}`);
    if (this.nesterov && this.momentum === 0)
      fail('SGD', 'VALUE', 'expected a momentum with nesterov, got none');
    this.stateNames = this.momentum > 0 ? ['momentum'] : [];
  }

  /** @internal */
  protected override update(u: Update): void {
    native.sgd(
      u.params.map((t) => t.id),
      u.grads.map((t) => t.id),
      (u.states[0] ?? []).map((t) => t.id),
      u.copies.map((t) => t?.id),
      u.lr,
      u.weightDecay,
      this.momentum,
      this.nesterov,
      u.step === 1,
      u.norm?.id,
      u.maxNorm,
      u.numbers?.id,
    );
  }

  /** @internal */
  protected override numbers(lr: readonly number[], weightDecay: readonly number[]): readonly number[] {
    return lr.flatMap((rate, i) => [rate, weightDecay[i]]);
  }
}
