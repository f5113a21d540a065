import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';

import test from 'ava';

import {
  type BatchSource,
  type RunStart,
  Teacher,
  TensorError,
  Trainer,
  type TrainerOptions,
  inferenceMode,
  resume,
  tensor,
  train,
} from '../../src/index.js';
import { balancedWeights } from '../../src/train/classes.js';
import {
  TINY,
  TINY_FLAGS,
  cliHere,
  digestsOf,
  fileDigests,
  firstLoss,
  temporaryFolder,
  tinyBatches,
  tinyImages,
  tinyModel,
  tinyTargets,
  unequalPhotos,
} from '../helpers/training.js';

// One after the other: every trainer of a process draws from the same random numbers.

const IMAGES = tensor(tinyImages(6).images, { shape: [6, 3, 8, 8] });
const LABELS = [...tinyImages(6).labels];
const WEIGHTS = [0.5, 1, 4];

/** Logits of the six images. */
async function logitsOf(model: ReturnType<typeof tinyModel>): Promise<number[][]> {
  return (await inferenceMode(() => model.eval().call(IMAGES)).toArray()) as number[][];
}

/** `-sum_c w[c] t[c] log p[c]`, the mean over images. */
function weightedLoss(rows: readonly number[][], targets: readonly number[][]): number {
  const losses = rows.map((row, i) => {
    const lse = Math.log(row.reduce((sum, x) => sum + Math.exp(x), 0));
    return row.reduce((sum, x, c) => sum + WEIGHTS[c] * targets[i][c] * (lse - x), 0);
  });
  return losses.reduce((sum, x) => sum + x, 0) / rows.length;
}

/** `-w[c] t ln p - (1 - t) ln(1 - p)`, the mean over images and classes. */
function weightedBce(rows: readonly number[][], targets: readonly number[][]): number {
  const softplus = (x: number): number => Math.log1p(Math.exp(x));
  const terms = rows.flatMap((row, i) =>
    row.map((x, c) => WEIGHTS[c] * targets[i][c] * softplus(-x) + (1 - targets[i][c]) * softplus(x)),
  );
  return terms.reduce((sum, x) => sum + x, 0) / terms.length;
}

/** The loss of the first step, before anything has been learnt. */
const lossOf = (options: Partial<TrainerOptions>, source?: BatchSource): Promise<number> =>
  firstLoss({ classWeights: WEIGHTS, ...options }, source);

const MIXED = LABELS.map((_, i) => [[0.7, 0.3, 0], [0.1, 0.1, 0.8]][i % 2]); // prettier-ignore

function mixed(): BatchSource {
  const source = tinyBatches(6, 6);
  return {
    ...source,
    async *epoch(epoch, first) {
      for await (const batch of source.epoch(epoch, first))
        yield { ...batch, targets: Float32Array.from(MIXED.flat()) };
    },
  };
}

test.serial(
  'each share of a target counts as much as its class, smoothed or mixed, in either loss',
  async (t) => {
    const rows = await logitsOf(tinyModel());
    const near = (loss: number, expected: number): boolean =>
      t.true(Math.abs(loss - expected) < 1e-6 * expected, `${loss} for ${expected}`);
    near(await lossOf({}), weightedLoss(rows, tinyTargets(0, 1)));
    near(await lossOf({ smoothing: 0.3 }), weightedLoss(rows, tinyTargets(0.1, 0.8)));
    near(await lossOf({}, mixed()), weightedLoss(rows, MIXED));
    const smooth = MIXED.map((row) => row.map((x) => 0.7 * x + 0.1));
    near(await lossOf({ smoothing: 0.3 }, mixed()), weightedLoss(rows, smooth));
    near(await lossOf({ bceLoss: true }), weightedBce(rows, tinyTargets(0, 1)));
    near(await lossOf({ bceLoss: true, smoothing: 0.3 }, mixed()), weightedBce(rows, smooth));
    const above = MIXED.map((row) => row.map((x) => Number(x > 0.2)));
    near(await lossOf({ bceLoss: true, bceTargetThresh: 0.2 }, mixed()), weightedBce(rows, above));
    const rounded = await lossOf({ precision: 'bf16' });
    t.true(Math.abs(rounded - weightedLoss(rows, tinyTargets(0, 1))) < 2e-2, `${rounded}`);
  },
);

test.serial('what comes of a teacher is not weighted', async (t) => {
  const rows = await logitsOf(tinyModel());
  const teacher = new Teacher(tinyModel({}, 7));
  const distillation = { type: 'hard', teacher, alpha: 0.25 } as const;
  const plain = await lossOf({ classWeights: undefined });
  const taught = (await lossOf({ classWeights: undefined, distillation })) - 0.75 * plain;
  const expected = 0.75 * weightedLoss(rows, tinyTargets(0, 1)) + taught;
  const loss = await lossOf({ distillation });
  t.true(Math.abs(loss - expected) < 2e-6 * expected, `${loss} for ${expected}`);
});

test.serial('with weights, the gradients of four batches are still those of one large batch', async (t) => {
  const options = { epochs: 3, opt: 'sgd', lr: 0.1, weightDecay: 0, classWeights: WEIGHTS } as const;
  const weights = async (batch: number, gradAccumSteps: number): Promise<Float32Array[]> => {
    const trainer = new Trainer(tinyModel(), { ...options, gradAccumSteps });
    await trainer.run(tinyBatches(16, batch), { classes: 3 });
    return Promise.all(Object.values(trainer.weights).map((w) => w.data() as Promise<Float32Array>));
  };
  const [large, small] = [await weights(16, 1), await weights(4, 4)];
  for (const [i, tensor] of large.entries())
    for (const [k, x] of tensor.entries()) t.true(Math.abs(x - small[i][k]) < 1e-6);
});

