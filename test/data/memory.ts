import test from 'ava';

import { TensorError, memoryData, openDataset } from '../../src/index.js';
import { pixelAt } from '../helpers/images.js';

const classes = ['cat', 'dog'];

test('images in memory are read as they are, and grey is repeated', async (t) => {
  const pixels = Uint8Array.from({ length: 2 * 2 * 3 * 3 }, (_, i) => i);
  const rgb = await openDataset(memoryData({ classes, pixels, height: 2, width: 3, labels: [1, 0] }));
  t.deepEqual([rgb.length, rgb.label(0), rgb.label(1), rgb.name], [2, 1, 0, 'memory']);
  t.deepEqual(await rgb.read(1), { data: pixels.slice(18), height: 2, width: 3 });
  const grey = await openDataset(
    memoryData({
      name: 'scans',
      classes,
      pixels,
      height: 2,
      width: 3,
      channels: 1,
      labels: new Int32Array(6),
    }),
  );
  t.deepEqual([grey.length, grey.where(5)], [6, 'scans: image 5']);
  t.deepEqual(pixelAt(await grey.read(5), 1, 2), [35, 35, 35]);
});

test('pixels are copied into shared memory, and what is read is a copy', async (t) => {
  const pixels = new Uint8Array(12).fill(5);
  const spec = memoryData({ classes, pixels, height: 2, width: 2, labels: [0] });
  t.true(spec.pixels.buffer instanceof SharedArrayBuffer);
  const dataset = await openDataset(spec);
  pixels.fill(9);
  (await dataset.read(0)).data.fill(7);
  t.deepEqual([...(await dataset.read(0)).data], new Array(12).fill(5));
  const shared = new Uint8Array(new SharedArrayBuffer(12));
  t.is(memoryData({ classes, pixels: shared, height: 2, width: 2, labels: [0] }).pixels, shared);
});

test('sizes that do not fit, strange labels and no image are errors', async (t) => {
  const data = { classes, pixels: new Uint8Array(12), height: 2, width: 2 };
  t.throws(() => memoryData({ ...data, labels: [0, 1] }), {
    instanceOf: TensorError,
    message: 'openDataset: expected 24 bytes of pixels for 2 images [2, 2, 3], got 12',
  });
  t.throws(() => memoryData({ ...data, labels: [2] }), {
    message: 'openDataset: expected labels below 2 in memory, got 2 for image 0',
  });
  await t.throwsAsync(openDataset(memoryData({ ...data, pixels: new Uint8Array(0), labels: [] })), {
    message: 'openDataset: expected images in memory, found none',
  });
});
