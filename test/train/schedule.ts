import test from 'ava';

import { TensorError, cosineSchedule } from '../../src/index.js';

const near = (actual: number, expected: number): boolean => Math.abs(actual - expected) <= 5e-6 * expected;

test('warm-up and cosine give the published values of Swin', (t) => {
  const perEpoch = 1251;
  const lrAt = cosineSchedule({
    lr: 1e-3,
    minLr: 1e-5,
    warmupLr: 1e-6,
    steps: 300 * perEpoch,
    warmupSteps: 20 * perEpoch,
  });
  const published: [step: number, lr: number][] = [
    [0, 1e-6],
    [1, 1.03993e-6],
    [12510, 5.005e-4],
    [25019, 9.9996e-4],
    [25020, 1e-3],
    [100000, 8.92228e-4],
    [200000, 5.0571e-4],
    [300000, 1.18659e-4],
    [375299, 1.0e-5],
  ];
  for (const [step, lr] of published) t.true(near(lrAt(step), lr), `${step}: ${lrAt(step)}`);
});

test('the cosine alone gives the published values of DeiT after its warm-up', (t) => {
  const lrAt = cosineSchedule({ lr: 1e-3, minLr: 1e-5, steps: 300 });
  const published = { 0: 1e-3, 6: 9.99023e-4, 10: 9.97288e-4, 50: 9.33683e-4, 100: 7.525e-4, 150: 5.05e-4 };
  for (const [step, lr] of Object.entries(published)) t.true(near(lrAt(Number(step)), lr), step);
  t.true(near(lrAt(299), 1.00271e-5));
});

test('the rate stays at its lowest after the last update', (t) => {
  const lrAt = cosineSchedule({ lr: 0.1, minLr: 0.02, steps: 10, warmupSteps: 2, warmupLr: 0.04 });
  t.deepEqual([0, 1].map(lrAt), [0.04, 0.07]);
  t.is(lrAt(2), 0.1);
  t.is(lrAt(10), 0.02);
  t.is(lrAt(99), 0.02);
});

test('training can be warm-up alone', (t) => {
  const lrAt = cosineSchedule({ lr: 0.5, steps: 4, warmupSteps: 4 });
  t.deepEqual([0, 1, 2, 3].map(lrAt), [0, 0.125, 0.25, 0.375]);
});

test('a schedule that makes no sense is an error', (t) => {
  const message = (options: Parameters<typeof cosineSchedule>[0]): string =>
    t.throws(() => cosineSchedule(options), { instanceOf: TensorError }).message;
  t.is(message({ lr: -1, steps: 10 }), 'cosineSchedule: expected rates of 0 or more, got -1, 0 and 0');
  t.is(
    message({ lr: 1, steps: 10, warmupSteps: 11 }),
    'cosineSchedule: expected warm-up within 10 updates, got 11',
  );
});
