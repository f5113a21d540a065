import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import test from 'ava';

import { type ResizeMode, resize } from '../../src/index.js';
import { difference, flat, pattern, pixelAt } from '../helpers/images.js';
import { sharedTest } from '../helpers/golden.js';

const PILLOW = fileURLToPath(new URL('../../../../shared/reference/golden_pillow_6x5.json', import.meta.url));

sharedTest('a 6 x 5 image is resized as Pillow does, bit for bit', PILLOW, (t) => {
  const golden = JSON.parse(readFileSync(PILLOW, 'utf8')) as Record<string, number[][][]>;
  const image = { data: Uint8Array.from(golden.input.flat(2)), height: 5, width: 6 };
  let cases = 0;
  for (const [name, expected] of Object.entries(golden)) {
    const match = /^resize_\d+x\d+_(\w+)\(w=(\d+),h=(\d+)\)/.exec(name);
    if (match === null) continue;
    const result = resize(image, [Number(match[3]), Number(match[2])], { mode: match[1] as ResizeMode });
    t.deepEqual([...result.data], expected.flat(2), name);
    cases += 1;
  }
  t.true(existsSync(PILLOW) && cases >= 3, `${cases} cases`);
});

test('one colour stays that colour, at every size and in every mode', (t) => {
  for (const mode of ['nearest', 'bilinear', 'bicubic', 'lanczos'] as const) {
    for (const size of [
      [3, 50],
      [40, 2],
      [1, 1],
    ] as const) {
      const { data } = resize(flat(17, 13, [250, 128, 3]), size, { mode });
      t.deepEqual(data, flat(size[0], size[1], [250, 128, 3]).data, `${mode} to ${size.join(' x ')}`);
    }
  }
});

test('halving with the bilinear filter weighs each pixel by a triangle two pixels wide', (t) => {
  const row = Uint8Array.from([0, 0, 0, 80, 80, 80, 160, 160, 160, 240, 240, 240]);
  const { data } = resize({ data: row, height: 1, width: 4 }, [1, 2], { mode: 'bilinear' });
  // Weights 3/7, 3/7, 1/7 at the border: (240 + 160) / 7, and mirrored.
  t.deepEqual([data[0], data[3]], [57, 183]);
});

test('nearest takes the pixel under the centre', (t) => {
  const image = pattern(4, 6);
  const small = resize(image, [2, 3], { mode: 'nearest' });
  t.deepEqual(pixelAt(small, 0, 0), pixelAt(image, 1, 1));
  t.deepEqual(pixelAt(small, 1, 2), pixelAt(image, 3, 5));
});

test('nearest goes along a row in steps that are rounded, as Pillow does', (t) => {
  const row = { data: Uint8Array.from({ length: 36 }, (_, i) => Math.floor(i / 3)), height: 1, width: 12 };
  const { data } = resize(row, [1, 21], { mode: 'nearest' });
  const columns = Array.from({ length: 21 }, (_, x) => data[3 * x]);
  t.deepEqual(columns, [0, 0, 1, 1, 2, 3, 3, 4, 4, 5, 5, 6, 7, 7, 8, 8, 9, 9, 10, 11, 11]);
});

test('the corners of a box have the precision that Pillow gives them', (t) => {
  const row = {
    data: Uint8Array.from({ length: 24 }, (_, i) => 255 * (Math.floor(i / 3) % 2)),
    height: 1,
    width: 8,
  };
  const { data } = resize(row, [1, 5], { mode: 'bilinear', box: [0.4, 0, 8, 1] });
  t.deepEqual([data[0], data[3], data[6], data[9], data[12]], [136, 111, 117, 142, 157]);
});

test('a box is resized as if cut out, but for what the filter sees beyond it', (t) => {
  const image = pattern(12, 16);
  const box = resize(image, [4, 4], { mode: 'nearest', box: [4, 4, 12, 12] });
  const whole = resize(image, [6, 8], { mode: 'nearest' });
  t.deepEqual(pixelAt(box, 0, 0), pixelAt(whole, 2, 2));
  const same = resize(image, [8, 8], { box: [4, 4, 12, 12] });
  t.is(difference(pixelAt(same, 3, 3), pixelAt(image, 7, 7)).worst, 0);
});

test('resizing to the same size changes nothing', (t) => {
  const image = pattern(5, 7);
  t.is(resize(image, [5, 7]), image);
});

test('sizes below 1 and boxes outside the image are errors', (t) => {
  const image = pattern(5, 7);
  t.throws(() => resize(image, [0, 4]), {
    message: 'resize: expected a height and width above 0, got 0 and 4',
  });
  t.throws(() => resize(image, [2.5, 4]), { message: /got 2\.5 and 4/ });
  t.throws(() => resize(image, [4, 4], { box: [0, 0, 8, 5] }), {
    message: 'resize: expected a box within 7 x 5, got [0, 0, 8, 5]',
  });
});
