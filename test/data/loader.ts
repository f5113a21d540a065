import { execFile } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Worker } from 'node:worker_threads';

import test, { type ExecutionContext } from 'ava';

import {
  type Batch,
  DataLoader,
  type Dataset,
  type LoaderOptions,
  TensorError,
  type Transform,
  listFolder,
  listTar,
  memoryData,
  openDataset,
} from '../../src/index.js';
import { temporaryFolder } from '../helpers/files.js';
import { runCollector } from '../helpers/garbage.js';
import { flat, pattern, toSharp } from '../helpers/images.js';
import { sample, tarOf } from '../helpers/tar.js';

/** 8-pixel images, number i of colour (i, 2i, 3i), and class i mod 3. */
function numbered(length: number): Promise<Dataset> {
  const pixels = Uint8Array.from({ length: length * 192 }, (_, at) => Math.floor(at / 192) * ((at % 3) + 1));
  const labels = Array.from({ length }, (_, i) => i % 3);
  return openDataset(memoryData({ classes: ['a', 'b', 'c'], pixels, height: 8, width: 8, labels }));
}

/** 8-pixel images of noise: augmentation shows. */
function noisy(length: number): Promise<Dataset> {
  const pixels = Uint8Array.from({ length: length * 192 }, (_, at) => (at * 2654435761) >>> 24);
  return openDataset(
    memoryData({ classes: ['a'], pixels, height: 8, width: 8, labels: new Int32Array(length) }),
  );
}

const plain: Transform = { steps: [], size: [8, 8], mean: [0, 0, 0], std: [1 / 255, 1 / 255, 1 / 255] };
const augmented: Transform = {
  ...plain,
  steps: [
    { kind: 'randomCrop', size: 8, padding: 2 },
    { kind: 'horizontalFlip', p: 0.5 },
  ],
};

/** A loader that is closed when the test ends. */
function loaderOf(t: ExecutionContext, dataset: Dataset, options: Partial<LoaderOptions>): DataLoader {
  const loader = new DataLoader(dataset, { batchSize: 4, transform: plain, workers: 0, ...options });
  t.teardown(() => loader.close());
  return loader;
}

type Taken = Pick<Batch, 'number' | 'size'> & { images: number[]; labels: number[]; indices: number[] };

/** The batches of an epoch, copied. */
async function take(loader: DataLoader, epoch: number, firstBatch = 0): Promise<Taken[]> {
  const taken: Taken[] = [];
  for await (const { images, labels, indices, number, size, release } of loader.epoch(epoch, firstBatch)) {
    taken.push({ images: [...images], labels: [...labels], indices: [...indices], number, size });
    release();
  }
  return taken;
}

const indicesOf = (batches: readonly Taken[]): number[] => batches.flatMap(({ indices }) => indices);

test('a transform normalises by three finite means and three deviations above 0', async (t) => {
  const dataset = await numbered(4);
  const message = (of: Partial<Transform>): string | undefined =>
    t.throws(() => new DataLoader(dataset, { batchSize: 4, transform: { ...plain, ...of } }))?.message;
  const mean = 'DataLoader: expected three finite numbers for mean, got ';
  t.is(message({ mean: [0.5] }), `${mean}[0.5]`);
  t.is(message({ mean: [0, NaN, 0] }), `${mean}[0, NaN, 0]`);
  t.is(message({ mean: '000' as unknown as number[] }), `${mean}'000'`);
  const std = 'DataLoader: expected three finite numbers above 0 for std, got ';
  t.is(message({ std: [1, 0, 1] }), `${std}[1, 0, 1]`);
  t.is(message({ std: [1, 1, -1] }), `${std}[1, 1, -1]`);
  t.is(message({ std: [1, 1, 1, 1] }), `${std}[1, 1, 1, 1]`);
  t.is(message({ std: [1, 1, Infinity] }), `${std}[1, 1, Infinity]`);
});

