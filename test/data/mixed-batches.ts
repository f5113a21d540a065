/**
 * Batches with everything a recipe does to them.
 */
import test, { type ExecutionContext } from 'ava';

import {
  DataLoader,
  type Dataset,
  type LoaderOptions,
  type MixOptions,
  TensorError,
  type Transform,
  memoryData,
  openDataset,
  parseAugment,
} from '../../src/index.js';
import { close } from '../helpers/numbers.js';

const SIDE = 16;
const PIXELS = 3 * SIDE * SIDE;

/** Images of noise in three classes. */
function noise(length: number): Promise<Dataset> {
  const pixels = Uint8Array.from({ length: length * PIXELS }, (_, at) => Math.imul(at, 2654435761) >>> 24);
  const labels = Array.from({ length }, (_, i) => i % 3);
  return openDataset(memoryData({ classes: ['a', 'b', 'c'], pixels, height: SIDE, width: SIDE, labels }));
}

const plain: Transform = { steps: [], size: [SIDE, SIDE], mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] };
const recipe: Transform = {
  ...plain,
  steps: [
    { kind: 'randomCrop', size: SIDE, padding: 2 },
    { kind: 'horizontalFlip', p: 0.5 },
    { kind: 'augment', policy: parseAugment('rand-m9-mstd0.5-inc1'), mode: 'bicubic', fill: [124, 116, 104] },
    { kind: 'colourJitter', brightness: 0.3, contrast: 0.3, saturation: 0.3 },
  ],
  erasing: { p: 0.25, mode: 'pixel' },
};
const MIX = { mixup: 0.8, cutmix: 1 };

interface Taken {
  readonly images: Float32Array;
  readonly labels: Int32Array;
  readonly targets: Float32Array | undefined;
}

async function take(
  t: ExecutionContext,
  dataset: Dataset,
  options: Partial<LoaderOptions>,
  epoch = 0,
  firstBatch = 0,
): Promise<Taken[]> {
  const loader = new DataLoader(dataset, { batchSize: 8, transform: recipe, workers: 0, ...options });
  t.teardown(() => loader.close());
  const taken: Taken[] = [];
  for await (const { images, labels, targets, release } of loader.epoch(epoch, firstBatch)) {
    taken.push({ images: images.slice(), labels: labels.slice(), targets: targets?.slice() });
    release();
  }
  return taken;
}

test('the same seed gives the same batches with 0, 1 and 2 workers, in every mode of mixing', async (t) => {
  const dataset = await noise(37);
  for (const mode of ['batch', 'pair', 'elem'] as const) {
    const options = { shuffle: true, seed: 3, repeats: 2, mix: { ...MIX, mode } };
    const none = await take(t, dataset, { ...options, workers: 0 }, 2);
    t.is(none.length, 5);
    for (const workers of [1, 2]) {
      t.deepEqual(await take(t, dataset, { ...options, workers }, 2), none, `${mode}, ${workers} workers`);
    }
    t.deepEqual(await take(t, dataset, options, 2, 3), none.slice(3), 'from a later batch on');
    t.notDeepEqual((await take(t, dataset, { ...options, seed: 4 }, 2))[0].images, none[0].images);
  }
});

test('each step of a recipe changes images, and leaves as many as its probability says', async (t) => {
  const dataset = await noise(64);
  const [untouched] = await take(t, dataset, { transform: plain, batchSize: 64 });
  const changed = async (transform: Transform): Promise<number> => {
    const [{ images }] = await take(t, dataset, { transform, batchSize: 64 });
    return Array.from({ length: 64 }, (_, i) => i * PIXELS).filter((start) =>
      images.subarray(start, start + PIXELS).some((x, k) => x !== untouched.images[start + k]),
    ).length;
  };
  t.is(await changed(plain), 0);
  t.is(await changed({ ...plain, steps: recipe.steps.slice(3) }), 64);
  const augmented = await changed({ ...plain, steps: recipe.steps.slice(2, 3) });
  t.true(augmented > 35 && augmented < 58, `${augmented} of 64 augmented, expected 48`);
  const erased = await changed({ ...plain, erasing: { p: 0.25, mode: 'pixel' } });
  t.true(erased > 6 && erased < 28, `${erased} of 64 erased, expected 16`);
});

