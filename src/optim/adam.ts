import { native } from '../native.js';
import { type OptionNames, expectOptions } from '../tensor/arguments.js';
import type { FloatDType } from '../tensor/dtype.js';
import { fail } from '../tensor/error.js';
import type { Tensor } from '../tensor/tensor.js';
import { Optimizer, type ParamGroup, type Update } from './optimizer.js';

/** Settings of Adam and AdamW. */
export interface AdamOptions {
  /** Default 1e-3. */
  readonly lr?: number;
  /** Decay of the first and second moment. Default [0.9, 0.999]. */
  readonly betas?: readonly [number, number];
  /** Added to the root of the corrected second moment. Default 1e-8. */
  readonly eps?: number;
  /** Default 0.01 for AdamW (decoupled), 0 for Adam (added to the gradient). */
  readonly weightDecay?: number;
}

const OPTIONS = { lr: true, betas: true, eps: true, weightDecay: true } satisfies OptionNames<AdamOptions>;

class AdamBase extends Optimizer {
  protected readonly stateNames = ['m', 'v'];
  private readonly betas: readonly [number, number];
  private readonly eps: number;

  constructor(
    name: string,
    params: readonly Tensor<FloatDType>[] | readonly ParamGroup[],
    options: AdamOptions,
    weightDecay: number,
    private readonly decoupled: boolean,
  ) {
    expectOptions(name, options, OPTIONS);
    super(name, params, { lr: options.lr ?? 1e-3, weightDecay: options.weightDecay ?? weightDecay });
    this.betas = options.betas ?? [0.9, 0.999];
    this.eps = options.eps ?? 1e-8;
    if (!(this.eps >= 0)) fail(name, 'VALUE', `expected an eps of 0 or more, got ${this.eps}`);
    for (const beta of this.betas) {
      if (!(beta >= 0 && beta < 1))
        fail(name, 'VALUE', `expected betas in [0, 1), got ${this.betas.join(', ')}`);
    }
  }

  /** @internal */
  protected override update(u: Update): void {
    native.adam(
      u.params.map((t) => t.id),
      u.grads.map((t) => t.id),
      u.states[0].map((t) => t.id),
      u.states[1].map((t) => t.id),
      u.copies.map((t) => t?.id),
      u.lr,
      u.weightDecay,
      this.betas[0],
      this.betas[1],
      this.eps,
      u.step,
      this.decoupled,
      u.norm?.id,
      u.maxNorm,
      u.numbers?.id,
    );
  }

  /** @internal */
  protected override numbers(
    lr: readonly number[],
    weightDecay: readonly number[],
    steps: readonly number[],
  ): readonly number[] {
    return native.adamNumbers(lr, weightDecay, steps, this.betas[0], this.betas[1], this.decoupled);
  }
}

/**
 * AdamW: Adam with decoupled weight decay, exactly as PyTorch: `p -= lr wd p`, then
 * `p -= lr / (1 - b1^t) m / (sqrt(v / (1 - b2^t)) + eps)`.
 *
 * Source: Loshchilov and Hutter, "Decoupled weight decay regularization", 2019.
 *
 * @example
 * const optimizer = new AdamW(model.parameters(), { lr: 1e-3, weightDecay: 0.05 });
 * loss.backward();
 * optimizer.step({ maxNorm: 1 });
 * optimizer.zeroGrad();
 */
export class AdamW extends AdamBase {
  constructor(params: readonly Tensor<FloatDType>[] | readonly ParamGroup[], options: AdamOptions = {}) {
    super('AdamW', params, options, 0.01, true);
  }
}

/**
 * Adam; weight decay, if any, is added to the gradient.
 *
 * Source: Kingma and Ba, "Adam: a method for stochastic optimization", 2015.
 */
export class Adam extends AdamBase {
  constructor(params: readonly Tensor<FloatDType>[] | readonly ParamGroup[], options: AdamOptions = {}) {
    super('Adam', params, options, 0, false);
  }
}
