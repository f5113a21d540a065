/**
 * One round of one task, timed by benchmark.js.
 */
import Benchmark from 'benchmark';

import { median } from './statistics.js';

/** How long a round lasts. `rivals/pytorch.py` follows the same rules. */
export interface Round {
  /** Seconds that one sample takes at least: short runs are repeated to fill it. */
  readonly minTime: number;
  /** Seconds after which no further sample is begun. */
  readonly maxTime: number;
  readonly minSamples: number;
}

/** Measures `run`, which may return a promise, and gives the median seconds of one call. */
export async function measure(run: () => unknown, round: Round): Promise<number> {
  const first = run();
  const isAsync = first instanceof Promise;
  await first; // two runs must not share the machine
  return new Promise((resolve, reject) => {
    const benchmark = new Benchmark({
      ...round,
      defer: isAsync,
      fn: isAsync
        ? (deferred: { resolve(): void }) =>
            void (run() as Promise<unknown>).then(() => deferred.resolve(), reject)
        : run,
    });
    benchmark.on('error', () => reject(benchmark.error));
    benchmark.on('complete', () => resolve(median(benchmark.stats.sample)));
    benchmark.run({ async: isAsync });
  });
}
