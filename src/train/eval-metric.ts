/**
 * What makes one validation better than another.
 */
import type { Evaluation } from '../inference/index.js';
import type { Progress } from './progress.js';

/**
 * What the best epoch is best in: the highest accuracy, the highest balanced accuracy (the mean of the classes' accuracies), or the
 * lowest loss. Of equal accuracies, the lowest loss.
 */
export type EvalMetric = 'accuracy' | 'balanced' | 'loss';

export const EVAL_METRICS = ['accuracy', 'balanced', 'loss'] as const satisfies readonly EvalMetric[];

type Best = Pick<Progress, 'bestAccuracy' | 'bestBalancedAccuracy' | 'bestLoss'>;

/** Whether an evaluation is better than the best so far. */
export function isBetter(metric: EvalMetric, now: Evaluation, best: Best): boolean {
  const { bestAccuracy, bestBalancedAccuracy, bestLoss } = best;
  const lowersLoss = bestLoss !== null && now.loss < bestLoss;
  // Few validation images tie often, at 100 % above all: the lower loss then tells.
  const raises = (value: number, before: number | null): boolean =>
    before === null || value > before || (value === before && lowersLoss);
  switch (metric) {
    case 'accuracy':
      return raises(now.accuracy, bestAccuracy);
    case 'balanced':
      return raises(now.balancedAccuracy, bestBalancedAccuracy);
    case 'loss':
      return bestLoss === null || lowersLoss;
  }
}
