import test from 'ava';

import {
  type BatchSource,
  type StepEvent,
  TensorError,
  Trainer,
  type TrainerOptions,
  inferenceMode,
  readTrainingState,
  saveTrainingState,
  scope,
  tensor,
} from '../../src/index.js';
import { digestsOf, temporaryFolder, tinyBatches, tinyImages, tinyModel } from '../helpers/training.js';

// One after the other: every trainer of a process draws from the same random numbers.

/** The values of all weights, in order. */
async function weightsOf(trainer: Trainer): Promise<number[]> {
  const parts = await Promise.all(Object.values(trainer.model.stateDict()).map((tensor) => tensor.data()));
  return parts.flatMap((part) => Array.from(part as Float32Array));
}

function largestDifference(a: readonly number[], b: readonly number[]): number {
  return Math.max(...a.map((x, i) => Math.abs(x - b[i])));
}

/** Every part that has a state: dropout, averages, momentum, accumulation, clipping, a rate for each layer. */
const FULL: TrainerOptions = {
  epochs: 3,
  lr: 1e-2,
  warmupEpochs: 1,
  smoothing: 0.1,
  gradAccumSteps: 2,
  clipGrad: 1,
  layerDecay: 0.75,
  modelEmaDecay: 0.9,
  seed: 5,
};
const DROPPING = { dropRate: 0.3, dropPathRate: 0.2, projDropRate: 0.1 };

test.serial('accumulating the gradients of four batches is training with one large batch', async (t) => {
  const options: TrainerOptions = { epochs: 4, opt: 'sgd', lr: 0.1, weightDecay: 0.01, clipGrad: 0.5 };
  const large = new Trainer(tinyModel(), options);
  await large.run(tinyBatches(16, 8), { classes: 3 });
  const small = new Trainer(tinyModel(), { ...options, gradAccumSteps: 4 });
  await small.run(tinyBatches(16, 2), { classes: 3 });
  t.is(large.progress.step, 8);
  t.is(small.progress.step, 8);
  const [a, b, start] = [
    await weightsOf(large),
    await weightsOf(small),
    await weightsOf(new Trainer(tinyModel(), options)),
  ];
  t.true(largestDifference(a, start) > 1e-2, 'training moves the weights');
  t.true(largestDifference(a, b) < 1e-6, `${largestDifference(a, b)}`);
});

test.serial('a model whose outputs are not the classes is not trained', async (t) => {
  const trainer = new Trainer(tinyModel(), FULL);
  const before = await weightsOf(trainer);
  for (const classes of [2, 7]) {
    await t.throwsAsync(trainer.run(tinyBatches(16, 4), { classes }), {
      message: `Trainer: expected a model of ${classes} outputs, one for each class, got 3`,
    });
  }
  t.deepEqual(await weightsOf(trainer), before);
  t.is(trainer.progress.step, 0);
});

test.serial('a group that lacks its last batches is a mean over those it has', async (t) => {
  const options: TrainerOptions = { epochs: 1, opt: 'sgd', lr: 0.1, momentum: 0, weightDecay: 0 };
  // 5 batches of 2 in groups of 3: the second update has two batches, as one of 4 images has.
  const small = new Trainer(tinyModel(), { ...options, gradAccumSteps: 3 });
  const rates: number[] = [];
  await small.run(tinyBatches(10, 2), { classes: 3, onStep: ({ lr }) => rates.push(lr) });
  t.is(small.progress.step, 2);
  t.deepEqual(rates.slice(3), [0.05, 0.05]); // cosine at 1 of 2 updates
  const large = new Trainer(tinyModel(), options);
  const source = tinyBatches(10, 6);
  await large.run(source, { classes: 3 });
  t.true(largestDifference(await weightsOf(small), await weightsOf(large)) < 1e-6);
});

