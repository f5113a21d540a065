import { setTimeout } from 'node:timers/promises';

import test from 'ava';

import { measure } from '../../bench/measure.js';

test('an asynchronous run is over before the next one begins, and takes its time', async (t) => {
  let running = 0;
  let most = 0;
  const run = async (): Promise<void> => {
    running += 1;
    most = Math.max(most, running);
    await setTimeout(20);
    running -= 1;
  };
  const seconds = await measure(run, { minTime: 0.01, maxTime: 0.05, minSamples: 2 });
  t.is(most, 1);
  t.true(seconds > 0.019 && seconds < 0.2, `${seconds} s`);
});