test('what mixing does to the images, it does to the targets', async (t) => {
  const dataset = await noise(24);
  const before = await take(t, dataset, { transform: plain, batchSize: 4 });
  const mixed = await take(t, dataset, { transform: plain, batchSize: 4, mix: MIX });
  t.is(before[0].targets, undefined);
  let boxes = 0;
  for (const [b, { images, labels, targets = new Float32Array() }] of mixed.entries()) {
    t.deepEqual(labels, before[b].labels);
    for (let i = 0; i < 4; i++) {
      const [own, other] = [i, 3 - i].map((k) => before[b].images.subarray(k * PIXELS, (k + 1) * PIXELS));
      const got = images.subarray(i * PIXELS, (i + 1) * PIXELS);
      const kept = got.filter((x, k) => x === own[k]).length;
      const share = kept > PIXELS / 50 ? kept / PIXELS : (got[0] - other[0]) / (own[0] - other[0]);
      if (kept > PIXELS / 50) boxes += 1;
      const wanted = [0, 0, 0];
      wanted[labels[i]] += share;
      wanted[labels[3 - i]] += 1 - share;
      await close(t, targets.subarray(3 * i, 3 * i + 3), wanted, 0.02); // noise agrees by chance in a pixel of 256
    }
  }
  t.true(boxes > 0 && boxes < 24, 'both kinds');
});

test('a damaged image leaves its place to others before images are mixed', async (t) => {
  const dataset = await noise(8);
  const holed: Dataset = { ...dataset, read: (i) => (i === 2 ? Promise.reject(damaged()) : dataset.read(i)) };
  const options = { transform: plain, cache: false, mix: { mixup: 0.8, cutmix: 0 } };
  const [{ labels, targets = new Float32Array() }] = await take(t, holed, options);
  t.deepEqual([...labels], [0, 1, 0, 1, 2, 0, 1]);
  t.is(targets.length, 21);
  const sums = labels.map((_, i) =>
    Math.round(1e5 * targets.subarray(3 * i, 3 * i + 3).reduce((a, b) => a + b, 0)),
  );
  t.deepEqual([...sums], new Array(7).fill(100000));
  t.deepEqual([...targets.subarray(9, 12)], [0, 1, 0], 'the middle one is its own partner');
});

function damaged(): TensorError {
  return new TensorError('decodeImage: expected a whole image', 'decodeImage', 'IO');
}

test('from its last epoch on, nothing is mixed, and targets stay soft', async (t) => {
  const dataset = await noise(8);
  const options = { transform: plain, mix: { ...MIX, offEpoch: 2 } };
  const [before] = await take(t, dataset, options, 1);
  const [after] = await take(t, dataset, options, 2);
  const [untouched] = await take(t, dataset, { transform: plain }, 2);
  t.notDeepEqual(before.images, untouched.images);
  t.deepEqual(after.images, untouched.images);
  const hard = [...after.labels].flatMap((label) => [0, 1, 2].map((c) => Number(c === label)));
  t.deepEqual([...(after.targets ?? [])], hard);
});

test('ways of mixing that make no sense are errors that say so', async (t) => {
  const dataset = await noise(2);
  const error = (mix: Partial<MixOptions>): string | undefined =>
    t.throws(() => new DataLoader(dataset, { batchSize: 2, transform: plain, mix: { ...MIX, ...mix } }))
      ?.message;
  t.is(error({ mixup: -1 }), 'DataLoader: expected mix.mixup to be 0 or more, got -1');
  t.is(error({ cutmix: NaN }), 'DataLoader: expected mix.cutmix to be 0 or more, got NaN');
  t.is(error({ prob: 2 }), 'DataLoader: expected mix.prob to be in [0, 1], got 2');
  t.is(error({ switchProb: -0.1 }), 'DataLoader: expected mix.switchProb to be in [0, 1], got -0.1');
  t.is(
    error({ cutmixMinmax: [0.5, 0.2] }),
    'DataLoader: expected mix.cutmixMinmax to be 0 <= min < max <= 1, got 0.5,0.2',
  );
});