test.serial('with a layer decay, each layer moves by its share', async (t) => {
  // SGD moves by the gradient, which in a first step is the same for all.
  const options: TrainerOptions = { epochs: 1, opt: 'sgd', lr: 0.1, momentum: 0, weightDecay: 0 };
  const stepOf = async (layerDecay?: number): Promise<Record<string, number>> => {
    const model = tinyModel();
    const before = await Promise.all(model.parameters().map((tensor) => tensor.data()));
    const trainer = new Trainer(model, layerDecay === undefined ? options : { ...options, layerDecay });
    const rates: number[] = [];
    await trainer.run(tinyBatches(6, 6), { classes: 3, onStep: ({ lr }) => rates.push(lr) });
    t.deepEqual(rates, [0.1]); // the head's
    const after = await Promise.all(model.namedParameters().map(([, tensor]) => tensor.data()));
    return Object.fromEntries(
      model.namedParameters().map(([name], i) => {
        const [a, b] = [before[i], after[i]].map((values) => Array.from(values as Float32Array));
        return [name, Math.hypot(...a.map((x, k) => x - b[k]))];
      }),
    );
  };
  const [whole, decayed] = [await stepOf(), await stepOf(0.25)];
  for (const [name, moved] of Object.entries(whole)) {
    const layer = name.startsWith('blocks') ? 1 : /^(norm|head)/.test(name) ? 2 : 0;
    const share = 0.25 ** (2 - layer);
    t.true(moved > 1e-5, name);
    t.true(Math.abs(decayed[name] / moved - share) < 2e-3 * share, `${name}: ${decayed[name] / moved}`);
  }
  t.deepEqual(await stepOf(1), whole);
});

test.serial('averaged weights follow the weights of every update', async (t) => {
  const trainer = new Trainer(tinyModel(), { epochs: 4, lr: 1e-2, modelEmaDecay: 0.75 });
  let expected = await weightsOf(trainer);
  await trainer.run(tinyBatches(6, 6), {
    classes: 3,
    onEpoch: async () => {
      const weights = await weightsOf(trainer);
      expected = expected.map((average, i) => 0.75 * average + 0.25 * weights[i]);
    },
  });
  const averages = await Promise.all(Object.values(trainer.weights).map((tensor) => tensor.data()));
  const actual = averages.flatMap((part) => Array.from(part as Float32Array));
  t.true(largestDifference(actual, expected) < 1e-6);
  t.true(largestDifference(actual, await weightsOf(trainer)) > 1e-4, 'averages lag behind');
});

test.serial(
  'averaged weights are what is evaluated, and the weights are in place again after it',
  async (t) => {
    // A decay of 1 keeps the first weights for ever.
    const trainer = new Trainer(tinyModel(), { epochs: 2, lr: 1e-2, modelEmaDecay: 1 });
    const { loss } = await trainer.evaluate(tinyBatches(9, 4), { classes: 3 });
    const losses: (number | undefined)[] = [];
    await trainer.run(tinyBatches(9, 3), {
      classes: 3,
      val: tinyBatches(9, 4),
      onEpoch: ({ valLoss }) => void losses.push(valLoss),
    });
    t.deepEqual(losses, [loss, loss]);
    const first = await weightsOf(new Trainer(tinyModel(), { epochs: 1 }));
    t.true(largestDifference(await weightsOf(trainer), first) > 1e-3);
  },
);

test.serial('the loss is smoothed cross-entropy, and the events count what was done', async (t) => {
  const { images, labels } = tinyImages(6);
  const model = tinyModel();
  const logits = inferenceMode(() => scope(() => model.call(tensor(images, { shape: [6, 3, 8, 8] }))));
  const rows = (await logits.toArray()) as number[][];
  // (1 - eps)(-log p_y) + eps mean_c(-log p_c), reference/recipes.md 8.7
  const terms = rows.map((row, i) => {
    const log = row.map((x) => x - Math.log(row.reduce((sum, y) => sum + Math.exp(y), 0)));
    return -0.8 * log[labels[i]] - (0.2 * log.reduce((sum, x) => sum + x, 0)) / 3;
  });
  const hits = rows.filter((row, i) => row.indexOf(Math.max(...row)) === labels[i]).length;

  const events: StepEvent[] = [];
  const trainer = new Trainer(model, { epochs: 1, lr: 1e-3, smoothing: 0.2 });
  await trainer.run(tinyBatches(6, 6), { classes: 3, onStep: (event) => events.push(event) });
  t.is(events.length, 1);
  const [{ epoch, batch, batches, step, loss, meanLoss, accuracy, lr }] = events;
  const expected = terms.reduce((sum, x) => sum + x, 0) / 6;
  t.true(Math.abs(loss - expected) < 1e-6 * expected, `${loss} for ${expected}`);
  t.deepEqual({ epoch, batch, batches, step, lr }, { epoch: 0, batch: 1, batches: 1, step: 1, lr: 1e-3 });
  t.is(meanLoss, loss);
  t.is(accuracy, hits / 6);
});

