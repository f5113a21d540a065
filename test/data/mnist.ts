import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

import test from 'ava';

import { TensorError, findData, openDataset } from '../../src/index.js';
import { temporaryFolder } from '../helpers/files.js';
import { pixelAt } from '../helpers/images.js';

/** An IDX file of bytes. */
function idx(sizes: readonly number[], data: readonly number[]): Buffer {
  const header = Buffer.alloc(4 + 4 * sizes.length);
  header[2] = 0x08;
  header[3] = sizes.length;
  for (const [i, size] of sizes.entries()) header.writeUInt32BE(size, 4 + 4 * i);
  return Buffer.concat([header, Buffer.from(data)]);
}

const pixels = Array.from({ length: 2 * 3 * 4 }, (_, i) => 10 * i);
const files = {
  'train-images-idx3-ubyte.gz': gzipSync(idx([2, 3, 4], pixels)),
  'train-labels-idx1-ubyte.gz': gzipSync(idx([2], [7, 3])),
  't10k-images-idx3-ubyte': idx([1, 3, 4], pixels.slice(12)), // not gzipped
  't10k-labels-idx1-ubyte': idx([1], [9]),
};

test('MNIST is read, gzipped or not, its grey repeated', async (t) => {
  const { train, val } = await findData(await temporaryFolder(t, files));
  const [trainSet, valSet] = [await openDataset(train), await openDataset(val)];
  t.deepEqual([trainSet.length, valSet.length], [2, 1]);
  t.deepEqual(trainSet.classes, ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9']);
  t.deepEqual([trainSet.label(0), trainSet.label(1), valSet.label(0)], [7, 3, 9]);
  const image = await trainSet.read(1);
  t.deepEqual([image.height, image.width], [3, 4]);
  t.deepEqual(pixelAt(image, 1, 2), [180, 180, 180]);
});

test('more than ten classes are counted by the highest label', async (t) => {
  const { train } = await findData(
    await temporaryFolder(t, { ...files, 'train-labels-idx1-ubyte.gz': gzipSync(idx([2], [0, 25])) }),
  );
  t.is((await openDataset(train)).classes.length, 26);
});

test('damaged files are errors that name them', async (t) => {
  const images = 'train-images-idx3-ubyte.gz';
  const broken = async (
    changed: Record<string, Buffer>,
    message: (root: string) => string,
  ): Promise<void> => {
    const root = await temporaryFolder(t, { ...files, ...changed });
    const error = await t.throwsAsync(findData(root), { instanceOf: TensorError });
    t.is(error?.message, message(root));
  };
  await broken(
    { [images]: files[images].subarray(0, 30) },
    (root) => `openDataset: expected a whole gzip file in ${join(root, images)}, got unexpected end of file`,
  );
  await broken(
    { [images]: gzipSync(idx([2, 3, 4], pixels.slice(1))) },
    (root) => `openDataset: expected 24 bytes for [2, 3, 4] in ${join(root, images)}, got 23`,
  );
  await broken(
    { [images]: Buffer.from('not an IDX file') },
    (root) => `openDataset: expected an IDX file of bytes in ${join(root, images)}, got something else`,
  );
  await broken(
    { 'train-labels-idx1-ubyte.gz': gzipSync(idx([3], [1, 2, 3])) },
    (root) =>
      `openDataset: expected as many labels as images in ${join(root, images)}, got [2, 3, 4] and [3]`,
  );
});