test('batches hold the images, labels and indices of the data set, in its order', async (t) => {
  const loader = loaderOf(t, await numbered(10), {});
  t.is(loader.batches, 3);
  const batches = await take(loader, 0);
  t.deepEqual(
    batches.map(({ number, size }) => [number, size]),
    [
      [0, 4],
      [1, 4],
      [2, 2],
    ],
  );
  t.deepEqual(batches[2].indices, [8, 9]);
  t.deepEqual(batches[2].labels, [2, 0]);
  const planes = [8, 16, 24, 9, 18, 27].flatMap((level) => new Array<number>(64).fill(level));
  t.deepEqual(batches[2].images.map(Math.round), planes);
  t.is(loader.stats.images, 10);
});

test('dropLast leaves out a batch that is not full', async (t) => {
  const loader = loaderOf(t, await numbered(10), { dropLast: true });
  t.is(loader.batches, 2);
  t.deepEqual(indicesOf(await take(loader, 0)), [0, 1, 2, 3, 4, 5, 6, 7]);
});

test('the order is that of the seed and the epoch, and holds every image once', async (t) => {
  const dataset = await numbered(30);
  const order = async (seed: number, epoch: number): Promise<number[]> =>
    indicesOf(await take(loaderOf(t, dataset, { shuffle: true, seed }), epoch));
  const first = await order(1, 0);
  t.deepEqual(
    [...first].sort((a, b) => a - b),
    Array.from({ length: 30 }, (_, i) => i),
  );
  t.deepEqual(await order(1, 0), first);
  t.notDeepEqual(await order(1, 1), first);
  t.notDeepEqual(await order(2, 0), first);
});

test('a shuffled image is at each place as often as any other', async (t) => {
  const loader = loaderOf(t, await numbered(5), { shuffle: true, batchSize: 5 });
  const counts = new Array<number>(25).fill(0);
  for (let epoch = 0; epoch < 1000; epoch++) {
    for (const [place, index] of indicesOf(await take(loader, epoch)).entries())
      counts[5 * place + index] += 1;
  }
  const chi = counts.reduce((sum, count) => sum + (count - 200) ** 2 / 200, 0);
  t.true(chi < 39.3, `chi squared ${chi}`); // 0.999 of 16 degrees of freedom
});

test('shards are a partition of the epoch, and all keep its order', async (t) => {
  const dataset = await numbered(23);
  const options = { shuffle: true, seed: 5, batchSize: 3 };
  const all = indicesOf(await take(loaderOf(t, dataset, options), 2));
  for (const count of [1, 2, 4, 23, 30]) {
    for (let index = 0; index < count; index++) {
      const loader = loaderOf(t, dataset, { ...options, shard: { index, count } });
      const own = all.filter((_, i) => i % count === index);
      const batches = await take(loader, 2);
      t.deepEqual(indicesOf(batches), own, `shard ${index} of ${count}`);
      t.is(loader.batches, batches.length);
    }
  }
});

test('repeats show a part of the images, each that often and augmented anew, in an epoch of the same length', async (t) => {
  const loader = loaderOf(t, await noisy(8), {
    repeats: 3,
    transform: augmented,
    batchSize: 8,
    shuffle: true,
  });
  t.is(loader.batches, 1);
  const seen = new Set<number>();
  for (const epoch of [0, 1, 2, 3]) {
    const [{ indices, images }] = await take(loader, epoch);
    const [a, b, c] = [indices[0], indices[3], indices[6]];
    t.deepEqual(indices, [a, a, a, b, b, b, c, c]);
    t.is(new Set(indices).size, 3);
    const views = new Set(indices.map((_, i) => images.slice(192 * i, 192 * (i + 1)).join()));
    t.true(views.size >= 6, `${views.size} of 8 differ`); // 50 ways to augment: some pairs may agree
    for (const index of indices) seen.add(index);
  }
  t.true(seen.size > 5, 'another part in each epoch');
});