test.serial('soft targets are what the loss compares with, and their largest share is right', async (t) => {
  const source = tinyBatches(6, 6);
  const shares = Float32Array.from({ length: 18 }, (_, i) => [0.7, 0.3, 0, 0.1, 0.2, 0.7][i % 6]);
  const mixed: BatchSource = {
    ...source,
    async *epoch(epoch, first) {
      for await (const batch of source.epoch(epoch, first)) yield { ...batch, targets: shares };
    },
  };
  const model = tinyModel();
  const logits = inferenceMode(() => model.call(tensor(tinyImages(6).images, { shape: [6, 3, 8, 8] })));
  const rows = (await logits.toArray()) as number[][];
  const losses = rows.map((row, i) => {
    const total = Math.log(row.reduce((sum, x) => sum + Math.exp(x), 0));
    return row.reduce((sum, x, c) => sum + (0.9 * shares[3 * i + c] + 0.1 / 3) * (total - x), 0);
  });
  const hits = rows.filter((row, i) => row.indexOf(Math.max(...row)) === [0, 2][i % 2]).length;

  const trainer = new Trainer(model, { epochs: 1, lr: 1e-3, smoothing: 0.1 });
  const events: StepEvent[] = [];
  await trainer.run(mixed, { classes: 3, onStep: (event) => events.push(event) });
  t.true(Math.abs(events[0].loss - losses.reduce((a, b) => a + b, 0) / 6) < 1e-5);
  t.is(events[0].accuracy, hits / 6);
});

test.serial('an average that warms up follows closely at first', async (t) => {
  const trainer = new Trainer(tinyModel(), {
    epochs: 1,
    lr: 0.1,
    modelEmaDecay: 0.99996,
    modelEmaWarmup: true,
  });
  await trainer.run(tinyBatches(4, 4), { classes: 3 });
  const start = await weightsOf(new Trainer(tinyModel(), { epochs: 1 }));
  const now = await weightsOf(trainer);
  const averages = (
    await Promise.all(Object.values(trainer.ema?.averages ?? {}).map((average) => average.data()))
  ).flatMap((part) => Array.from(part as Float32Array));
  const decay = 1 - 2 ** (-2 / 3); // 0.37 after the first update
  const expected = now.map((x, i) => decay * start[i] + (1 - decay) * x);
  t.true(largestDifference(now, start) > 1e-3);
  t.true(largestDifference(averages, expected) < 1e-6);
});

test.serial('a few epochs learn three colours', async (t) => {
  const trainer = new Trainer(tinyModel(), {
    epochs: 12,
    lr: 1e-2,
    warmupEpochs: 1,
    smoothing: 0.1,
    clipGrad: 1,
  });
  let accuracy: number | undefined;
  await trainer.run(tinyBatches(24, 8), {
    classes: 3,
    val: tinyBatches(31, 8),
    onEpoch: ({ valAccuracy }) => void (accuracy = valAccuracy),
  });
  t.is(accuracy, 1);
});

test.serial('the same seed gives the same bits twice', async (t) => {
  const run = async (seed: number): Promise<Record<string, string>> => {
    const trainer = new Trainer(tinyModel(DROPPING), { ...FULL, seed });
    await trainer.run(tinyBatches(20, 4), { classes: 3 });
    return digestsOf(trainer.state().tensors);
  };
  const first = await run(5);
  t.deepEqual(await run(5), first);
  t.notDeepEqual(await run(6), first);
});

test.serial('a stopped run continues from its file, bit for bit', async (t) => {
  const folder = await temporaryFolder(t);
  const source = tinyBatches(20, 4);
  const whole = new Trainer(tinyModel(DROPPING), FULL);
  t.true(await whole.run(source, { classes: 3, val: source }));
  const expected = await digestsOf(whole.state().tensors);

  // Stopping at any batch of any epoch; groups of two batches are never cut.
  for (const [at, batch] of [
    [1, 2],
    [3, 4],
    [5, 5],
    [7, 4],
    [14, 5],
  ]) {
    const path = `${folder}/${at}.safetensors`;
    const stop = new AbortController();
    const first = new Trainer(tinyModel(DROPPING), FULL);
    let seen = 0;
    const finished = await first.run(source, {
      classes: 3,
      val: source,
      signal: stop.signal,
      onStep: () => {
        if (++seen === at) stop.abort();
      },
      onSave: () => saveTrainingState(path, first.state()),
    });
    t.false(finished);
    t.is(first.progress.batch, batch, `stopped at ${at}`);
    const second = new Trainer(tinyModel(DROPPING, 99), { ...FULL, seed: 99 }); // all comes from the file
    second.loadState(await readTrainingState(path));
    t.true(await second.run(source, { classes: 3, val: source }));
    t.deepEqual(await digestsOf(second.state().tensors), expected, `stopped at ${at}`);
    t.deepEqual({ ...second.progress, seconds: 0 }, { ...whole.progress, seconds: 0 });
  }
});

