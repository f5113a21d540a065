import { execFile } from 'node:child_process';
import { readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import test from 'ava';

import { runExperiment } from '../../bench/experiments/data-efficiency/experiment.js';
import type { RunResult } from '../../bench/experiments/data-efficiency/folder.js';
import {
  KINDS,
  SCALES,
  type Scale,
  countModel,
  epochsOf,
  runsOf,
} from '../../bench/experiments/data-efficiency/plan.js';
import { type Report, formatReport, reportOf } from '../../bench/experiments/data-efficiency/report.js';
import { stratifiedSubset } from '../../bench/experiments/data-efficiency/subset.js';
import { accuraciesOf, gainsOf } from '../../bench/experiments/data-efficiency/summary.js';
import { temporaryFolder } from '../helpers/files.js';

test('a subset has the same share of each class, and follows from the seed', (t) => {
  const labels = Array.from({ length: 1000 }, (_, i) => (i % 10 < 6 ? 0 : i % 10 < 9 ? 1 : 2)); // 600, 300 and 100
  const tenth = stratifiedSubset(labels, 0.1, 7);
  t.deepEqual(
    [0, 1, 2].map((label) => tenth.filter((index) => labels[index] === label).length),
    [60, 30, 10],
  );
  t.is(new Set(tenth).size, 100);
  t.deepEqual(tenth, stratifiedSubset(labels, 0.1, 7));
  t.deepEqual(
    tenth,
    [...tenth].sort((a, b) => a - b),
  );
  const shared = new Set(stratifiedSubset(labels, 0.1, 8));
  t.true(tenth.filter((index) => shared.has(index)).length < 30); // about 10 of 100 by chance
  t.deepEqual(
    stratifiedSubset(labels, 1, 7),
    labels.map((_, i) => i),
  );
});

test('a larger share of a seed has the images of a smaller one, and a small one each class', (t) => {
  const labels = Array.from({ length: 500 }, (_, i) => i % 5);
  const [small, large] = [0.02, 0.1].map((share) => stratifiedSubset(labels, share, 3));
  t.deepEqual([small.length, large.length], [10, 50]);
  t.true(small.every((index) => large.includes(index)));
  t.is(stratifiedSubset(labels, 1e-6, 3).length, 5);
  for (const share of [0, 1.1, NaN]) {
    t.throws(() => stratifiedSubset(labels, share, 3), {
      message: `experiment: expected a share above 0 and at most 1, got ${share}`,
    });
  }
});

test('a plan trains the teacher of each subset before its pupils, and every model on the same ones', (t) => {
  const runs = runsOf(SCALES.small);
  t.is(runs.length, 35);
  for (const [i, run] of runs.entries()) t.is(run.kind, KINDS[i % KINDS.length]);
  for (const share of [0.02, 0.1, 1]) {
    const seeds = KINDS.map((kind) =>
      runs.filter((run) => run.share === share && run.kind === kind).map(({ seed }) => seed),
    );
    for (const own of seeds) t.deepEqual(own, share === 1 ? [0] : [0, 1, 2]);
  }
});

for (const [name, { models, recipe, settings }] of Object.entries(SCALES)) {
  test(`models of scale ${name} are of similar size, and see as many images from every share`, (t) => {
    const counts = KINDS.map((kind) => countModel(models[kind], 10));
    const ratio = (values: readonly number[]): number => Math.max(...values) / Math.min(...values);
    t.true(ratio(counts.map(({ parameters }) => parameters)) < 1.6);
    t.true(ratio(counts.map(({ macs }) => macs)) < 2);
    for (const { share } of settings) {
      const subset = share * 50_000;
      t.is(epochsOf(recipe, subset) * subset, recipe.images);
      t.is(subset % recipe.batchSize, 0);
    }
  });
}

const result = (kind: RunResult['kind'], share: number, seed: number, testAccuracy: number): RunResult => ({
  kind,
  share,
  seed,
  settings: {
    model: SCALES.quick.models[kind],
    recipe: SCALES.quick.recipe,
    data: { trainImages: 1000, testImages: 100, classes: 10 },
  },
  images: 1000 * share,
  epochs: 1,
  testAccuracy,
  trainAccuracy: 0.9,
  seconds: 1,
});

test('accuracies have their mean and their deviation between seeds', (t) => {
  const results = [
    result('vit', 0.1, 0, 0.3),
    result('vit', 0.02, 0, 0.2),
    result('vit', 0.1, 2, 0.5),
    result('vit', 0.1, 1, 0.4),
  ];
  const [small, large] = accuraciesOf(results);
  t.deepEqual(small, {
    kind: 'vit',
    share: 0.02,
    images: 20,
    accuracies: [0.2],
    mean: 0.2,
    deviation: undefined,
  });
  t.deepEqual(large.accuracies, [0.3, 0.4, 0.5]);
  t.true(Math.abs(large.mean - 0.4) < 1e-12);
  t.true(Math.abs((large.deviation ?? 0) - 0.1) < 1e-12);
});

test('a gain is between the same subsets, beside the larger of the two spreads', (t) => {
  const results = [
    ...[0.5, 0.52, 0.6].map((accuracy, seed) => result('vit', 0.1, seed, accuracy)),
    ...[0.56, 0.57, 0.58].map((accuracy, seed) => result('deit-hard', 0.1, seed, accuracy)),
    result('deit-hard', 0.1, 3, 0.9), // not yet run without a teacher
    result('deit-hard', 1, 0, 0.8),
    result('vit', 1, 0, 0.7),
  ];
  const [tenth, whole] = gainsOf(results, 'deit-hard', 'vit');
  t.is(tenth.seeds, 3);
  t.true(Math.abs(tenth.difference - 0.03) < 1e-12);
  t.true(Math.abs((tenth.spread ?? 0) - Math.sqrt(0.0028)) < 1e-12);
  t.true(Math.abs(tenth.least + 0.02) < 1e-12);
  t.deepEqual([whole.seeds, whole.spread], [1, undefined]);
});

test('the report has the models, a row for each share, and by how much the teacher helps', (t) => {
  const results = [
    ...[0.5, 0.52, 0.54].map((accuracy, seed) => result('vit', 0.1, seed, accuracy)),
    ...[0.56, 0.57, 0.58].map((accuracy, seed) => result('deit-hard', 0.1, seed, accuracy)),
    result('vit', 1, 0, 0.75),
    result('deit-hard', 1, 0, 0.7),
  ];
  const lines = formatReport(reportOf('small', SCALES.small, results), 'plot.svg').split('\n');
  for (const line of [
    '| ViT           |     0.47 M |                8.0 M |',
    '| Training images | Seeds | CNN (teacher) |        ViT | Swin | DeiT, soft | DeiT, hard |',
    '| 100 (10 %)      |     3 |               | 52.0 ± 2.0 |      |            | 57.0 ± 1.0 |',
    '| 1,000 (100 %)   |     1 |               |       75.0 |      |            |       70.0 |',
    '![Accuracy against the share of the training images](plot.svg)',
    '| 100 (10 %)      |     3 |       +5.0 |    2.0 |                 2.5 |              +4.0 |',
    '| 1,000 (100 %)   |     1 |       -5.0 |        |                     |              -5.0 |',
  ]) {
    t.true(lines.includes(line), line);
  }
});

/** CIFAR's binary files: images of one colour that goes with their class. */
function cifar(images: number): Buffer {
  return Buffer.concat(
    Array.from({ length: images }, (_, i) => Buffer.alloc(3073, 20 * (i % 10)).fill(i % 10, 0, 1)),
  );
}

const tiny: Scale = {
  models: {
    cnn: { name: 'resnet_nano_32', options: { layers: [1], channels: [4], stemWidth: 4 } },
    vit: { name: 'vit_nano_patch8_32', options: { embedDim: 8, depth: 1, numHeads: 1 } },
    swin: {
      name: 'swin_micro_patch2_window4_32',
      options: { patchSize: 4, embedDim: 8, depths: [1], numHeads: [1] },
    },
    'deit-soft': {
      name: 'deit_tiny_distilled_patch16_224',
      options: { imgSize: 32, embedDim: 8, depth: 1, numHeads: 1 },
    },
    'deit-hard': {
      name: 'deit_tiny_distilled_patch16_224',
      options: { imgSize: 32, embedDim: 8, depth: 1, numHeads: 1 },
    },
  },
  recipe: { ...SCALES.quick.recipe, images: 40, batchSize: 10 },
  settings: [{ share: 0.5, seeds: 1 }],
};

test('an experiment that was interrupted goes on, and its files hold every result', async (t) => {
  const root = await temporaryFolder(t, {
    'data_batch_1.bin': cifar(40),
    'test_batch.bin': cifar(20),
  });
  const out = join(root, 'out');
  const lines: string[] = [];
  const options = {
    scale: tiny,
    name: 'tiny',
    out,
    device: 'cpu',
    log: (line: string) => lines.push(line),
  } as const;
  await runExperiment(root, options);
  t.is(lines.length, 6);
  t.regex(lines[1], /^2\/5 20 images, seed 0, ViT: \d+\.\d % after \d+ s$/);

  const read = async (name: string): Promise<string> => readFile(join(out, name), 'utf8');
  const report = JSON.parse(await read('data-efficiency.json')) as Report;
  t.deepEqual(
    report.accuracies.map(({ kind, images, accuracies }) => [kind, images, accuracies.length]),
    KINDS.map((kind) => [kind, 20, 1]),
  );
  t.is(await read('data-efficiency.md'), formatReport(report, 'data-efficiency.svg'));
  const svg = await read('data-efficiency.svg');
  for (const title of ['ViT', 'DeiT, hard', 'training images (%)']) t.true(svg.includes(`>${title}</text>`));

  // As if the last run had not been finished.
  const lost = join(out, 'runs', '0.5-deit-hard-0.json');
  const [before, kept] = [
    JSON.parse(await readFile(lost, 'utf8')) as RunResult,
    await stat(join(out, 'runs', '0.5-vit-0.json')),
  ];
  await rm(lost);
  lines.length = 0;
  await runExperiment(root, options);
  t.deepEqual(
    lines.slice(0, 5).map((line) => line.endsWith(' (kept)')),
    [true, true, true, true, false],
  );
  const again = JSON.parse(await readFile(lost, 'utf8')) as RunResult;
  t.deepEqual({ ...again, seconds: 0 }, { ...before, seconds: 0 });
  t.is((await stat(join(out, 'runs', '0.5-vit-0.json'))).mtimeMs, kept.mtimeMs);

  const other = { ...tiny, recipe: { ...tiny.recipe, weightDecay: 1 } };
  await t.throwsAsync(runExperiment(root, { ...options, scale: other }), {
    instanceOf: RangeError,
    message:
      /^experiment: expected .*0\.5-cnn-0\.json to be of the same data, models and recipe, got another's; name another folder with --out$/,
  });
});

const main = fileURLToPath(new URL('../../bench/experiments/data-efficiency/main.js', import.meta.url));

test('no data, an unknown device, and two scales at once are errors of one sentence', async (t) => {
  const run = async (...args: string[]): Promise<string> => {
    const failed = (await promisify(execFile)(process.execPath, [main, ...args]).catch(
      (e: unknown) => e,
    )) as {
      code: number;
      stderr: string;
    };
    t.is(failed.code, 1);
    return failed.stderr;
  };
  const out = await temporaryFolder(t);
  t.is(
    await run('no-such-folder', '--out', out),
    "findData: expected 'shapes' or a folder, got no-such-folder, which does not exist\n",
  );
  t.is(
    await run('data', '--quick', '--full'),
    "error: option '--quick' cannot be used with option '--full'\n",
  );
});
