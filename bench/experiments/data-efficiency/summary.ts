/**
 * Results in numbers: accuracies over seeds, and by how much the taught transformer is better than the same without a
 * teacher.
 */
import { mean, standardDeviation } from '../../statistics.js';
import type { RunResult } from './folder.js';
import { KINDS, type Kind } from './plan.js';

/** Test accuracies of a model on a share of the training images. */
export interface Accuracy {
  readonly kind: Kind;
  readonly share: number;
  /** Different training images. */
  readonly images: number;
  /** By seed. */
  readonly accuracies: readonly number[];
  readonly mean: number;
  /** Between the seeds; absent for one alone. */
  readonly deviation?: number | undefined;
}

/** A taught model beside the one without a teacher, on the same subsets. */
export interface Gain {
  readonly share: number;
  readonly seeds: number;
  /** Of the mean accuracies. */
  readonly difference: number;
  /** The larger of the two standard deviations between seeds; absent for one seed alone. */
  readonly spread?: number | undefined;
  /** The smallest difference at one seed. */
  readonly least: number;
}

/** Accuracies by share, rising, and kind, of the runs that are finished. */
export function accuraciesOf(results: readonly RunResult[]): Accuracy[] {
  const shares = [...new Set(results.map(({ share }) => share))].sort((a, b) => a - b);
  return shares.flatMap((share) =>
    KINDS.flatMap((kind): Accuracy[] => {
      const own = ofSetting(results, share, kind);
      if (own.length === 0) return [];
      const accuracies = own.map(({ testAccuracy }) => testAccuracy);
      const deviation = standardDeviation(accuracies);
      return [{ kind, share, images: own[0].images, accuracies, mean: mean(accuracies), deviation }];
    }),
  );
}

/** By how much `taught` is better than `plain`, by share, over the seeds that both have. */
export function gainsOf(results: readonly RunResult[], taught: Kind, plain: Kind): Gain[] {
  const shares = [...new Set(results.map(({ share }) => share))].sort((a, b) => a - b);
  return shares.flatMap((share): Gain[] => {
    const [ours, theirs] = [taught, plain].map((kind) => ofSetting(results, share, kind));
    const pairs = ours.flatMap((a) => {
      const b = theirs.find(({ seed }) => seed === a.seed);
      return b === undefined ? [] : [[a.testAccuracy, b.testAccuracy] as const];
    });
    if (pairs.length === 0) return [];
    const deviations = [0, 1].map((side) => standardDeviation(pairs.map((pair) => pair[side])));
    const differences = pairs.map(([a, b]) => a - b);
    return [
      {
        share,
        seeds: pairs.length,
        difference: mean(differences),
        spread: pairs.length < 2 ? undefined : Math.max(...deviations.map((deviation) => deviation ?? 0)),
        least: Math.min(...differences),
      },
    ];
  });
}

function ofSetting(results: readonly RunResult[], share: number, kind: Kind): RunResult[] {
  return results
    .filter((result) => result.share === share && result.kind === kind)
    .sort((a, b) => a.seed - b.seed);
}