test.serial('a signal within an evaluation saves before it, and the next run evaluates', async (t) => {
  const stop = new AbortController();
  const trainer = new Trainer(tinyModel(), { epochs: 1, lr: 1e-2 });
  let saves = 0;
  const finished = await trainer.run(tinyBatches(8, 4), {
    classes: 3,
    val: tinyBatches(9, 1),
    signal: stop.signal,
    onEvaluated: () => stop.abort(),
    onSave: () => void (saves += 1),
    onEpoch: () => t.fail('the epoch has no evaluation yet'),
  });
  t.false(finished);
  t.is(saves, 1);
  t.deepEqual([trainer.progress.epoch, trainer.progress.batch], [0, 2]);
  const epochs: (number | undefined)[] = [];
  t.true(
    await trainer.run(tinyBatches(8, 4), {
      classes: 3,
      val: tinyBatches(9, 1),
      onEpoch: ({ valAccuracy }) => void epochs.push(valAccuracy),
    }),
  );
  t.is(epochs.length, 1);
  t.is(trainer.progress.step, 2);
});

test.serial('the best epoch is that of highest accuracy, and among equals of lowest loss', async (t) => {
  const trainer = new Trainer(tinyModel(), { epochs: 10, lr: 1e-2 });
  const accuracies: number[] = [];
  const losses: number[] = [];
  const bests: number[] = [];
  await trainer.run(tinyBatches(24, 8), {
    classes: 3,
    val: tinyBatches(31, 8),
    onEpoch: ({ epoch, valAccuracy, valLoss }, best) => {
      accuracies.push(valAccuracy!);
      losses.push(valLoss!);
      if (best) bests.push(epoch);
    },
  });
  const records = accuracies
    .map((_, i) => i)
    .filter((i) =>
      accuracies
        .slice(0, i)
        .every((x, j) => x < accuracies[i] || (x === accuracies[i] && losses[j] > losses[i])),
    );
  t.deepEqual(bests, records);
  t.true(new Set(accuracies).size < bests.length, 'there was a tie that a lower loss broke');
  t.is(trainer.progress.bestLoss, losses[bests.at(-1)!]);
  t.is(trainer.progress.bestEpoch, bests.at(-1)!);
  t.is(trainer.progress.bestAccuracy, Math.max(...accuracies));
});

test.serial('patience ends a run after as many epochs without a better one', async (t) => {
  // A decay of 1 evaluates the first weights for ever: the first epoch stays the best.
  const still = new Trainer(tinyModel(), { epochs: 9, lr: 1e-2, modelEmaDecay: 1, patience: 3 });
  const seen: number[] = [];
  const options = { classes: 3, val: tinyBatches(9, 4) };
  t.true(await still.run(tinyBatches(9, 3), { ...options, onEpoch: ({ epoch }) => void seen.push(epoch) }));
  t.deepEqual(seen, [0, 1, 2, 3]);
  t.true(still.isComplete);
  t.deepEqual([still.progress.epoch, still.progress.bestEpoch], [4, 0]);
  // It stays at its end.
  t.true(await still.run(tinyBatches(9, 3), { ...options, onEpoch: () => t.fail('an epoch too many') }));

  // One that learns ends as many epochs after its best, and with the bits of a run that was to end there.
  const run = async (
    patience?: number,
    until = Infinity,
  ): Promise<[best: number, epochs: number, bits: Record<string, string>]> => {
    const trainer = new Trainer(tinyModel(), { epochs: 60, lr: 3e-2, seed: 2, patience });
    const stop = new AbortController();
    const finished = await trainer.run(tinyBatches(24, 8), {
      classes: 3,
      val: tinyBatches(31, 8),
      signal: stop.signal,
      onStep: ({ epoch, batch, batches }) => {
        if (epoch + 1 === until && batch === batches) stop.abort();
      },
    });
    t.is(finished, until > 60);
    return [trainer.progress.bestEpoch!, trainer.progress.epoch, await digestsOf(trainer.model.stateDict())];
  };
  const [best, epochs, bits] = await run(2);
  t.is(epochs, best + 3);
  t.true(epochs > 3 && epochs < 60, `${epochs}`);
  t.deepEqual((await run(undefined, epochs))[2], bits);
});

