import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

import test, { type ExecutionContext } from 'ava';

import {
  DataLoader,
  type Dataset,
  type DatasetSource,
  type Image,
  type LoaderOptions,
  TensorError,
  type Transform,
  moduleData,
  openDataset,
  subsetData,
} from '../../src/index.js';
import { temporaryFolder } from '../helpers/files.js';
import { flat, pattern, toSharp } from '../helpers/images.js';

const plain: Transform = { steps: [], size: [8, 8], mean: [0, 0, 0], std: [1 / 255, 1 / 255, 1 / 255] };
const augmented: Transform = {
  ...plain,
  steps: [
    { kind: 'randomResizedCrop', size: 8 },
    { kind: 'horizontalFlip', p: 0.5 },
  ],
};

/** Image i is of colour i, and of class i mod 2. */
const numbered: DatasetSource = {
  classes: ['even', 'odd'],
  length: 5,
  label: (index) => index % 2,
  read: (index) => flat(8, 8, [index, index, index]),
};

/** The numbers of an epoch's batches. */
async function take(
  t: ExecutionContext,
  dataset: Dataset,
  options: Partial<LoaderOptions> = {},
): Promise<{ images: number[]; labels: number[]; indices: number[] }[]> {
  const loader = new DataLoader(dataset, { batchSize: 2, transform: plain, ...options });
  t.teardown(() => loader.close());
  const taken = [];
  for await (const { images, labels, indices, release } of loader.epoch(1)) {
    taken.push({ images: [...images], labels: [...labels], indices: [...indices] });
    release();
  }
  return taken;
}

test('an object is a data set, which the calling thread decodes', async (t) => {
  const dataset = await openDataset(numbered);
  t.deepEqual([dataset.name, dataset.length, dataset.where(3)], ['own data', 5, 'own data: image 3']);
  t.is(new DataLoader(dataset, { batchSize: 2, transform: plain }).workers, 0);
  const batches = await take(t, dataset);
  t.deepEqual(
    batches.map(({ labels, indices }) => [labels, indices]),
    [
      [
        [0, 1],
        [0, 1],
      ],
      [
        [0, 1],
        [2, 3],
      ],
      [[0], [4]],
    ],
  );
  const levels = batches.flatMap(({ images }) => images.map(Math.round));
  t.deepEqual(
    levels,
    Array.from({ length: 5 * 192 }, (_, at) => Math.floor(at / 192)),
  );
  await t.throwsAsync(() => dataset.read(5), {
    message: 'dataset: expected an image below 5 of own data, got 5',
  });
  t.throws(() => new DataLoader(dataset, { batchSize: 2, transform: plain, workers: 2 }), {
    instanceOf: TensorError,
    message:
      'DataLoader: expected workers: 0 for own data, which other threads cannot open as they could one of moduleData, got 2',
  });
});

test('a source says where its images are, and is closed', async (t) => {
  let closed = 0;
  const dataset = await openDataset({
    ...numbered,
    name: 'numbers',
    where: (index) => `number ${index}`,
    close: () => void (closed += 1),
  });
  t.deepEqual([dataset.name, dataset.where(3)], ['numbers', 'number 3']);
  await dataset.close();
  t.is(closed, 1);
});

test('a module gives the same batches with any number of workers', async (t) => {
  const files: Record<string, Uint8Array | string> = {};
  let rows = '';
  for (let i = 0; i < 7; i++) {
    files[`${i}.png`] = await toSharp(pattern(9 + i, 12))
      .png()
      .toBuffer();
    rows += `${i}.png,${['dog', 'cat', 'elk'][i % 3]}\n`;
  }
  files['5.png'] = 'no image';
  const root = await temporaryFolder(t, { ...files, 'labels.csv': rows });
  const path = join(root, 'labels.csv');
  const spec = moduleData(new URL('../../examples/own-data/csv.js', import.meta.url), 'openCsv', path);
  const dataset = await openDataset(spec);
  t.deepEqual([dataset.name, dataset.length, ...dataset.classes], [path, 7, 'cat', 'dog', 'elk']);
  const options = { transform: augmented, shuffle: true, cache: false };
  const expected = await take(t, dataset, { ...options, workers: 0 });
  t.deepEqual(
    expected.flatMap(({ indices }) => indices).sort(),
    [0, 1, 2, 3, 4, 6], // all but the damaged one
  );
  for (const { labels, indices } of expected)
    t.deepEqual(
      labels,
      indices.map((i) => [1, 0, 2][i % 3]),
    );
  t.deepEqual(await take(t, dataset, { ...options, workers: 2 }), expected);

  const few = await openDataset(subsetData(spec, [6, 0, 3]));
  const fewBatches = await take(t, few, { workers: 0, transform: augmented });
  t.deepEqual(fewBatches[0].labels, [1, 1]);
  t.deepEqual(await take(t, few, { workers: 2, transform: augmented }), fewBatches);
});

