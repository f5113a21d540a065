import { join } from 'node:path';

import test from 'ava';

import { SHAPE_CLASSES, TensorError, findData, openDataset } from '../../src/index.js';
import { temporaryFolder } from '../helpers/files.js';
import { sharedData, sharedTest } from '../helpers/golden.js';

test('shapes are found by their name, with the seed given', async (t) => {
  const { train, val } = await findData('shapes', { seed: 7 });
  t.like(train, { kind: 'shapes', seed: 7 });
  t.like(val, { kind: 'shapes', seed: 7 });
  t.deepEqual((await openDataset(train)).classes, SHAPE_CLASSES);
});

test('a path that is nothing, or a file, is an error that names it', async (t) => {
  const root = await temporaryFolder(t, { 'cat.jpg': 'x' });
  await t.throwsAsync(findData(join(root, 'photos')), {
    instanceOf: TensorError,
    message: `findData: expected 'shapes' or a folder, got ${join(root, 'photos')}, which does not exist`,
  });
  await t.throwsAsync(findData(join(root, 'cat.jpg')), {
    message: `findData: expected 'shapes' or a folder, got the file ${join(root, 'cat.jpg')}`,
  });
});

sharedTest('CIFAR-10 in shards is found, with its classes', sharedData('cifar10'), async (t) => {
  const { train, val } = await findData(sharedData('cifar10'));
  const [trainSet, valSet] = [await openDataset(train), await openDataset(val)];
  t.deepEqual([trainSet.length, valSet.length], [50000, 10000]);
  t.deepEqual([trainSet.classes[0], trainSet.classes[9], valSet.classes.length], ['airplane', 'truck', 10]);
  const counts = new Array<number>(10).fill(0);
  for (let i = 0; i < valSet.length; i++) counts[valSet.label(i)] += 1;
  t.deepEqual(counts, new Array(10).fill(1000));
  const { height, width } = await trainSet.read(49999);
  t.deepEqual([height, width], [32, 32]);
  await Promise.all([trainSet.close(), valSet.close()]);
});

sharedTest('the photographs of animals are found', sharedData('animals'), async (t) => {
  const { train, val } = await findData(sharedData('animals'));
  const classes = ['bird', 'dog', 'insect', 'reptile'];
  t.deepEqual(
    [train, val].map((spec) => spec.kind === 'folder' && [...spec.classes]),
    [classes, classes],
  );
});
