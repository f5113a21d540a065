import { existsSync } from 'node:fs';

import test from 'ava';

import {
  type BatchSource,
  Teacher,
  TensorError,
  Trainer,
  type TrainerOptions,
  inferenceMode,
  tensor,
  train,
} from '../../src/index.js';
import { argmax } from '../../src/ops/index.js';
import {
  TINY,
  firstLoss,
  temporaryFolder,
  tinyBatches,
  tinyImages,
  tinyModel,
  tinyPhotos,
  tinyTargets,
} from '../helpers/training.js';

// One after the other: every trainer of a process draws from the same random numbers.

const IMAGES = tensor(tinyImages(6).images, { shape: [6, 3, 8, 8] });
const LABELS = [...tinyImages(6).labels];

/** Logits of the six images. */
async function logitsOf(model: ReturnType<typeof tinyModel>): Promise<number[][]> {
  return (await inferenceMode(() => model.eval().call(IMAGES)).toArray()) as number[][];
}

/** The mean over images and classes, PyTorch's `binary_cross_entropy_with_logits`. */
function bce(rows: readonly number[][], targets: readonly (readonly number[])[]): number {
  const terms = rows.flatMap((row, i) =>
    row.map((x, c) => Math.max(x, 0) - x * targets[i][c] + Math.log1p(Math.exp(-Math.abs(x)))),
  );
  return terms.reduce((sum, x) => sum + x, 0) / terms.length;
}

/** The loss of the first step, before anything has been learnt. */
const lossOf = (options: Partial<TrainerOptions>, source?: BatchSource): Promise<number> =>
  firstLoss({ bceLoss: true, ...options }, source);

test.serial('labels become one-hot targets, smoothed as timm does it', async (t) => {
  const rows = await logitsOf(tinyModel());
  const near = (loss: number, expected: number): boolean =>
    t.true(Math.abs(loss - expected) < 1e-6 * expected, `${loss} for ${expected}`);
  near(await lossOf({}), bce(rows, tinyTargets(0, 1)));
  near(await lossOf({ smoothing: 0.3 }), bce(rows, tinyTargets(0.1, 0.8)));
  near(await lossOf({ smoothing: 0.3, bceTargetThresh: 0.2 }), bce(rows, tinyTargets(0, 1)));
  const rounded = await lossOf({ precision: 'bf16' });
  t.true(Math.abs(rounded - bce(rows, tinyTargets(0, 1))) < 1e-2, `${rounded}`);
});

test.serial('mixed targets are smoothed, and 1 above the threshold', async (t) => {
  const source = tinyBatches(6, 6);
  const shares = [
    [0.7, 0.3, 0],
    [0.1, 0.1, 0.8],
  ];
  const targets = LABELS.map((_, i) => shares[i % 2]);
  const mixed: BatchSource = {
    ...source,
    async *epoch(epoch, first) {
      for await (const batch of source.epoch(epoch, first))
        yield { ...batch, targets: Float32Array.from(targets.flat()) };
    },
  };
  const rows = await logitsOf(tinyModel());
  const smooth = targets.map((row) => row.map((x) => 0.9 * x + 0.1 / 3));
  const cases: [Partial<TrainerOptions>, number[][]][] = [
    [{}, targets],
    [{ smoothing: 0.1 }, smooth],
    [{ bceTargetThresh: 0 }, targets.map((row) => row.map((x) => Number(x > 0)))], // as DeiT's code
    [{ bceTargetThresh: 0.2 }, targets.map((row) => row.map((x) => Number(x > 0.2)))],
    // 0.1 becomes 0.123
    [{ smoothing: 0.1, bceTargetThresh: 0.12 }, targets.map((row) => row.map((x) => Number(x > 0)))],
    [{ smoothing: 0.1, bceTargetThresh: 0.13 }, targets.map((row) => row.map((x) => Number(x > 0.1)))],
  ];
  for (const [options, wanted] of cases) {
    const loss = await lossOf(options, mixed);
    const expected = bce(rows, wanted);
    t.true(Math.abs(loss - expected) < 1e-6 * expected, `${JSON.stringify(options)}: ${loss}, ${expected}`);
  }
});

test.serial('with a teacher it takes the place of the cross-entropy with the labels', async (t) => {
  const rows = await logitsOf(tinyModel());
  const teacher = new Teacher(tinyModel({}, 7));
  const taught = await inferenceMode(() => argmax(tinyModel({}, 7).eval().call(IMAGES), { dim: 1 })).data();
  const hard = rows.map((row, i) => Math.log(row.reduce((s, x) => s + Math.exp(x), 0)) - row[taught[i]]);
  const expected = 0.75 * bce(rows, tinyTargets(0, 1)) + (0.25 * hard.reduce((a, b) => a + b, 0)) / 6;
  const loss = await lossOf({ distillation: { type: 'hard', teacher, alpha: 0.25 } });
  t.true(Math.abs(loss - expected) < 1e-6 * expected, `${loss} for ${expected}`);
});

test.serial('a few epochs learn three colours', async (t) => {
  const options = { epochs: 12, lr: 1e-2, warmupEpochs: 1, bceLoss: true, smoothing: 0.1, clipGrad: 1 };
  const trainer = new Trainer(tinyModel(), options);
  let accuracy: number | undefined;
  await trainer.run(tinyBatches(24, 8), {
    classes: 3,
    val: tinyBatches(31, 8),
    onEpoch: ({ valAccuracy }) => void (accuracy = valAccuracy),
  });
  t.is(accuracy, 1);
});

test.serial('thresholds that make no sense are errors, before a run leaves a folder', async (t) => {
  const message = (options: Partial<TrainerOptions>): string =>
    t.throws(() => new Trainer(tinyModel(), { epochs: 1, ...options }), { instanceOf: TensorError }).message;
  t.is(message({ bceTargetThresh: 0.2 }), 'Trainer: expected bceLoss beside bceTargetThresh, got none');
  for (const bceTargetThresh of [1, -0.1, NaN]) {
    t.is(
      message({ bceLoss: true, bceTargetThresh }),
      `Trainer: expected a bceTargetThresh in [0, 1), got ${bceTargetThresh}`,
    );
  }
  const between = (name: string, got: number): string =>
    `expected ${name} between 0.1 and 0.8, which smoothing makes of the targets 0 and 1, got ${got}`;
  for (const bceTargetThresh of [0, 0.1, 0.8, 0.9]) {
    await t.throwsAsync(lossOf({ smoothing: 0.3, bceTargetThresh }), {
      message: `Trainer: ${between('bceTargetThresh', bceTargetThresh)}`,
    });
  }
  const folder = await temporaryFolder(t);
  const settings = { ...TINY, smoothing: 0.3, bceLoss: true, output: `${folder}/runs` };
  const photos = await tinyPhotos(`${folder}/photos`);
  await t.throwsAsync(train(photos, { ...settings, bceTargetThresh: 0 }), {
    message: `train: ${between('--bce-target-thresh', 0)}`,
  });
  t.false(existsSync(settings.output));
  const { summary } = await train(photos, { ...settings, bceTargetThresh: 0.2 });
  t.true(Number.isFinite(summary?.trainLoss));
});