test('repeats of a larger set round the epoch down to 256s, and deal copies to different shards', async (t) => {
  const dataset = await numbered(600);
  const all = indicesOf(await take(loaderOf(t, dataset, { repeats: 3, shuffle: true, batchSize: 64 }), 1));
  t.is(all.length, 512);
  t.is(new Set(all).size, 171);
  const shards = await Promise.all(
    [0, 1, 2].map(async (index) => {
      const options = { repeats: 3, shuffle: true, batchSize: 64, shard: { index, count: 3 } };
      return indicesOf(await take(loaderOf(t, dataset, options), 1));
    }),
  );
  t.deepEqual(
    shards.map((own) => own.length),
    [171, 171, 170],
  );
  t.deepEqual(shards[0], shards[1]);
  t.deepEqual(
    all,
    Array.from(all, (_, i) => shards[i % 3][Math.floor(i / 3)]),
  );
});

test('augmentation is another in each epoch, and the same for a seed', async (t) => {
  const dataset = await noisy(8);
  const images = async (seed: number, epoch: number): Promise<number[]> =>
    (await take(loaderOf(t, dataset, { transform: augmented, seed }), epoch)).flatMap(
      (batch) => batch.images,
    );
  const first = await images(0, 0);
  t.deepEqual(await images(0, 0), first);
  t.notDeepEqual(await images(0, 1), first);
  t.notDeepEqual(await images(1, 0), first);
});

test('0, 1 and 2 workers give the same batches, bit for bit', async (t) => {
  const dataset = await noisy(22);
  const [none, one, two] = [0, 1, 2].map((workers) =>
    loaderOf(t, dataset, { transform: augmented, shuffle: true, seed: 3, batchSize: 5, workers }),
  );
  t.deepEqual([none.workers, one.workers, two.workers], [0, 1, 2]);
  for (const epoch of [0, 1]) {
    const expected = await take(none, epoch);
    t.is(expected.length, 5);
    t.deepEqual(await take(one, epoch), expected);
    t.deepEqual(await take(two, epoch), expected);
  }
});

test('files and shards give the same batches, with workers and without', async (t) => {
  const files = await Promise.all(
    [3, 4, 5, 6, 7].map((side) =>
      toSharp(pattern(8 + side, 9 + side))
        .jpeg()
        .toBuffer(),
    ),
  );
  const root = await temporaryFolder(t, Object.fromEntries(files.map((file, i) => [`cat/${i}.jpg`, file])));
  const archive = await temporaryFolder(t, {
    'a.tar': tarOf(files.flatMap((file, i) => sample(String(i), file, 0))),
  });
  const transform: Transform = {
    ...plain,
    steps: [{ kind: 'randomResizedCrop', size: 8 }, ...augmented.steps],
  };
  const folder = await openDataset(await listFolder(root));
  const shards = await openDataset(listTar([join(archive, 'a.tar')]));
  t.teardown(() => shards.close());
  const expected = await take(loaderOf(t, folder, { transform, batchSize: 2 }), 1);
  t.is(expected.length, 3);
  for (const [dataset, workers] of [
    [folder, 1],
    [shards, 0],
    [shards, 2],
  ] as const) {
    t.deepEqual(await take(loaderOf(t, dataset, { transform, batchSize: 2, workers }), 1), expected);
  }
});

test('an epoch resumed at any batch goes on bit for bit', async (t) => {
  const loader = loaderOf(t, await noisy(22), {
    transform: augmented,
    shuffle: true,
    batchSize: 4,
    workers: 1,
  });
  const whole = await take(loader, 3);
  t.is(whole.length, 6);
  for (let k = 0; k <= whole.length; k++) t.deepEqual(await take(loader, 3, k), whole.slice(k), `from ${k}`);
});

test('prefetch changes nothing but how much is made ahead', async (t) => {
  const dataset = await noisy(20);
  const expected = await take(loaderOf(t, dataset, { prefetch: 1, transform: augmented }), 0);
  t.deepEqual(
    await take(loaderOf(t, dataset, { prefetch: 9, transform: augmented, workers: 1 }), 0),
    expected,
  );
});

/** A data set that counts its reads, each of which takes a while. */
async function counted(length: number, milliseconds: number): Promise<Dataset & { reads: number }> {
  const inner = await numbered(length);
  return {
    ...inner,
    reads: 0,
    async read(this: { reads: number }, index: number) {
      this.reads += 1;
      await sleep(milliseconds);
      return inner.read(index);
    },
  };
}

