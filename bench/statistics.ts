/** The middle value: the mean of the two middle ones for an even count. */
export function median(values: readonly number[]): number {
  if (values.length === 0) throw new RangeError('median: expected at least one value, got none');
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/** The mean; NaN of nothing. */
export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** The standard deviation of what the values are a sample of (n - 1); undefined for fewer than two. */
export function standardDeviation(values: readonly number[]): number | undefined {
  if (values.length < 2) return undefined;
  const center = mean(values);
  const squares = values.reduce((sum, value) => sum + (value - center) ** 2, 0);
  return Math.sqrt(squares / (values.length - 1));
}

/** A ratio over several rounds. */
export interface Ratio {
  readonly median: number;
  readonly low: number;
  readonly high: number;
}

/**
 * How many times faster `ours` is than `theirs`, from seconds measured in the same rounds. Each round gives one ratio,
 * so that a machine that slows down for a while slows both sides of it. A system that was too slow for every round has
 * fewer entries; its last one stands for the rounds it sat out.
 */
export function speedup(ours: readonly number[], theirs: readonly number[]): Ratio {
  if (ours.length === 0 || theirs.length === 0) {
    throw new RangeError(
      `speedup: expected at least one round each, got ${ours.length} and ${theirs.length}`,
    );
  }
  const rounds = Math.max(ours.length, theirs.length);
  const at = (list: readonly number[], round: number): number => list[Math.min(round, list.length - 1)];
  const ratios = Array.from({ length: rounds }, (_, round) => at(theirs, round) / at(ours, round));
  return { median: median(ratios), low: Math.min(...ratios), high: Math.max(...ratios) };
}
