/**
 * The results of a run, as its JSON file holds them.
 */
import type { Machine } from './machine.js';
import { median, speedup } from './statistics.js';
import { type Case, metricOf } from './tasks.js';

/** One number. */
export interface Result {
  readonly suite: string;
  readonly case: string;
  readonly system: string;
  readonly metric: string;
  readonly value: number;
  readonly unit: string;
}

export interface ResultsFile {
  readonly date: string;
  readonly machine: Machine;
  readonly commit: string | undefined;
  /** By library, Node among them. */
  readonly versions: Readonly<Record<string, string>>;
  /** Threads that each system computed with. */
  readonly threads: Readonly<Record<string, number>>;
  readonly rounds: number;
  /** Why a system is not there, by system. */
  readonly absent: Readonly<Record<string, string>>;
  readonly results: readonly Result[];
}

/** What one system gave in one case. */
export interface Outcome {
  readonly system: string;
  /** Seconds of one run, by round. */
  readonly seconds: readonly number[];
  readonly peakBytes?: number;
}

export const PERCENT = 'share of limit';
export const PEAK = 'peak memory';
export const SPEEDUP = "tenon's speed over it";

/**
 * The numbers of one case. Tenon's outcome comes first; each rival has Tenon's speed over it, from the rounds in which
 * both ran.
 * @param limitSeconds what one run would take at the limit of the machine, if the case has one
 */
export function resultsOf(
  { suite, name, task }: Case,
  outcomes: readonly Outcome[],
  limitSeconds: number | undefined,
): Result[] {
  const metric = metricOf(task);
  const ours = outcomes.find(({ system }) => system === 'tenon')?.seconds;
  return outcomes.flatMap(({ system, seconds, peakBytes }) => {
    const typical = median(seconds);
    const row = (metric: string, value: number, unit: string): Result => ({
      suite,
      case: name,
      system,
      metric,
      value: Number(value.toPrecision(5)),
      unit,
    });
    return [
      row(metric.name, metric.of(typical), metric.unit),
      ...(limitSeconds === undefined ? [] : [row(PERCENT, (100 * limitSeconds) / typical, '%')]),
      ...(peakBytes === undefined ? [] : [row(PEAK, peakBytes / 2 ** 20, 'MiB')]),
      ...(ours === undefined || system === 'tenon' ? [] : [row(SPEEDUP, speedup(ours, seconds).median, 'x')]),
    ];
  });
}
