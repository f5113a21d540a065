import test from 'ava';

import { type MixOptions, SampleRandom } from '../../src/index.js';
import { type Mix, drawMixes, mixPairs, mixedTargets } from '../../src/data/augment/mix.js';
import { betaShare, countsFollow, follows } from '../helpers/distributions.js';
import { close } from '../helpers/numbers.js';

const SIDE = 224;

/** One draw for each of many batches. */
const draws = (n: number, options: MixOptions, side = SIDE): Mix[] =>
  Array.from({ length: n }, (_, i) => drawMixes(2, options, side, side, new SampleRandom(2, 0, i))[0]);

test("Mixup's shares follow the Beta distribution", (t) => {
  for (const alpha of [0.2, 0.8, 1, 2.5]) {
    const shares = draws(5000, { mixup: alpha, cutmix: 0 }).map(({ share }) => share);
    follows(t, shares, betaShare(alpha), `alpha ${alpha}`);
    const variance = shares.reduce((sum, x) => sum + (x - 0.5) ** 2, 0) / shares.length;
    const expected = 1 / (4 * (2 * alpha + 1)); // .0962 for .8, .0833 for 1
    t.true(Math.abs(variance / expected - 1) < 0.05, `alpha ${alpha}: variance ${variance}`);
  }
  const tiny = draws(1000, { mixup: 0.001, cutmix: 0 }).map(({ share }) => share);
  t.true(tiny.every((x) => x >= 0 && x <= 1)); // also where both Gamma numbers are below the smallest float
});

test("CutMix's boxes are cut off at the border, and the share is that of the box", (t) => {
  const mixes = draws(8000, { mixup: 0, cutmix: 1 });
  const areas: number[] = [];
  const inside: number[] = [];
  for (const { share, box } of mixes) {
    if (box === undefined) return t.fail('expected a box');
    const { top, left, height, width } = box;
    t.true(top >= 0 && left >= 0 && top + height <= SIDE && left + width <= SIDE);
    const area = (height * width) / SIDE ** 2;
    t.true(Math.abs(1 - area - share) < 1e-12);
    areas.push(area);
    if (top > 0 && left > 0 && top + height < SIDE && left + width < SIDE) inside.push(height / width);
  }
  // Sides of s = sqrt(U) about an even centre keep s - s²/4: E[(s - s²/4)²] = 1/2 - 1/5 + 1/48.
  const mean = areas.reduce((a, b) => a + b, 0) / areas.length;
  t.true(Math.abs(mean - (0.3 + 1 / 48)) < 0.008, `mean area ${mean}`);
  t.true(
    inside.length > 1000 && inside.every((ratio) => ratio === 1),
    'whole boxes have the shape of the image',
  );
});

test('odd and even boxes have the sides that their share says, when nothing is cut off', (t) => {
  for (const { box } of draws(300, { mixup: 0, cutmix: 1 }, 9)) {
    if (box === undefined) return t.fail('expected a box');
    t.true(box.height <= 9 && box.width <= 9);
  }
  const sizes = new Set(draws(3000, { mixup: 0, cutmix: 1 }, 9).map(({ box }) => box?.height));
  t.deepEqual([...sizes].sort(), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
});

test('sides between two shares of the image are even, and places all inside', (t) => {
  const mixes = draws(4000, { mixup: 0, cutmix: 0, cutmixMinmax: [0.25, 0.75] }, 40);
  const counts = Array.from(
    { length: 20 },
    (_, i) => mixes.filter(({ box }) => box?.height === 10 + i).length,
  );
  countsFollow(
    t,
    counts,
    counts.map(() => 1 / 20),
  );
  t.true(mixes.every(({ share, box }) => box !== undefined && share === 1 - (box.height * box.width) / 1600));
});

test('CutMix comes at its rate of switching, and anything at its probability', (t) => {
  const count = (options: Partial<MixOptions>): number[] => {
    const mixes = draws(4000, { mixup: 0.8, cutmix: 1, ...options });
    const boxes = mixes.filter(({ box }) => box !== undefined).length;
    const plain = mixes.filter(({ share, box }) => share === 1 && box === undefined).length;
    return [boxes, mixes.length - boxes - plain, plain];
  };
  countsFollow(t, count({}).slice(0, 2), [0.5, 0.5]);
  countsFollow(t, count({ switchProb: 0.2, prob: 0.7 }), [0.14, 0.56, 0.3]);
  t.deepEqual(count({ mixup: 0, cutmix: 0 }), [0, 0, 4000]);
});

test('a batch has one draw, pairs share theirs, elements have their own', (t) => {
  const shares = (mode: MixOptions['mode'], size: number): number[] =>
    drawMixes(size, { mixup: 1, cutmix: 0, ...(mode && { mode }) }, 8, 8, new SampleRandom(1, 1, 1)).map(
      ({ share }) => share,
    );
  t.is(new Set(shares(undefined, 6)).size, 1);
  const pairs = shares('pair', 5);
  t.deepEqual(pairs, pairs.toReversed());
  t.is(new Set(pairs).size, 3);
  t.is(new Set(shares('elem', 6)).size, 6);
});

/** Batches of images 2 x 2: number i of levels 100 i + channel * 10 + pixel. */
function batch(size: number): Float32Array {
  return Float32Array.from(
    { length: size * 12 },
    (_, i) => 100 * Math.floor(i / 12) + 10 * Math.floor((i % 12) / 4) + (i % 4),
  );
}

test('images are mixed with their partners as they were', async (t) => {
  const images = batch(5);
  const before = batch(5);
  const box = { top: 0, left: 1, height: 2, width: 1 };
  const mixes = [{ share: 0.75 }, { share: 0.5, box }, { share: 0.1 }, { share: 1 }, { share: 0.25 }];
  mixPairs({ images, height: 2, width: 2, mixes, firsts: [0, 1, 2] });
  const expected = before.map((x, i) => {
    const [image, at] = [Math.floor(i / 12), i % 12];
    const partner = before[(4 - image) * 12 + at];
    const { share } = mixes[image];
    if (image === 1) return i % 2 === 1 ? partner : x;
    return share * x + (1 - share) * partner;
  });
  await close(t, images.subarray(0, 24), expected.subarray(0, 24), 1e-4);
  t.deepEqual(images.subarray(24, 48), before.subarray(24, 48), 'its own partner, and a share of 1');
  await close(t, images.subarray(48), expected.subarray(48), 1e-4);
});

test('targets are the shares of the two labels', async (t) => {
  const targets = mixedTargets(
    Int32Array.from([2, 0, 0, 1]),
    [0.7, 0.4, 0.6, 1].map((share) => ({ share })),
    3,
  );
  await close(t, targets, [0, 0.3, 0.7, 1, 0, 0, 1, 0, 0, 0, 1, 0], 1e-7);
});
