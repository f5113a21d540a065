import { join } from 'node:path';

import test from 'ava';

import { TensorError, findData, openDataset } from '../../src/index.js';
import { temporaryFolder } from '../helpers/files.js';
import { pixelAt } from '../helpers/images.js';

/** A record: labels, then planes of which pixel i is (value + i + 50 * channel) mod 256. */
function record(labels: readonly number[], value: number): Buffer {
  const planes = Buffer.from(
    Uint8Array.from({ length: 3072 }, (_, i) => (value + (i % 1024) + 50 * Math.floor(i / 1024)) % 256),
  );
  return Buffer.concat([Buffer.from(labels), planes]);
}

test('CIFAR-10 batches are read in order, planes becoming pixels', async (t) => {
  const files = Object.fromEntries(
    [1, 2, 3, 4, 5].map((i) => [
      `data_batch_${i}.bin`,
      Buffer.concat([record([i], i), record([0], 100 + i)]),
    ]),
  );
  const root = await temporaryFolder(t, {
    ...files,
    'test_batch.bin': record([9], 200),
    'batches.meta.txt': 'airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n',
  });
  const { train, val } = await findData(root);
  const [trainSet, valSet] = [await openDataset(train), await openDataset(val)];
  t.deepEqual([trainSet.length, valSet.length], [10, 1]);
  t.deepEqual([trainSet.classes.length, trainSet.classes[9]], [10, 'truck']);
  t.deepEqual(
    Array.from({ length: 10 }, (_, i) => trainSet.label(i)),
    [1, 0, 2, 0, 3, 0, 4, 0, 5, 0],
  );
  t.is(valSet.label(0), 9);
  const image = await trainSet.read(3);
  t.deepEqual([image.height, image.width], [32, 32]);
  t.deepEqual(pixelAt(image, 0, 0), [102, 152, 202]);
  t.deepEqual(pixelAt(image, 1, 2), [136, 186, 236]);
  t.throws(() => void trainSet.read(10), { message: /expected an image below 10 of .*, got 10/ });
});

test('CIFAR-100 takes the fine label', async (t) => {
  const names = Array.from({ length: 100 }, (_, i) => `fine ${i}`).join('\n');
  const root = await temporaryFolder(t, {
    'train.bin': Buffer.concat([record([3, 99], 1), record([19, 0], 2)]),
    'test.bin': record([1, 42], 3),
    'fine_label_names.txt': names,
  });
  const { train, val } = await findData(root);
  const [trainSet, valSet] = [await openDataset(train), await openDataset(val)];
  t.deepEqual([trainSet.label(0), trainSet.label(1), valSet.label(0)], [99, 0, 42]);
  t.is(valSet.classes[42], 'fine 42');
  t.deepEqual(pixelAt(await trainSet.read(1), 0, 0), [2, 52, 102]);
});

test('classes without names are numbers', async (t) => {
  const root = await temporaryFolder(t, {
    'data_batch_1.bin': record([0], 0),
    'test_batch.bin': record([1], 0),
  });
  const { train } = await findData(root);
  t.deepEqual((await openDataset(train)).classes, ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9']);
});

test('a cut file and a label above the classes are errors that name the file', async (t) => {
  const cut = await temporaryFolder(t, {
    'data_batch_1.bin': record([0], 0).subarray(0, 3000),
    'test_batch.bin': record([1], 0),
  });
  await t.throwsAsync(findData(cut), {
    instanceOf: TensorError,
    message: `openDataset: expected records of 3073 bytes in ${join(cut, 'data_batch_1.bin')}, got 3000 bytes`,
  });
  const high = await temporaryFolder(t, {
    'data_batch_1.bin': record([10], 0),
    'test_batch.bin': record([1], 0),
  });
  await t.throwsAsync(findData(high), {
    message: `openDataset: expected labels below 10 in ${high}, got 10 for image 0`,
  });
});