test.serial('as many batches as prefetch are made ahead, and no more', async (t) => {
  const dataset = await counted(40, 0);
  const loader = loaderOf(t, dataset, { prefetch: 2, cache: false });
  const epoch = loader.epoch(0);
  const readsBecome = async (count: number): Promise<void> => {
    const limit = performance.now() + 5000;
    while (dataset.reads < count && performance.now() < limit) await sleep(1);
    await sleep(20); // no more follow
    t.is(dataset.reads, count);
  };
  const first = await epoch.next();
  await readsBecome(12); // the batch in use and two more
  (first.value as Batch).release();
  await readsBecome(16);
  await epoch.return(undefined);
});

test('small images are decoded once, and the cache changes no batch', async (t) => {
  const dataset = await counted(12, 0);
  const expected = await take(loaderOf(t, await numbered(12), { transform: augmented, cache: false }), 1);
  const loader = loaderOf(t, dataset, { transform: augmented });
  await take(loader, 0);
  t.is(dataset.reads, 13, 'each, and the first to learn its size');
  t.deepEqual(await take(loader, 1), expected);
  t.is(dataset.reads, 13);
});

test.serial('the time spent waiting for data is measured', async (t) => {
  const dataset = await counted(8, 15);
  const loader = loaderOf(t, dataset, { prefetch: 1, cache: false });
  const started = performance.now();
  for await (const batch of loader.epoch(0)) batch.release();
  const seconds = (performance.now() - started) / 1000;
  const { waitSeconds } = loader.stats;
  t.true(waitSeconds > 0.05 && waitSeconds <= seconds, `${waitSeconds} of ${seconds}`); // 4 reads in a row, 15 ms each

  const idle = loaderOf(t, await counted(16, 1), { prefetch: 3, cache: false });
  for await (const batch of idle.epoch(0)) {
    await sleep(40); // meanwhile the next are made
    batch.release();
  }
  t.true(idle.stats.waitSeconds < 0.04, `${idle.stats.waitSeconds} s`);
});

test('a batch keeps its numbers until it is released', async (t) => {
  const loader = loaderOf(t, await numbered(24), { prefetch: 2, workers: 1 });
  const epoch = loader.epoch(0);
  const held = (await epoch.next()).value as Batch;
  const copy = [...held.images];
  for (let i = 0; i < 4; i++) ((await epoch.next()).value as Batch).release();
  t.deepEqual([...held.images], copy);
  await epoch.return(undefined);
});

test('batches that are never released are an error, not a wait for ever', async (t) => {
  const loader = loaderOf(t, await numbered(24), { prefetch: 2 });
  const epoch = loader.epoch(0);
  for (let i = 0; i < 3; i++) t.is((await epoch.next()).done, false);
  await t.throwsAsync(epoch.next(), {
    instanceOf: TensorError,
    message: 'DataLoader: expected batches to be released, got 3 held',
  });
});

test('a batch released after its epoch has ended disturbs no other epoch', async (t) => {
  const loader = loaderOf(t, await numbered(40), { prefetch: 1, workers: 1 });
  const expected = await take(loader, 0);
  const late: Batch[] = [];
  for await (const batch of loader.epoch(0)) {
    late.push(batch);
    break;
  }
  const batches: Taken[] = [];
  for await (const batch of loader.epoch(0)) {
    late.pop()?.release();
    await sleep(5); // time for whatever that started
    const { images, labels, indices, number, size } = batch;
    batches.push({ images: [...images], labels: [...labels], indices: [...indices], number, size });
    batch.release();
  }
  t.deepEqual(batches, expected);
});

test('two epochs at a time are an error, and an epoch broken off makes room for another', async (t) => {
  const loader = loaderOf(t, await numbered(24), { workers: 1 });
  for await (const batch of loader.epoch(0)) {
    await t.throwsAsync(loader.epoch(1).next(), {
      message: 'DataLoader: expected one epoch at a time, got a second one before the first has ended',
    });
    t.is(batch.number, 0);
    break;
  }
  t.is((await take(loader, 1)).length, 6);
});