test.serial('a resumed run keeps its patience', async (t) => {
  const path = `${await temporaryFolder(t)}/last.safetensors`;
  const options: TrainerOptions = { epochs: 9, lr: 1e-2, modelEmaDecay: 1, patience: 3 };
  const [source, val] = [tinyBatches(9, 3), tinyBatches(9, 4)];
  const stop = new AbortController();
  const first = new Trainer(tinyModel(), options);
  await first.run(source, {
    classes: 3,
    val,
    signal: stop.signal,
    onStep: ({ step }) => {
      if (step === 8) stop.abort(); // in the third epoch
    },
    onSave: () => saveTrainingState(path, first.state()),
  });
  t.is(first.progress.epoch, 2);
  const second = new Trainer(tinyModel({}, 9), options);
  second.loadState(await readTrainingState(path));
  t.false(second.isComplete);
  t.true(await second.run(source, { classes: 3, val }));
  t.is(second.progress.epoch, 4);
});

test.serial(
  'a loss that is not finite stops training with a sentence; the saved state stays good',
  async (t) => {
    const path = `${await temporaryFolder(t)}/last.safetensors`;
    const { images } = tinyImages(12);
    const trainer = new Trainer(tinyModel(), { epochs: 2, lr: 1e-3 });
    const run = trainer.run(tinyBatches(12, 4, images), {
      classes: 3,
      saveEvery: 1,
      onSave: () => saveTrainingState(path, trainer.state()),
      onEpoch: async () => {
        await saveTrainingState(path, trainer.state());
        images[5 * 192] = NaN; // of the second batch
      },
    });
    await t.throwsAsync(run, {
      instanceOf: TensorError,
      message:
        'Trainer: expected a finite loss, got NaN at epoch 2, batch 2; try a lower learning rate, a longer warm-up or gradient clipping',
    });
    const { tensors, values } = await readTrainingState(path);
    t.is(values.progress.step, 4);
    for (const [name, tensor] of Object.entries(tensors)) {
      t.true(((await tensor.data()) as Float32Array).every(Number.isFinite), name);
    }
  },
);

test.serial('weights that are not finite reach no checkpoint', async (t) => {
  const trainer = new Trainer(tinyModel(), { epochs: 1, opt: 'sgd', lr: 1e60 });
  await t.throwsAsync(
    trainer.run(tinyBatches(8, 4), {
      classes: 3,
      saveEvery: 1,
      onSave: () => t.fail('saved weights that are lost'),
    }),
    { message: /^Trainer: expected finite weights, got (Infinity|NaN) after epoch 1, batch 1; try a lower/ },
  );
});

test.serial('a group of batches whose last was damaged leaves no gradient behind', async (t) => {
  // The loader leaves a batch out when all of its images are damaged: here the second of two.
  const gap = (source: BatchSource): BatchSource => ({
    ...source,
    async *epoch(epoch, first) {
      for await (const batch of source.epoch(epoch, first)) if (batch.number !== 1) yield batch;
    },
  });
  const options: TrainerOptions = { epochs: 1, opt: 'sgd', lr: 0.1, gradAccumSteps: 2, momentum: 0 };
  const trainer = new Trainer(tinyModel(), options);
  const before = await weightsOf(trainer);
  await trainer.run(gap(tinyBatches(8, 4)), { classes: 3 });
  t.is(trainer.progress.step, 0);
  t.is(largestDifference(await weightsOf(trainer), before), 0);
});

test.serial('options that make no sense are errors', (t) => {
  const message = (options: TrainerOptions): string =>
    t.throws(() => new Trainer(tinyModel(), options), { instanceOf: TensorError }).message;
  t.is(message({ epochs: 0 }), 'Trainer: expected epochs to be a whole number above 0, got 0');
  t.is(message({ epochs: 1, patience: 0 }), 'Trainer: expected patience to be a whole number above 0, got 0');
  t.is(
    message({ epochs: 1, gradAccumSteps: 1.5 }),
    'Trainer: expected gradAccumSteps to be a whole number above 0, got 1.5',
  );
  t.is(message({ epochs: 2, warmupEpochs: 3 }), 'Trainer: expected warmupEpochs within 2 epochs, got 3');
  t.is(message({ epochs: 1, layerDecay: 2 }), 'Trainer: expected a layerDecay above 0 and up to 1, got 2');
});

test.serial('training without images is an error', async (t) => {
  await t.throwsAsync(
    new Trainer(tinyModel(), { epochs: 1, patience: 1 }).run(tinyBatches(4, 4), { classes: 3 }),
    { message: 'Trainer: expected validation images (val) for patience, got none' },
  );
  await t.throwsAsync(new Trainer(tinyModel(), { epochs: 1 }).run(tinyBatches(0, 4), { classes: 3 }), {
    message: 'Trainer: expected at least one batch of training images, got none',
  });
});