test.serial('weights of 1 are no weights, and other weights other bits', async (t) => {
  const bits = async (classWeights?: readonly number[]): Promise<Record<string, string>> => {
    const trainer = new Trainer(tinyModel(), { epochs: 2, lr: 1e-2, classWeights });
    await trainer.run(tinyBatches(12, 4), { classes: 3 });
    return digestsOf(trainer.weights);
  };
  const ones = await lossOf({ classWeights: [1, 1, 1], smoothing: 0.1 });
  const none = await lossOf({ classWeights: undefined, smoothing: 0.1 });
  t.true(Math.abs(ones - none) < 1e-6, `${ones} for ${none}`);
  t.deepEqual(await bits(WEIGHTS), await bits(WEIGHTS));
  t.notDeepEqual(await bits(WEIGHTS), await bits());
});

test.serial('weights that make no sense are errors', async (t) => {
  const make = (classWeights: unknown) => (): unknown =>
    new Trainer(tinyModel(), { epochs: 1, classWeights } as TrainerOptions);
  const instanceOf = TensorError;
  for (const [weights, got] of [
    [[1, -1, 1], '-1'],
    [[1, NaN, 1], 'NaN'],
    [[1, Infinity, 1], 'Infinity'],
    [[1, '2', 1], "'2'"],
  ] as const) {
    const message = `Trainer: expected classWeights of at least 0, got ${got}`;
    t.throws(make(weights), { instanceOf, message });
  }
  t.throws(make('balanced'), {
    instanceOf,
    message: "Trainer: expected an array, got 'balanced' for classWeights",
  });
  await t.throwsAsync(lossOf({ classWeights: [1, 2] }), {
    instanceOf,
    message: 'Trainer: expected 3 classWeights, one for each class, got 2',
  });
});

test('balanced weights are n / (k n_c), and 1 for a class without images', (t) => {
  t.deepEqual(balancedWeights([90, 10]), [100 / 180, 5]);
  t.deepEqual(balancedWeights([4, 4, 4]), [1, 1, 1]);
  const images = [30, 0, 6, 12];
  const weights = balancedWeights(images);
  t.deepEqual(weights, [16 / 30, 1, 16 / 6, 16 / 12]);
  const total = images.reduce((sum, n, i) => sum + n * weights[i], 0);
  t.true(Math.abs(total - 48) < 1e-12); // the loss keeps its size
});

test.serial('a balanced run is recorded, says its weights, and resumes with them bit for bit', async (t) => {
  const folder = await temporaryFolder(t);
  const photos = await unequalPhotos(`${folder}/photos`);
  const settings = { ...TINY, epochs: 3, classWeights: 'balanced', output: `${folder}/runs` } as const;
  let start: RunStart | undefined;
  const whole = await train(
    photos,
    { ...settings, name: 'whole' },
    { onStart: (event) => void (start = event) },
  );
  t.deepEqual(start?.classImages, [2, 8, 16]);
  t.deepEqual(start?.classWeights, [26 / 3 / 2, 26 / 3 / 8, 26 / 3 / 16]);
  const stored = JSON.parse(await readFile(`${whole.folder}/config.json`, 'utf8')) as {
    config: { classWeights: string };
  };
  t.is(stored.config.classWeights, 'balanced');
  t.regex(await readFile(`${whole.folder}/report.html`, 'utf8'), /with weights of classes, smoothed labels/);

  const stop = new AbortController();
  let steps = 0;
  const stopped = await train(
    photos,
    { ...settings, name: 'part' },
    { signal: stop.signal, onStep: () => void (++steps === 9 && stop.abort()) },
  );
  t.false(stopped.finished);
  t.true((await resume(stopped.folder)).finished);
  const last = 'checkpoints/last.safetensors';
  t.deepEqual(await fileDigests(`${stopped.folder}/${last}`), await fileDigests(`${whole.folder}/${last}`));

  const plain = await train(photos, { ...settings, classWeights: 'none', name: 'plain' });
  t.notDeepEqual(await fileDigests(`${plain.folder}/${last}`), await fileDigests(`${whole.folder}/${last}`));
});

test.serial('tenon train says that classes are unequal, and weights are said in its place', async (t) => {
  const folder = await temporaryFolder(t);
  await unequalPhotos(`${folder}/photos`);
  const run = async (...flags: string[]): Promise<string> => {
    const { code, stdout, stderr } = await cliHere(folder, ['train', 'photos', ...TINY_FLAGS, ...flags]);
    t.is(code, 0, stderr);
    return stdout;
  };
  t.regex(
    await run(),
    /\nClasses are unequal: 16 training images of red, 2 of blue; see --class-weights and --eval-metric\n/,
  );
  const balanced = await run('--class-weights', 'balanced');
  t.false(balanced.includes('unequal'));
  t.regex(balanced, /\nClass weights from 0\.542 \(red\) to 4\.33 \(blue\)\n/);
  const wrong = await cliHere(folder, ['train', 'photos', '--class-weights', 'even']);
  t.is(wrong.code, 1);
  t.is(wrong.stderr, `tenon: --class-weights: expected one of "none"|"balanced", got 'even'\n`);
  t.true(existsSync(`${folder}/runs/photos-2`));
  t.false(existsSync(`${folder}/runs/photos-3`));
});
