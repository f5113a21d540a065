import { type OptionNames, expectOptions } from '../tensor/arguments.js';
import { fail } from '../tensor/error.js';

/** The learning rates and lengths of a cosine schedule. */
export interface CosineOptions {
  /** The highest learning rate, reached after warm-up. */
  readonly lr: number;
  /** Updates in all. */
  readonly steps: number;
  /** Updates of linear warm-up. Default 0. */
  readonly warmupSteps?: number;
  /** Where warm-up begins. Default 0. */
  readonly warmupLr?: number;
  /** Where the cosine ends. Default 0. */
  readonly minLr?: number;
}

const OPTIONS = {
  lr: true,
  steps: true,
  warmupSteps: true,
  warmupLr: true,
  minLr: true,
} satisfies OptionNames<CosineOptions>;

/**
 * The learning rate of update `step` (from 0): linear warm-up, then half a cosine,
 * `minLr + (lr - minLr) / 2 (1 + cos(π t / T))`, T the updates after warm-up.
 *
 * Source: Loshchilov and Hutter, "SGDR", 2017; timm's CosineLRScheduler with a warm-up prefix, per update.
 *
 * @throws TensorError VALUE for rates below 0, or warm-up longer than training
 * @example
 * const lrAt = cosineSchedule({ lr: 1e-3, steps: 3910, warmupSteps: 391 });
 * optimizer.setLearningRate(lrAt(step));
 */
export function cosineSchedule(options: CosineOptions): (step: number) => number {
  expectOptions('cosineSchedule', options, OPTIONS);
  const { lr, steps, warmupSteps = 0, warmupLr = 0, minLr = 0 } = options;
  if (!(lr >= 0 && minLr >= 0 && warmupLr >= 0)) {
    fail('cosineSchedule', 'VALUE', `expected rates of 0 or more, got ${lr}, ${minLr} and ${warmupLr}`);
  }
  if (!(steps > 0 && warmupSteps >= 0 && warmupSteps <= steps)) {
    fail('cosineSchedule', 'VALUE', `expected warm-up within ${steps} updates, got ${warmupSteps}`);
  }
  return (step) => {
    if (step < warmupSteps) return warmupLr + (step * (lr - warmupLr)) / warmupSteps;
    const progress = Math.min(1, (step - warmupSteps) / Math.max(1, steps - warmupSteps));
    return minLr + ((lr - minLr) / 2) * (1 + Math.cos(Math.PI * progress));
  };
}
