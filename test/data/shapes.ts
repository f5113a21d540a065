import test from 'ava';

import { SHAPE_CLASSES, drawShape, openDataset, shapesData } from '../../src/index.js';
import { difference } from '../helpers/images.js';

test('there are at least ten classes, each with a name of its own', (t) => {
  t.true(SHAPE_CLASSES.length >= 10);
  t.is(new Set(SHAPE_CLASSES).size, SHAPE_CLASSES.length);
});

test('a seed and an index give the same bits, and others give others', (t) => {
  const { data } = drawShape(3, 5, 32).image;
  t.deepEqual(drawShape(3, 5, 32).image.data, data);
  t.true(difference(drawShape(4, 5, 32).image.data, data).mean > 5);
  t.true(difference(drawShape(3, 5 + SHAPE_CLASSES.length, 32).image.data, data).mean > 5);
});

test('a picture has the size asked for, 32 pixels unless told otherwise', async (t) => {
  for (const size of [16, 48]) {
    const { image } = drawShape(0, 0, size);
    t.deepEqual([image.height, image.width, image.data.length], [size, size, size * size * 3]);
  }
  const { height, width } = await (await openDataset(shapesData().train)).read(0);
  t.deepEqual([height, width], [32, 32]);
});

test('every class is drawn as often as the others, in both parts', async (t) => {
  const { train, val } = shapesData({ train: 10 * SHAPE_CLASSES.length, val: 3 * SHAPE_CLASSES.length });
  for (const [spec, each] of [
    [train, 10],
    [val, 3],
  ] as const) {
    const dataset = await openDataset(spec);
    const counts = new Array<number>(SHAPE_CLASSES.length).fill(0);
    for (let i = 0; i < dataset.length; i++) counts[dataset.label(i)] += 1;
    t.deepEqual(counts, new Array(SHAPE_CLASSES.length).fill(each));
  }
});

test('the label of a picture is the class that is drawn', async (t) => {
  const dataset = await openDataset(shapesData({ seed: 9, train: 40 }).train);
  for (let i = 0; i < 40; i++) {
    const drawn = drawShape(9, i, 32);
    t.is(dataset.label(i), drawn.label);
    if (i < 3) t.deepEqual((await dataset.read(i)).data, drawn.image.data);
  }
});

test('no picture is in both parts, nor twice in one', async (t) => {
  const { train, val } = shapesData({ train: 300, val: 300, size: 16 });
  const seen = new Set<string>();
  for (const spec of [train, val]) {
    const dataset = await openDataset(spec);
    for (let i = 0; i < 300; i++) seen.add((await dataset.read(i)).data.join());
  }
  t.is(seen.size, 600);
});

test('pictures use the range of levels, and their figure stands out', async (t) => {
  const dataset = await openDataset(shapesData({ train: 200 }).train);
  let low = 255;
  let high = 0;
  for (let i = 0; i < 200; i++) {
    const { data } = await dataset.read(i);
    let [least, most] = [255, 0];
    for (const level of data) [least, most] = [Math.min(least, level), Math.max(most, level)];
    t.true(most - least > 40, `picture ${i}: from ${least} to ${most}`);
    [low, high] = [Math.min(low, least), Math.max(high, most)];
  }
  t.true(low < 40 && high > 215, `from ${low} to ${high}`);
});

test('pictures beyond the set are errors', async (t) => {
  const dataset = await openDataset(shapesData({ train: 12 }).train);
  t.throws(() => void dataset.read(12), { message: 'dataset: expected an image below 12 of shapes, got 12' });
});