const brokenFolder = async (t: ExecutionContext): Promise<[root: string, dataset: Dataset]> => {
  const whole = await toSharp(pattern(8, 8)).jpeg().toBuffer();
  const root = await temporaryFolder(t, {
    'cat/0.jpg': whole,
    'cat/1.jpg': whole.subarray(0, whole.length - 60),
    'cat/2.jpg': 'not an image',
    'dog/3.jpg': whole,
    'dog/4.jpg': whole,
  });
  return [root, await openDataset(await listFolder(root))];
};

test('damaged images are left out and noted once, with their paths', async (t) => {
  for (const workers of [0, 1]) {
    const [root, dataset] = await brokenFolder(t);
    const loader = loaderOf(t, dataset, { batchSize: 3, workers });
    const batches = await take(loader, 0);
    t.deepEqual(
      batches.map(({ indices, labels, number }) => [indices, labels, number]),
      [
        [[0], [0], 0],
        [[3, 4], [1, 1], 1],
      ],
    );
    t.is(batches[0].images.length, 192);
    await take(loader, 1);
    t.deepEqual(loader.stats.skipped.map(({ path }) => path).sort(), [
      `${root}/cat/1.jpg`,
      `${root}/cat/2.jpg`,
    ]);
    for (const { reason } of loader.stats.skipped) t.regex(reason, /^Input buffer |^VipsJpeg: /);
  }
});

test('a batch of damaged images only is left out, and the others keep their numbers', async (t) => {
  const [, dataset] = await brokenFolder(t);
  const batches = await take(loaderOf(t, dataset, { batchSize: 1, workers: 1 }), 0);
  t.deepEqual(
    batches.map(({ number, indices }) => [number, ...indices]),
    [
      [0, 0],
      [3, 3],
      [4, 4],
    ],
  );
});

test('a damaged image is an error where it is asked to be', async (t) => {
  for (const workers of [0, 1]) {
    const [root, dataset] = await brokenFolder(t);
    const loader = loaderOf(t, dataset, { batchSize: 3, workers, onCorrupt: 'error' });
    const error = await t.throwsAsync(take(loader, 0), { instanceOf: TensorError });
    t.is(error.code, 'IO');
    t.true(error?.message.startsWith(`decodeImage: expected a whole image in ${root}/cat/1.jpg, got `));
  }
});

test('a transform that gives another size is an error, the same with workers and without', async (t) => {
  for (const workers of [0, 1]) {
    const loader = loaderOf(t, await numbered(4), { transform: { ...plain, size: [4, 4] }, workers });
    const error = await t.throwsAsync(take(loader, 0), {
      instanceOf: TensorError,
      message: 'DataLoader: expected the transform to give 4 x 4 pixels, got 8 x 8',
    });
    t.is(error.code, 'SHAPE');
  }
});

test('data that went away is one clear error', async (t) => {
  const dataset = await openDataset(
    await listFolder(
      await temporaryFolder(t, {
        'cat/0.png': await toSharp(flat(8, 8, [1, 2, 3]))
          .png()
          .toBuffer(),
      }),
    ),
  );
  const gone: Dataset = { ...dataset, spec: { kind: 'tar', shards: ['/nowhere/a.tar'] } as never };
  await t.throwsAsync(take(loaderOf(t, gone, { workers: 1, cache: false }), 0), {
    instanceOf: TensorError,
    message: /ENOENT.*\/nowhere\/a\.tar/,
  });
});

const threadsOf = (loader: DataLoader): Worker[] =>
  (loader as unknown as { pool: { threads: Worker[] } }).pool.threads;

