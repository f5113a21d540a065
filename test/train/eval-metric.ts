import { readFile } from 'node:fs/promises';

import test from 'ava';

import {
  type EpochMetrics,
  type EvalMetric,
  TensorError,
  Trainer,
  type TrainerOptions,
  train,
} from '../../src/index.js';
import { isBetter } from '../../src/train/eval-metric.js';
import {
  TINY,
  TINY_FLAGS,
  cliHere,
  temporaryFolder,
  tinyBatches,
  tinyModel,
  unequalPhotos,
} from '../helpers/training.js';

// One after the other: every trainer of a process draws from the same random numbers.

/** What is compared of an evaluation. */
const evaluation = (
  accuracy: number,
  balancedAccuracy: number,
  loss: number,
): Parameters<typeof isBetter>[1] => ({
  accuracy,
  balancedAccuracy,
  loss,
  top5: 1,
  images: 10,
  confusion: [],
  perClass: [],
  imagesPerSecond: 1,
});

test('each metric has an order of its own, and equal accuracies that of their losses', (t) => {
  const best = { bestAccuracy: 0.9, bestBalancedAccuracy: 0.6, bestLoss: 0.4 };
  const better = (now: Parameters<typeof isBetter>[1]): EvalMetric[] =>
    (['accuracy', 'balanced', 'loss'] as const).filter((metric) => isBetter(metric, now, best));
  t.deepEqual(better(evaluation(0.91, 0.5, 0.5)), ['accuracy']);
  t.deepEqual(better(evaluation(0.8, 0.7, 0.5)), ['balanced']);
  t.deepEqual(better(evaluation(0.8, 0.5, 0.3)), ['loss']);
  t.deepEqual(better(evaluation(0.9, 0.6, 0.3)), ['accuracy', 'balanced', 'loss']);
  t.deepEqual(better(evaluation(0.9, 0.6, 0.4)), []);
  t.deepEqual(better(evaluation(0.9, 0.6, 0.5)), []);
  const none = { bestAccuracy: null, bestBalancedAccuracy: null, bestLoss: null };
  for (const metric of ['accuracy', 'balanced', 'loss'] as const)
    t.true(isBetter(metric, evaluation(0, 0, 9), none));
  // An older checkpoint does not say its loss: an equal accuracy is then no better one.
  t.false(isBetter('accuracy', evaluation(0.9, 0.6, 0.1), { ...best, bestLoss: null }));
});

test.serial('the best epoch, and when patience ends, are by the metric', async (t) => {
  for (const evalMetric of ['accuracy', 'balanced', 'loss'] as const) {
    const trainer = new Trainer(tinyModel(), { epochs: 40, lr: 3e-2, seed: 2, patience: 3, evalMetric });
    const epochs: EpochMetrics[] = [];
    const bests: number[] = [];
    await trainer.run(tinyBatches(24, 8), {
      classes: 3,
      val: tinyBatches(31, 8), // 11 of the first class, 10 of each other
      onEpoch: (metrics, best) => {
        epochs.push(metrics);
        if (best) bests.push(metrics.epoch);
      },
    });
    const value = (i: number): number => {
      const { valAccuracy, valBalancedAccuracy, valLoss } = epochs[i];
      return { accuracy: valAccuracy!, balanced: valBalancedAccuracy!, loss: -valLoss! }[evalMetric];
    };
    const before = (i: number, j: number): boolean =>
      value(j) < value(i) || (value(j) === value(i) && epochs[i].valLoss! < epochs[j].valLoss!);
    const records = epochs.map((_, i) => i).filter((i) => epochs.slice(0, i).every((__, j) => before(i, j)));
    t.deepEqual(bests, records, evalMetric);
    const { progress } = trainer;
    const best = epochs[records.at(-1)!];
    t.is(progress.bestEpoch, best.epoch);
    t.is(progress.bestAccuracy, best.valAccuracy!);
    t.is(progress.bestBalancedAccuracy, best.valBalancedAccuracy!);
    t.is(progress.bestLoss, best.valLoss!);
    if (epochs.length < 40) t.is(epochs.length, best.epoch + 4);
  }
});

test.serial('a metric that is none is an error', async (t) => {
  t.throws(() => new Trainer(tinyModel(), { epochs: 1, evalMetric: 'f1' } as unknown as TrainerOptions), {
    instanceOf: TensorError,
    message: "Trainer: expected an evalMetric of accuracy, balanced, loss, got 'f1'",
  });
  const { stderr } = await cliHere('.', ['train', 'shapes', '--eval-metric', 'f1']);
  t.is(stderr, `tenon: --eval-metric: expected one of "accuracy"|"balanced"|"loss", got 'f1'\n`);
});

test.serial('a run by another metric says so in its folder, on the screen and in its report', async (t) => {
  const folder = await temporaryFolder(t);
  const photos = await unequalPhotos(`${folder}/photos`);
  const settings = { ...TINY, evalMetric: 'balanced', output: `${folder}/runs`, name: 'balanced' } as const;
  const { summary, report } = await train(photos, settings);
  t.is(summary?.evalMetric, 'balanced');
  t.is(typeof summary?.valBalancedAccuracy, 'number');
  const page = (await readFile(report!, 'utf8')).replace(/\s+/g, ' ');
  t.regex(page, /<dt>Best balanced accuracy<\/dt>/);
  t.regex(page, /The large dot is the best epoch, that of the highest balanced accuracy\./);

  const args = ['train', 'photos', ...TINY_FLAGS, '--eval-metric', 'loss', '--name', 'loss'];
  const { stdout } = await cliHere(folder, args);
  t.regex(stdout, /\nDone: validation accuracy \d+\.\d %.*, loss \d\.\d{4}, \d+ images\/s/);
  const stored = JSON.parse(await readFile(`${folder}/runs/loss/summary.json`, 'utf8')) as Record<
    string,
    number
  >;
  const lines = (await readFile(`${folder}/runs/loss/metrics.jsonl`, 'utf8')).trimEnd().split('\n');
  const losses = lines.map((line) => (JSON.parse(line) as EpochMetrics).valLoss!);
  t.is(stored['valLoss'], Math.min(...losses));
  t.is(stored['bestEpoch'], 1 + losses.indexOf(Math.min(...losses)));
  const lossPage = (await readFile(`${folder}/runs/loss/report.html`, 'utf8')).replace(/\s+/g, ' ');
  t.regex(lossPage, /<dt>Lowest validation loss<\/dt>/);
});
