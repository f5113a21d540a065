import test from 'ava';

import { SampleRandom } from '../../src/index.js';

test('the random numbers of a sample depend on seed, epoch and index', (t) => {
  const draw = (seed: number, epoch: number, index: number): number =>
    new SampleRandom(seed, epoch, index).uniform();
  t.is(draw(1, 2, 3), draw(1, 2, 3));
  t.is(
    new Set([draw(1, 2, 3), draw(2, 2, 3), draw(1, 3, 3), draw(1, 2, 4), draw(1 + 2 ** 40, 2, 3)]).size,
    5,
  );
});

test('first draws are uniform, and normal ones are normal', (t) => {
  const n = 20000;
  const bins = new Array<number>(20).fill(0);
  let mean = 0;
  let square = 0;
  for (let i = 0; i < n; i++) {
    const random = new SampleRandom(7, 0, i); // a fresh one each time, as augmentation has
    bins[Math.floor(random.uniform() * 20)] += 1;
    const z = random.normal();
    mean += z / n;
    square += (z * z) / n;
  }
  const chi = bins.reduce((sum, count) => sum + (count - n / 20) ** 2 / (n / 20), 0);
  t.true(chi < 43.8, `chi squared ${chi}`); // 0.999 of 19 degrees of freedom
  t.true(Math.abs(mean) < 0.025 && Math.abs(square - 1) < 0.04, `${mean} ${square}`);
});

test('whole numbers are below n, each as often as the others', (t) => {
  const random = new SampleRandom(1, 1, 1);
  const counts = [0, 0, 0];
  for (let i = 0; i < 3000; i++) counts[random.int(3)] += 1;
  t.is(counts.length, 3);
  t.true(
    counts.every((count) => Math.abs(count - 1000) < 100), // 4 standard deviations
    counts.join(),
  );
});
