import { setTimeout as delay } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

import { memoryStats } from '../../src/index.js';

setFlagsFromString('--expose-gc');

/** Runs the garbage collector once. What it finds is finalised in later turns of the event loop. */
export const runCollector = runInNewContext('gc') as () => void;

/** Collects until `amount` no longer falls: a test that measures memory starts without what earlier ones left behind. */
export async function collectGarbage(amount: () => number): Promise<number> {
  let least = amount();
  for (let quiet = 0; quiet < 3;) {
    runCollector();
    await delay(5);
    const now = amount();
    quiet = now < least ? 0 : quiet + 1;
    least = Math.min(least, now);
  }
  return amount();
}

/** `collectGarbage` for a test that counts tensors and waits in between: those that earlier tests dropped end first. */
export const collectTensors = (): Promise<number> => collectGarbage(() => memoryStats().tensors);
