import test from 'ava';

import { DataLoader, memoryData, openDataset, subsetData } from '../../src/index.js';

const size = [2, 2] as const;
const transform = { steps: [], size, mean: [0, 0, 0], std: [1, 1, 1] };
/** Ten images of one colour each: image i is `i` all over, of class i mod 3. */
const whole = memoryData({
  classes: ['red', 'green', 'blue'],
  pixels: Uint8Array.from({ length: 10 * 12 }, (_, at) => Math.floor(at / 12)),
  height: 2,
  width: 2,
  labels: Array.from({ length: 10 }, (_, i) => i % 3),
});

test('a subset has the images that were named, in that order, and all classes', async (t) => {
  const subset = await openDataset(subsetData(whole, [7, 2, 7]));
  t.deepEqual([subset.length, subset.classes.length, subset.name], [3, 3, '3 images of memory']);
  t.deepEqual(
    [0, 1, 2].map((i) => [subset.label(i), subset.where(i)]),
    [
      [1, 'memory: image 7'],
      [2, 'memory: image 2'],
      [1, 'memory: image 7'],
    ],
  );
  t.deepEqual((await subset.read(1)).data, new Uint8Array(12).fill(2));
  await t.throwsAsync(subset.read(3), {
    message: 'dataset: expected an image below 3 of 3 images of memory, got 3',
  });
});

test('workers read a subset of a subset', async (t) => {
  const evens = subsetData(whole, Int32Array.of(0, 2, 4, 6, 8));
  const dataset = await openDataset(subsetData(evens, [4, 1]));
  for (const workers of [0, 1]) {
    const loader = new DataLoader(dataset, { batchSize: 2, transform, workers });
    for await (const batch of loader.epoch(0)) {
      t.deepEqual([...batch.labels], [2, 2]);
      t.deepEqual(
        [batch.images[0], batch.images[12]].map((x) => Math.round(x * 255)),
        [8, 2],
      );
      batch.release();
    }
    await loader.close();
  }
});

test('an image that the data set lacks, and no image, are errors', async (t) => {
  await t.throwsAsync(openDataset(subsetData(whole, [3, 10])), {
    message: 'dataset: expected an image below 10 of memory, got 10',
    code: 'INDEX',
  });
  await t.throwsAsync(openDataset(subsetData(whole, [])), {
    message: 'openDataset: expected images in 0 images of memory, found none',
  });
});
