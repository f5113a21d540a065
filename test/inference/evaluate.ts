import test from 'ava';

import {
  type BatchSource,
  type FloatTensor,
  type InputSpec,
  Module,
  type Prediction,
  Trainer,
  crossEntropy,
  evaluate,
  inferenceMode,
  inputTransform,
  scope,
  tensor,
} from '../../src/index.js';
import { classify } from '../../src/inference/predict.js';
import { pattern } from '../helpers/images.js';
import { TINY_INFO, tinyBatches, tinyImages, tinyModel } from '../helpers/training.js';

/** Probabilities `[count][classes]` by plain arithmetic on the model's logits. */
async function probabilities(model: ReturnType<typeof tinyModel>, count: number): Promise<number[][]> {
  const { images } = tinyImages(count);
  const logits = inferenceMode(() =>
    scope(() => model.eval().call(tensor(images, { shape: [count, 3, 8, 8] }))),
  );
  const rows = (await logits.toArray()) as number[][];
  return rows.map((row) => {
    const exps = row.map(Math.exp);
    return exps.map((x) => x / exps.reduce((sum, y) => sum + y, 0));
  });
}

test('loss, accuracy and confusion are those of all images, with a ragged last batch', async (t) => {
  const model = tinyModel({ numClasses: 7, dropRate: 0.5 });
  const count = 8;
  const { labels } = tinyImages(count);
  const p = await probabilities(model, count);
  const rank = (i: number): number => p[i].filter((x) => x > p[i][labels[i]]).length;
  const all = Array.from(labels.keys());

  model.train();
  model.norm!.eval();
  const seen: Prediction[] = [];
  const progress: number[] = [];
  const result = await evaluate(model, tinyBatches(count, 3), {
    classes: 7,
    onPrediction: (prediction) => seen.push(prediction),
    onProgress: (images) => progress.push(images),
  });
  const loss = all.reduce((sum, i) => sum - Math.log(p[i][labels[i]]), 0) / count;
  t.true(Math.abs(result.loss - loss) < 1e-6 * loss, `${result.loss} for ${loss}`);
  t.is(result.images, 8);
  t.is(result.accuracy, all.filter((i) => rank(i) === 0).length / count);
  t.is(result.top5, all.filter((i) => rank(i) < 5).length / count);
  t.deepEqual(progress, [3, 6, 8]);
  t.true(model.training, 'the model is back in training mode');
  t.false(model.norm!.training, 'each module is in its own');

  const confusion = Array.from({ length: 7 }, () => new Array<number>(7).fill(0));
  for (const i of all) confusion[labels[i]][p[i].indexOf(Math.max(...p[i]))] += 1;
  t.deepEqual(result.confusion, confusion);
  const recalls = [0, 1, 2].map((label) => {
    const own = all.filter((i) => labels[i] === label);
    return own.filter((i) => rank(i) === 0).length / own.length;
  });
  t.deepEqual(
    result.perClass.map(({ recall }) => recall),
    [...recalls, null, null, null, null],
  );
  t.deepEqual(
    result.perClass.map(({ images }) => images),
    [3, 3, 2, 0, 0, 0, 0],
  );
  t.true(Math.abs(result.balancedAccuracy - (recalls[0] + recalls[1] + recalls[2]) / 3) < 1e-15);
  for (const [i, { index, label, top }] of seen.entries()) {
    t.deepEqual([index, label, top.length], [i, labels[i], 5]);
    t.true(Math.abs(top[0].probability - Math.max(...p[i])) < 1e-6);
  }
});

test('the batch size does not change an evaluation', async (t) => {
  const model = tinyModel();
  const [one, many] = [
    await evaluate(model, tinyBatches(7, 1), { classes: 3 }),
    await evaluate(model, tinyBatches(7, 4), { classes: 3 }),
  ];
  t.true(Math.abs(one.loss - many.loss) < 1e-6);
  t.deepEqual(one.confusion, many.confusion);
});

test('an evaluation without images is an error', async (t) => {
  await t.throwsAsync(evaluate(tinyModel(), tinyBatches(0, 4), { classes: 3 }), {
    message: 'evaluate: expected at least one image that can be read, got none',
  });
});

test('a model whose outputs are not the classes is an error that names both numbers', async (t) => {
  const message = (classes: number): string =>
    `evaluate: expected a model of ${classes} outputs, one for each class, got 3`;
  for (const classes of [1, 2, 4, 7]) {
    const error = await t.throwsAsync(evaluate(tinyModel(), tinyBatches(8, 4), { classes }));
    t.is(error.message, message(classes));
  }
  const own = new (class extends Module {
    forward(images: FloatTensor): FloatTensor {
      return images.reshape([images.shape[0], 192, 1]);
    }
  })();
  await t.throwsAsync(evaluate(own, tinyBatches(8, 4), { classes: 192 }), {
    message: 'evaluate: expected a model of 192 outputs, one for each class, got logits [4, 192, 1]',
  });
  await t.throwsAsync(evaluate(own, tinyBatches(8, 4), { classes: 0 }), {
    message: 'evaluate: expected classes to be a whole number of at least 1, got 0',
  });
});

test('a failed evaluation, training or prediction leaves no error for who comes next', async (t) => {
  const model = tinyModel();
  const whole = tinyBatches(8, 4);
  const { loss } = await evaluate(model, whole, { classes: 3 });
  const broken: BatchSource = {
    ...whole,
    async *epoch(number) {
      for await (const batch of whole.epoch(number)) {
        yield { ...batch, labels: batch.labels.map(() => 9) };
        throw new Error('no more'); // before anyone has read what became of these labels
      }
    },
  };
  const breaking = new (class extends Module {
    readonly inner = tinyModel();
    forward(images: FloatTensor): FloatTensor {
      crossEntropy(this.inner.call(images), tensor([9], { dtype: 'int32' }));
      throw new Error('no more');
    }
  })();
  const failing = [
    () => evaluate(model, broken, { classes: 3 }),
    () => new Trainer(tinyModel(), { epochs: 1, lr: 0.1 }).run(broken, { classes: 3 }),
    () => classify(breaking, TINY_INFO, [pattern(8, 8)], { topk: 1, precision: 'float32' }),
  ];
  for (const fails of failing) {
    await t.throwsAsync(fails, { message: 'no more' });
    t.is((await evaluate(model, whole, { classes: 3 })).loss, loss);
  }
});

test('a signal ends an evaluation, and the model is back in training mode', async (t) => {
  const stop = new AbortController();
  const model = tinyModel().train();
  const error: unknown = await evaluate(model, tinyBatches(9, 1), {
    classes: 3,
    signal: stop.signal,
    onProgress: (images) => {
      if (images === 2) stop.abort();
    },
  }).catch((reason: unknown) => reason);
  t.is(error, stop.signal.reason);
  t.true(model.training);
});

test("a model's input resizes the shorter side, or with 'squash' both, before its crop", (t) => {
  const input = { size: [224, 224], mean: [0, 0, 0], std: [1, 1, 1], interpolation: 'bicubic' } as const;
  const resize = (more: Pick<InputSpec, 'cropPct' | 'cropMode'>): unknown =>
    inputTransform({ ...input, ...more }).steps[0];
  t.like(resize({ cropPct: 0.875 }), { kind: 'resize', size: 256 });
  t.like(resize({ cropPct: 0.875, cropMode: 'squash' }), { kind: 'resize', size: [256, 256] });
});
