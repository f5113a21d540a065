import { native } from '../native.js';
import { type OptionNames, expectOptions, expectTensorsByName } from '../tensor/arguments.js';
import { capturedNumbers, onHost } from '../tensor/capturing.js';
import { isFloating } from '../tensor/dtype.js';
import { fail } from '../tensor/error.js';
import { type Tensor, wrap } from '../tensor/tensor.js';

/** How slowly the average follows. */
export interface EmaOptions {
  /** Share of the average that stays at each update. Default 0.9999. */
  readonly decay?: number;
  /** Start with a smaller decay, `min(decay, 1 - (1 + step)^(-2/3))`, so that early weights fade. Default false. */
  readonly warmup?: boolean;
}

/** A weight and what follows it. */
interface Pairing {
  readonly weight: Tensor;
  readonly target: Tensor;
}

const OPTIONS = { decay: true, warmup: true } satisfies OptionNames<EmaOptions>;

/**
 * An exponential moving average of weights: `average += (1 - decay) (weight - average)` after each optimizer step, for
 * all of them in one call. Whole numbers among the weights (a batch norm's count) are copied.
 *
 * Source: timm's ModelEmaV3 (warmup with gamma 1 and power 2/3).
 *
 * @example
 * const ema = new Ema(model.stateDict(), { decay: 0.999 });
 * optimizer.step();
 * ema.update();
 */
export class Ema {
  /** The averages, by the names of the weights. */
  readonly averages: Readonly<Record<string, Tensor>>;
  /** Updates so far. */
  steps = 0;
  /** Averaged, and copied. */
  private readonly floats: readonly Pairing[];
  private readonly counts: readonly Pairing[];
  private readonly decay: number;
  private readonly warmup: boolean;

  constructor(weights: Readonly<Record<string, Tensor>>, options: EmaOptions = {}) {
    expectOptions('Ema', options, OPTIONS);
    this.decay = options.decay ?? 0.9999;
    this.warmup = options.warmup ?? false;
    if (!(this.decay >= 0 && this.decay <= 1)) {
      fail('Ema', 'VALUE', `expected a decay in [0, 1], got ${this.decay}`);
    }
    expectTensorsByName('Ema', 'weights', weights);
    const pairings = Object.entries(weights).map(([name, weight]) => {
      const target = wrap(native.clone(weight.id));
      target.kept = true;
      return { name, weight, target };
    });
    this.averages = Object.fromEntries(pairings.map(({ name, target }) => [name, target]));
    this.floats = pairings.filter(({ target }) => isFloating(target.dtype));
    this.counts = pairings.filter(({ target }) => !isFloating(target.dtype));
  }

  /** Moves the averages towards the present weights. */
  update(): void {
    native.lerp(
      this.floats.map(({ target }) => target.id),
      this.floats.map(({ weight }) => weight.id),
      this.nextWeight(),
      capturedNumbers(() => [this.nextWeight()])?.id,
    );
    for (const { target, weight } of this.counts) native.copyInto(target.id, weight.id);
    onHost(() => {
      this.steps += 1;
    });
  }

  /** Share of the weights in the next update. */
  private nextWeight(): number {
    const warm = this.warmup ? 1 - (2 + this.steps) ** (-2 / 3) : 1;
    return 1 - Math.min(this.decay, warm);
  }

  /** Frees the averages. */
  dispose(): void {
    for (const target of Object.values(this.averages)) target.dispose();
  }
}
