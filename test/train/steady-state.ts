/**
 * A long run of training, on the smallest of models: after the first steps it takes nothing more from the system, it
 * leaks no tensor, and the event loop is never held up for long. The test has a process of its own (as every AVA file).
 */
import { setTimeout } from 'node:timers/promises';

import test from 'ava';

import {
  AdamW,
  VisionTransformer,
  crossEntropy,
  manualSeed,
  memoryStats,
  normal,
  randint,
  scope,
} from '../../src/index.js';
import { watchEventLoop } from '../helpers/event-loop.js';

const WARM_UP = 50;
const STEPS = 2000;

test.serial(
  '2,000 steps take no memory from the system, leak no tensor and never hold the event loop for 50 ms',
  async (t) => {
    manualSeed(1);
    const model = new VisionTransformer({
      imgSize: 8,
      patchSize: 4,
      embedDim: 16,
      depth: 2,
      numHeads: 2,
      numClasses: 4,
      dropPathRate: 0.1,
      projDropRate: 0.1,
    });
    const optimizer = new AdamW(model.parameters(), { lr: 1e-3 });
    const step = async (): Promise<number> => {
      const loss = scope(() => {
        const images = normal([4, 3, 8, 8]);
        const loss = crossEntropy(model.call(images), randint([4], 0, 4), { labelSmoothing: 0.1 });
        loss.backward();
        optimizer.step({ maxNorm: 1 });
        optimizer.zeroGrad();
        return loss;
      });
      const value = await loss.item();
      loss.dispose();
      return value;
    };
    for (let i = 0; i < WARM_UP; i++) t.true(Number.isFinite(await step()));

    const before = memoryStats();
    const stop = watchEventLoop();
    let sum = 0;
    for (let i = 0; i < STEPS; i++) sum += await step();
    const { worst, usual } = stop();
    const after = memoryStats();

    t.true(Number.isFinite(sum));
    t.is(after.segments, before.segments, 'segments taken from the system');
    t.is(after.reserved, before.reserved);
    t.is(after.current, before.current);
    t.is(after.tensors, before.tensors, 'live tensors');
    t.true(worst < 50, `worst delay of the event loop: ${worst.toFixed(1)} ms`);
    t.true(usual < 50, `99.9 % of its delays are up to ${usual.toFixed(1)} ms`);
    t.log(`worst delay of the event loop: ${worst.toFixed(1)} ms`);
  },
);

test.serial('a delay of the event loop is seen', async (t) => {
  const stop = watchEventLoop();
  await setTimeout(5);
  const cpu = process.cpuUsage();
  for (let used = 0; used < 60_000;) used = process.cpuUsage(cpu).user + process.cpuUsage(cpu).system;
  await setTimeout(5);
  const { worst } = stop();
  t.true(worst > 50, `${worst} ms`);
});