/** A module with functions that make data sets, some of them wrong. */
async function module(t: ExecutionContext): Promise<string> {
  const root = await temporaryFolder(t, {
    'data.mjs': `
      const image = (level, size = 192) => ({ data: new Uint8Array(size).fill(level), height: 8, width: 8 });
      const source = (read) => ({ classes: ['one'], length: 4, label: () => 0, read });
      export const levels = (values) => source((i) => image(values[i]));
      export const short = () => source(() => image(0, 100));
      export const broken = () => source((i) => { throw new RangeError('no image ' + i); });
      export const text = () => source(() => { throw 'text'; });
      export const mode = 'none';
    `,
  });
  return pathToFileURL(join(root, 'data.mjs')).href;
}

test('arguments reach the threads, shared memory as it is', async (t) => {
  const levels = new Uint8Array(new SharedArrayBuffer(4));
  const dataset = await openDataset(moduleData(await module(t), 'levels', levels));
  levels.set([10, 20, 30, 40]); // after the set is made
  for (const workers of [0, 2]) {
    const batches = await take(t, dataset, { workers });
    t.deepEqual(
      batches.map(({ images }) => [Math.round(images[0]), Math.round(images[192])]),
      [
        [10, 20],
        [30, 40],
      ],
    );
  }
});

test('images of another size and errors of a source end the epoch, with workers and without', async (t) => {
  const url = await module(t);
  for (const workers of [0, 2]) {
    const error = await t.throwsAsync(
      take(t, await openDataset(moduleData(url, 'short')), { workers, batchSize: 1, cache: false }),
      {
        instanceOf: TensorError,
        message: 'dataset: expected 192 bytes of pixels [8, 8, 3] of own data: image 0, got 100',
      },
    );
    t.is(error?.code, 'SHAPE');
    const own = await t.throwsAsync(
      take(t, await openDataset(moduleData(url, 'broken')), { workers, batchSize: 1, cache: false }),
      { name: 'RangeError', message: 'no image 0' },
    );
    t.false(own instanceof TensorError);
    t.regex(own.stack ?? '', /^RangeError: no image 0\n.*data\.mjs/);
    await t.throwsAsync(
      take(t, await openDataset(moduleData(url, 'text')), { workers, batchSize: 1, cache: false }),
      { any: true, ...(workers > 0 ? { name: 'Error', message: 'text' } : { is: 'text' }) },
    );
  }
});

test('a source or a module that makes no sense is an error that says so', async (t) => {
  const error = async (data: Parameters<typeof openDataset>[0]): Promise<string | undefined> =>
    (await t.throwsAsync(openDataset(data), { instanceOf: TensorError }))?.message;
  t.is(
    await error({ ...numbered, label: (index) => index }),
    'openDataset: expected labels below 2 in own data, got 2 for image 2',
  );
  t.is(
    await error({ ...numbered, label: () => NaN }),
    'openDataset: expected labels below 2 in own data, got NaN for image 0',
  );
  t.is(
    await error({ ...numbered, length: 1.5 }),
    'openDataset: expected a whole number of images in own data, got 1.5',
  );
  t.is(await error({ ...numbered, length: 0 }), 'openDataset: expected images in own data, found none');
  const url = await module(t);
  t.is(
    await error(moduleData(url, 'mode')),
    `openDataset: expected ${url} to export a function mode, got string`,
  );
  t.is(
    await error(moduleData(url, 'open')),
    `openDataset: expected ${url} to export a function open, got undefined`,
  );
  t.regex(
    (await error(moduleData('file:///nowhere/data.mjs', 'open'))) ?? '',
    /^openDataset: expected a module at file:\/\/\/nowhere\/data\.mjs, got Cannot find module .*/,
  );
  t.throws(() => moduleData('./data.mjs', 'open'), {
    instanceOf: TensorError,
    message:
      "moduleData: expected the URL of a module, such as new URL('./data.js', import.meta.url), got './data.mjs'",
  });
  t.throws(() => moduleData(url, 'open', (): Image => flat(1, 1, [0, 0, 0])), {
    instanceOf: TensorError,
    message: /^moduleData: expected arguments that threads can be sent, got .* could not be cloned\.$/,
  });
});

test("the guide's data set is the example's", (t) => {
  const read = (path: string): string => readFileSync(new URL(`../../../${path}`, import.meta.url), 'utf8');
  const [, code] = read('examples/own-data/csv.ts').split('*/\n');
  t.true(read('docs/guides/training.md').includes(code.replace('../../src/index.js', 'tenon').trim()));
});

test('a damaged image is left out with what its data set says of it, in whatever words', async (t) => {
  const torn: DatasetSource = {
    ...numbered,
    read: (index) => {
      if (index === 2) throw new TensorError('the third is torn', 'own', 'IO');
      if (index === 3) throw new TensorError('own: expected a page, got ink', 'own', 'IO');
      return flat(8, 8, [index, index, index]);
    },
  };
  const loader = new DataLoader(await openDataset(torn), { batchSize: 5, transform: plain });
  t.teardown(() => loader.close());
  for await (const { indices, release } of loader.epoch(0)) {
    t.deepEqual([...indices].sort(), [0, 1, 4]);
    release();
  }
  const skipped = [...loader.stats.skipped].sort((a, b) => a.path.localeCompare(b.path));
  t.deepEqual(skipped, [
    { path: 'own data: image 2', reason: 'the third is torn' },
    { path: 'own data: image 3', reason: 'ink' },
  ]);
});
