import test from 'ava';

import { type RandomErasing, SampleRandom, erase } from '../../src/index.js';
import { drawErased } from '../../src/data/augment/erase.js';
import { countsFollow, follows, normalShare } from '../helpers/distributions.js';

const SIDE = 400;

/** Rectangles of many images of 400 x 400. */
const boxes = (n: number, options: Partial<RandomErasing> = {}): ReturnType<typeof drawErased>[] =>
  Array.from({ length: n }, (_, i) =>
    drawErased(SIDE, SIDE, { p: 1, mode: 'const', ...options }, new SampleRandom(3, 0, i)),
  );

test('erased areas and shapes are even in their ranges, places over the image', (t) => {
  const drawn = boxes(6000).flat();
  const shares = drawn.map(({ height, width }) => (height * width) / SIDE ** 2);
  // Up to 0.3 of the area, every shape fits; above, some do not and are drawn again.
  const fits = drawn.filter((_, i) => shares[i] <= 0.3);
  follows(
    t,
    shares.filter((share) => share <= 0.3),
    (share) => (share - 0.02) / 0.28,
    'area',
  );
  const wide = Math.log(1 / 0.3);
  follows(
    t,
    fits.map((box) => Math.log(box.height / box.width)),
    (x) => (x + wide) / (2 * wide),
    'shape',
  );
  for (const [start, length] of [
    ['top', 'height'],
    ['left', 'width'],
  ] as const) {
    const random = new SampleRandom(9, 9, 9); // to spread whole numbers evenly
    follows(
      t,
      drawn.map((box) => (box[start] + random.uniform()) / (SIDE - box[length] + 1)),
      (x) => x,
      start,
    );
  }
  const most = Math.max(...shares);
  t.true(most > 0.32 && most < 0.335, `${most}`);
});

test('several rectangles share the area', (t) => {
  const drawn = boxes(1000, { count: 3 });
  t.true(drawn.every((own) => own.length === 3));
  follows(
    t,
    drawn.flat().map(({ height, width }) => (3 * height * width) / SIDE ** 2),
    (share) => (share - 0.02) / (1 / 3 - 0.02),
  );
});

test('ranges of area and shape are what the settings say; what never fits is left out', (t) => {
  const own = boxes(500, { area: [0.1, 0.1], ratio: [2, 2] }).flat();
  t.deepEqual([...new Set(own.map(({ height, width }) => `${height} ${width}`))], ['179 89']);
  t.deepEqual(boxes(20, { area: [1, 1] }).flat(), []);
});

/** An image of 24 x 32 in the second place of a batch, erased; ones elsewhere. */
function erased(options: RandomErasing, index: number): Float32Array {
  const images = new Float32Array(3 * 3 * 24 * 32).fill(1);
  erase(images, 3 * 24 * 32, 24, 32, options, new SampleRandom(5, 0, index));
  return images;
}

/** What the three channels lost, and what they got. */
function changes(images: Float32Array): number[][] {
  const plane = 24 * 32;
  return [3, 4, 5].map((c) => [...images.subarray(c * plane, (c + 1) * plane)].filter((x) => x !== 1));
}

test('an image loses pixels at its probability, other images none', (t) => {
  const n = 3000;
  let count = 0;
  for (let i = 0; i < n; i++) {
    const images = erased({ p: 0.25, mode: 'const' }, i);
    const [red, green, blue] = changes(images);
    if (red.length > 0) count += 1;
    if (i > 50) continue;
    t.is(images.filter((x) => x === 0).length, red.length + green.length + blue.length);
    t.true(red.length === green.length && red.every((x) => x === 0));
  }
  countsFollow(t, [count, n - count], [0.25, 0.75]);
});

test('pixel gives each element its own normal number, rand one to each channel, const 0', (t) => {
  const many = Array.from({ length: 60 }, (_, i) => changes(erased({ p: 1, mode: 'pixel' }, i)));
  follows(t, many.flat(2), normalShare, 'pixel');
  const channels = Array.from({ length: 1000 }, (_, i) => changes(erased({ p: 1, mode: 'rand' }, i))).flat();
  t.true(channels.every((values) => new Set(values).size === 1));
  follows(
    t,
    channels.map(([value]) => value),
    normalShare,
    'rand',
  );
  t.deepEqual([...new Set(changes(erased({ p: 1, mode: 'const' }, 1)).flat())], [0]);
});
