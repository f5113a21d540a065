/**
 * Whether random numbers follow their distribution. Both tests are passed 999 times in a thousand; the seeds are fixed.
 */
import type { ExecutionContext } from 'ava';

import { erf } from './functions.js';

/** Kolmogorov and Smirnov's largest distance from a distribution's share of numbers up to v. */
export function follows(
  t: ExecutionContext,
  numbers: readonly number[],
  share: (v: number) => number,
  what = '',
): void {
  const sorted = numbers.toSorted((a, b) => a - b);
  const n = sorted.length;
  const distance = sorted.reduce(
    (most, v, i) => Math.max(most, Math.abs(share(v) - i / n), Math.abs(share(v) - (i + 1) / n)),
    0,
  );
  t.true(distance < 1.95 / Math.sqrt(n), `${what} distance ${distance} of ${n} numbers`);
}

/** Chi-squared of counts, for shares that sum to 1. */
export function countsFollow(
  t: ExecutionContext,
  counts: readonly number[],
  shares: readonly number[],
  what = '',
): void {
  const n = counts.reduce((sum, count) => sum + count, 0);
  const chi = counts.reduce((sum, count, i) => sum + (count - n * shares[i]) ** 2 / (n * shares[i]), 0);
  const degrees = counts.length - 1;
  const part = 2 / (9 * degrees);
  const limit = degrees * (1 - part + 3.09 * Math.sqrt(part)) ** 3; // Wilson and Hilferty
  t.true(
    chi < limit,
    `${what} chi-squared ${chi} of ${degrees} degrees of freedom, of ${n}: ${counts.join()}`,
  );
}

export const normalShare = (z: number): number => 0.5 * (1 + erf(z / Math.SQRT2));

/** The share of Beta(alpha, alpha) up to v, by the substitution x = sin² a. */
export function betaShare(alpha: number): (v: number) => number {
  const steps = 4000;
  const density = (i: number): number => Math.sin((Math.PI * (i + 0.5)) / steps) ** (2 * alpha - 1);
  const sums = new Float64Array(steps + 1);
  for (let i = 0; i < steps; i++) sums[i + 1] = sums[i] + density(i);
  return (v) => {
    const at = (Math.asin(Math.sqrt(v)) * 2 * steps) / Math.PI;
    const low = Math.min(steps - 1, Math.floor(at));
    return (sums[low] + (at - low) * (sums[low + 1] - sums[low])) / sums[steps];
  };
}