test('a worker that dies is one clear error, and another epoch can follow a close', async (t) => {
  const loader = loaderOf(t, await numbered(400), { workers: 2 });
  const expected = await take(loader, 0);
  const epoch = loader.epoch(0);
  await epoch.next();
  await threadsOf(loader)[1].terminate();
  const rest = async (): Promise<void> => {
    for (let next = await epoch.next(); next.done !== true; next = await epoch.next()) next.value.release();
  };
  const error = await t.throwsAsync(rest(), {
    instanceOf: TensorError,
    message: 'DataLoader: expected its worker threads to live, got exit code 1',
  });
  t.is(error.code, 'IO');
  await t.throwsAsync(take(loader, 1), { message: /expected its worker threads to live/ });
  await loader.close();
  t.deepEqual(await take(loader, 0), expected);
});

test('a loader closed within an epoch ends it with an error', async (t) => {
  const loader = loaderOf(t, await numbered(400), { workers: 1 });
  const epoch = loader.epoch(0);
  await epoch.next();
  await loader.close();
  const rest = async (): Promise<void> => {
    for (let next = await epoch.next(); next.done !== true; next = await epoch.next()) next.value.release();
  };
  await t.throwsAsync(rest(), {
    instanceOf: TensorError,
    message: 'DataLoader: expected to stay open until its epoch ends, got closed',
  });
});

const threadCount = (): number => readdirSync('/proc/self/task').length;

(existsSync('/proc/self/task') ? test.serial : test.serial.skip)(
  'a loader that is closed leaves no thread and no memory, even after a break',
  async (t) => {
    const dataset = await numbered(64);
    const use = async (): Promise<WeakRef<Float32Array>> => {
      const loader = new DataLoader(dataset, { batchSize: 4, transform: plain, workers: 2 });
      let seen: WeakRef<Float32Array> | undefined;
      for await (const { images } of loader.epoch(0)) {
        seen = new WeakRef(images);
        break;
      }
      await loader.close();
      return seen ?? t.fail();
    };
    await use(); // threads of the runtime itself start now
    const before = threadCount();
    const refs: WeakRef<Float32Array>[] = [];
    for (let i = 0; i < 3; i++) refs.push(await use());
    t.true(threadCount() <= before, `${threadCount()} threads after ${before}`);
    await sleep(20);
    runCollector();
    t.deepEqual(
      refs.map((ref) => ref.deref()),
      [undefined, undefined, undefined],
    );
  },
);

test('what the threads of a loader and a predictor import does not load sharp', async (t) => {
  const modules = ['assemble', 'dataset', 'tasks', 'view'].map(
    (name) => new URL(`../../src/data/${name}.js`, import.meta.url).href,
  );
  const program = `
    import { createRequire } from 'node:module';
    const { cache } = createRequire(import.meta.url);
    const loaded = () => Object.keys(cache).filter((file) => /node_modules.sharp./.test(file)).length;
    ${modules.map((url) => `await import('${url}');`).join(' ')}
    const before = loaded();
    const { decodeImage } = await import('${new URL('../../src/data/image.js', import.meta.url).href}');
    await decodeImage(new Uint8Array(9)).catch(() => undefined);
    console.log(before, loaded() > 0);`;
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program], {
    cwd: dirname(fileURLToPath(import.meta.url)),
  });
  t.is(stdout, '0 true\n');
});

test('options that make no sense are errors that say so', async (t) => {
  const dataset = await numbered(4);
  const error = (options: Partial<LoaderOptions>): string | undefined =>
    t.throws(() => new DataLoader(dataset, { batchSize: 4, transform: plain, ...options }), {
      instanceOf: TensorError,
    })?.message;
  t.is(error({ batchSize: 0 }), 'DataLoader: expected batchSize to be a whole number of at least 1, got 0');
  t.is(error({ workers: 1.5 }), 'DataLoader: expected workers to be a whole number of at least 0, got 1.5');
  t.is(error({ prefetch: 0 }), 'DataLoader: expected prefetch to be a whole number of at least 1, got 0');
  t.is(error({ repeats: 0 }), 'DataLoader: expected repeats to be a whole number of at least 1, got 0');
  t.is(error({ shard: { index: 2, count: 2 } }), 'DataLoader: expected a shard.index below 2, got 2');
  t.is(
    error({ shard: { index: 0, count: 0 } }),
    'DataLoader: expected shard.count to be a whole number of at least 1, got 0',
  );
});
