/**
 * A model that answers many at once: the numbers of one by one, errors that hit whom they belong to, and bounds that hold.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';
import sharp from 'sharp';

import {
  type ImageSource,
  type ModelInfo,
  Predictor,
  type PredictorOptions,
  TensorError,
  applySteps,
  createModel,
  explainFiles,
  inferenceMode,
  inputTransform,
  leakCheck,
  memoryStats,
  normalizeInto,
  openPredictor,
  predict,
  saveModel,
  SampleRandom,
  softmax,
  tensor,
  zeros,
} from '../../src/index.js';
import { collectGarbage, collectTensors } from '../helpers/garbage.js';
import { watchEventLoop } from '../helpers/event-loop.js';
import { flat, pattern, toSharp } from '../helpers/images.js';
import { TINY_INFO, temporaryFolder, tinyModel } from '../helpers/training.js';

const info: ModelInfo = TINY_INFO;

/** PNGs of other colours and sizes. */
const pngs = (count: number): Promise<Buffer[]> =>
  Promise.all(
    Array.from({ length: count }, (_, i) =>
      toSharp(flat(9 + (i % 7), 8 + (i % 5), [(i * 37) % 256, (i * 91) % 256, (i * 53) % 256]))
        .png()
        .toBuffer(),
    ),
  );

function predictorOf(t: ExecutionContext, options: PredictorOptions = {}): Predictor {
  const predictor = new Predictor(tinyModel(), info, { workers: 0, topk: 3, ...options, ownsModel: true });
  t.teardown(() => predictor.close());
  return predictor;
}

/** Probabilities by class. */
const byClass = (top: readonly { label: string; probability: number }[]): number[] =>
  info.classes.map((name) => top.find(({ label }) => label === name)?.probability ?? NaN);

const worstDifference = (a: readonly number[], b: readonly number[]): number =>
  Math.max(...a.map((value, i) => Math.abs(value - b[i])));

/** What the error of a refused image says. */
async function refused(
  t: ExecutionContext,
  promise: Promise<unknown>,
): Promise<[code: string, message: string]> {
  const { code, message } = await t.throwsAsync(promise, { instanceOf: TensorError });
  return [code, message];
}

test('a model whose images cannot be normalised is refused by what takes its info', async (t) => {
  const wrong = { ...info, input: { ...info.input, mean: [0] } };
  const message = 'expected three finite numbers for mean, got [0]';
  t.throws(() => new Predictor(tinyModel(), wrong), { message: `Predictor: ${message}` });
  t.throws(() => inputTransform(wrong.input), { message: `inputTransform: ${message}` });
  await t.throwsAsync(predict(tinyModel(), wrong, ['a.png']), { message: `predict: ${message}` });
});

test('a prediction is the softmax of the model called directly, the most probable class first', async (t) => {
  const predictor = predictorOf(t);
  const image = pattern(20, 14);
  const { steps, size, mean, std } = inputTransform(info.input);
  const pixels = new Float32Array(3 * 64);
  normalizeInto(applySteps(image, steps, new SampleRandom(0, 0, 0)), mean, std, pixels, 0);
  const expected = await inferenceMode(() =>
    softmax(predictor.model.call(tensor(pixels, { shape: [1, 3, ...size] }))),
  ).data();
  const png = await toSharp(image).png().toBuffer();
  for (const source of [png, image]) {
    const { top } = await predictor.predict(source);
    t.deepEqual(byClass(top), [...expected]);
    t.true(top[0].probability >= top[1].probability && top[1].probability >= top[2].probability);
  }
  t.is((await predictorOf(t, { topk: 1 }).predict(png)).top.length, 1);
  t.is((await predictorOf(t, { topk: 9 }).predict(png)).top.length, 3, 'there are but three');
});

test('images that come at once give the numbers of one by one, each its own, in batches', async (t) => {
  const images = await pngs(60);
  for (const workers of [0, 2]) {
    const predictor = predictorOf(t, { workers, batchSize: 7 });
    const alone: number[][] = [];
    for (const image of images) alone.push(byClass((await predictor.predict(image)).top));
    t.deepEqual({ ...predictor.stats }, { images: 60, batches: 60 });
    const order: number[] = [];
    const together = await Promise.all(
      images.map(async (image, i) => {
        const { top } = await predictor.predict(image);
        order.push(i);
        return byClass(top);
      }),
    );
    // Of other batches, sums round differently.
    for (const [i, probabilities] of together.entries())
      t.true(worstDifference(probabilities, alone[i]) < 1e-6);
    t.true(worstDifference(alone[0], alone[1]) > 1e-4, 'images differ by more');
    const batches = predictor.stats.batches - 60;
    t.true(
      predictor.stats.images === 120 && batches >= Math.ceil(60 / 7) && batches <= 60,
      `${batches} batches`,
    );
    if (workers === 0) t.deepEqual(order, [...images.keys()]);
    t.is(predictor.pending, 0);
  }
});

test('what is ready while a batch is computed is the next batch', async (t) => {
  const predictor = predictorOf(t, { batchSize: 4 });
  let release = (): void => undefined;
  const gate = new Promise<void>((resolve) => (release = resolve));
  // The device is taken: what explain does is one turn, and this image's pixels wait for the gate.
  const held = predictor['inTurn'](() => gate);
  const answers = Array.from({ length: 9 }, (_, i) => predictor.predict(flat(8, 8, [i * 20, 0, 0])));
  while (predictor['ready'].length < 9) await new Promise(setImmediate);
  t.deepEqual({ ...predictor.stats }, { images: 0, batches: 0 });
  release();
  await Promise.all([held, ...answers]);
  t.deepEqual({ ...predictor.stats }, { images: 9, batches: 3 });
});

test('a bad image fails alone', async (t) => {
  const predictor = predictorOf(t, { workers: 1, maxPixels: 5000 });
  const good = await pngs(6);
  const expected = await Promise.all(good.map((image) => predictor.predict(image)));
  const sources: ImageSource[] = [...good];
  const whole = await toSharp(pattern(60, 60)).jpeg().toBuffer();
  const cut = whole.subarray(0, whole.length / 2);
  const large = await toSharp(flat(100, 60, [0, 0, 0]))
    .png()
    .toBuffer();
  const bad = {
    1: Buffer.from('no image'),
    3: cut,
    4: large,
    7: 'none.jpg',
    8: Buffer.alloc(0),
  };
  for (const [at, source] of Object.entries(bad)) sources.splice(Number(at), 0, source);
  const results = await Promise.allSettled(sources.map((source) => predictor.predict(source)));
  const reasons = results.flatMap((result) =>
    result.status === 'rejected' ? [result.reason as TensorError] : [],
  );
  t.deepEqual(
    reasons.map(({ code, message }) => [code, message]),
    [
      [
        'IO',
        'decodeImage: expected a whole image in the bytes given, got Input buffer contains unsupported image format',
      ],
      ['IO', 'decodeImage: expected a whole image in the bytes given, got damaged or cut data'],
      ['IO', 'decodeImage: expected a whole image in the bytes given, got Input image exceeds pixel limit'],
      ['IO', "readImage: expected to read none.jpg, got ENOENT: no such file or directory, open 'none.jpg'"],
      ['IO', 'decodeImage: expected a whole image in the bytes given, got Input Buffer is empty'],
    ],
  );
  const tops = results.flatMap((result) =>
    result.status === 'fulfilled' ? [byClass(result.value.top)] : [],
  );
  t.is(tops.length, 6);
  for (const [i, top] of tops.entries()) t.true(worstDifference(top, byClass(expected[i].top)) < 1e-6);
});

test('more images than may wait are refused, and others are taken again when these are answered', async (t) => {
  const predictor = predictorOf(t, { maxPending: 5 });
  const [image] = await pngs(1);
  const answers = Array.from({ length: 5 }, () => predictor.predict(image));
  t.is(predictor.pending, 5);
  t.deepEqual(await refused(t, predictor.predict(image)), [
    'BUSY',
    'predict: expected fewer than 5 images that wait, got one more',
  ]);
  t.is((await Promise.all(answers)).length, 5);
  t.is(predictor.pending, 0);
  t.is((await predictor.predict(image)).top.length, 3);
});

test.serial(
  'closing answers what waits, takes nothing more, and frees the model and the threads',
  async (t) => {
    const images = await pngs(20);
    const tensors = await collectTensors();
    for (const workers of [0, 1]) {
      const predictor = predictorOf(t, { workers, batchSize: 3 });
      const answers = Promise.all(images.map((image) => predictor.predict(image)));
      const closed = predictor.close();
      t.is(predictor.close(), closed);
      t.deepEqual(await refused(t, predictor.predict(images[0])), [
        'DISPOSED',
        'predict: expected an open predictor, got a closed one',
      ]);
      await closed;
      t.is(predictor.pending, 0);
      for (const { top } of await answers) t.true(Math.abs(byClass(top).reduce((a, b) => a + b) - 1) < 1e-6);
      t.is(memoryStats().tensors, tensors);
    }
    const model = tinyModel();
    const borrowed = new Predictor(model, info, { workers: 0 });
    await borrowed.predict(images[0]);
    await borrowed.close();
    t.deepEqual(model.call(zeros([1, 3, 8, 8])).shape, [1, 3], 'a model of the caller lives on');
    model.dispose();
  },
);

test('an image that is given up rejects at once, is not computed, and disturbs no other', async (t) => {
  const predictor = predictorOf(t);
  const images = await pngs(3);
  let release = (): void => undefined;
  const held = predictor['inTurn'](() => new Promise<void>((resolve) => (release = resolve)));
  const stop = new AbortController();
  const given = predictor.predict(images[0], { signal: stop.signal });
  const kept = predictor.predict(images[1], { signal: AbortSignal.timeout(60_000) });
  while (predictor['ready'].length < 2) await new Promise(setImmediate);
  stop.abort(new Error('the client has gone'));
  await t.throwsAsync(given, { message: 'the client has gone' });
  t.is(predictor.pending, 2, 'it counts until its turn has come');
  release();
  t.is((await kept).top.length, 3);
  await held;
  t.deepEqual({ ...predictor.stats }, { images: 1, batches: 1 });
  await t.throwsAsync(predictor.predict(images[2], { signal: stop.signal }), {
    message: 'the client has gone',
  });
  t.is(predictor.pending, 0);
});

test('a failure of the device is that of its batch, and the next one is computed', async (t) => {
  const predictor = predictorOf(t);
  const [image] = await pngs(1);
  const { model } = predictor;
  const forward = model.forward.bind(model);
  model.forward = () => {
    throw new TensorError('matmul: expected memory, got none', 'matmul', 'MEMORY');
  };
  t.deepEqual(await refused(t, predictor.predict(image)), ['MEMORY', 'matmul: expected memory, got none']);
  model.forward = forward;
  t.is((await predictor.predict(image)).top.length, 3);
});

test.serial('2,000 images, at most 16 at a time, leave no tensor and no memory behind', async (t) => {
  const predictor = predictorOf(t, { workers: 1 });
  const images = await pngs(16);
  const bad = Buffer.from('no image');
  let [answered, refusals] = [0, 0];
  const run = async (count: number): Promise<void> => {
    let next = 0;
    const client = async (): Promise<void> => {
      for (let i = next++; i < count; i = next++) {
        const answer = predictor.predict(i % 10 === 9 ? bad : images[i % 16]);
        await answer.then(
          ({ top }) => (answered += top.length),
          (error: TensorError) => (refusals += Number(error.code === 'IO')),
        );
      }
    };
    await Promise.all(Array.from({ length: 16 }, client));
  };
  await run(1000);
  const tensors = await collectTensors();
  const bytes = (): number => process.memoryUsage().arrayBuffers + process.memoryUsage().heapUsed;
  const before = await collectGarbage(bytes);
  const { current, reserved } = memoryStats();
  [answered, refusals] = [0, 0];
  await run(2000);
  t.deepEqual([answered, refusals], [3 * 1800, 200]);
  t.is(await collectTensors(), tensors);
  t.is(memoryStats().current, current);
  t.true(memoryStats().reserved <= reserved + 2 ** 20, 'the allocator has what it had');
  const grown = (await collectGarbage(bytes)) - before;
  t.true(grown < 2 ** 20, `${grown} bytes of JavaScript's memory for 2,000 images`);
  await leakCheck(() => run(100));
});

test.serial('the event loop goes on while large photographs are prepared in threads', async (t) => {
  const blank = { width: 4000, height: 3000, channels: 3, background: 'grey' } as const;
  const photo = await sharp({ create: blank }).jpeg().toBuffer();
  const predictor = predictorOf(t, { workers: 1 });
  await predictor.predict(photo);
  const stop = watchEventLoop();
  await Promise.all(Array.from({ length: 3 }, () => predictor.predict(photo)));
  const { worst } = stop();
  t.true(worst < 40, `${worst} ms; resizing one takes longer`);
});

test('explain is what explainFiles says of the same image, and predictions go on beside it', async (t) => {
  const folder = await temporaryFolder(t);
  const path = join(folder, 'pattern.png');
  await toSharp(pattern(12, 12)).toFile(path);
  const predictor = predictorOf(t, { workers: 1 });
  const [seen, green, { top }] = await Promise.all([
    predictor.explain(await readFile(path)),
    predictor.explain(path, { label: 'green', method: 'rollout' }),
    predictor.predict(path),
  ]);
  const found = explainFiles(predictor.model, info, [path]);
  for await (const file of found) if ('png' in file) t.deepEqual({ path, ...seen }, file);
  t.is(seen.label, top[0].label);
  t.true(Math.abs(seen.probability - top[0].probability) < 1e-6);
  t.is(green.label, 'green');
  t.deepEqual(green.grid, [2, 2]);
  t.deepEqual(await refused(t, predictor.explain(path, { label: 'pink' })), [
    'VALUE',
    "explain: expected one of the model's classes (blue, green, red), got 'pink'",
  ]);
  t.deepEqual(await refused(t, predictor.explain(Buffer.from('no image'))), [
    'IO',
    'decodeImage: expected a whole image in the bytes given, got Input buffer contains unsupported image format',
  ]);
});

test('openPredictor gives what tenon predict gives, and bfloat16 near it', async (t) => {
  const folder = await temporaryFolder(t);
  const path = join(folder, 'model.safetensors');
  const model = tinyModel();
  await saveModel(path, model.stateDict(), info);
  const files = await Promise.all(
    (await pngs(5)).map(async (png, i) => {
      const file = join(folder, `${i}.png`);
      await writeFile(file, png);
      return file;
    }),
  );
  const results = await predict(model, info, files, { topk: 3 });
  const predictor = await openPredictor(path, { topk: 3, workers: 1 });
  t.deepEqual({ ...predictor.stats }, { images: 0, batches: 0 }, 'the first image was none of the user');
  const bf16 = await openPredictor(path, { topk: 3, workers: 0, precision: 'bf16' });
  for (const [i, file] of files.entries()) {
    const result = results[i];
    const [exact, near] = await Promise.all([predictor.predict(file), bf16.predict(file)]);
    if ('error' in result) return t.fail(result.error);
    t.true(worstDifference(byClass(exact.top), byClass(result.top)) < 1e-6);
    const moved = worstDifference(byClass(near.top), byClass(exact.top));
    t.true(moved > 0 && moved < 5e-3, `${moved}`);
  }
  await Promise.all([predictor.close(), bf16.close()]);
  model.dispose();
});

test('openPredictor folds batch norms, to the same numbers', async (t) => {
  const folder = await temporaryFolder(t);
  const path = join(folder, 'resnet.safetensors');
  const options = { numClasses: 3 };
  const model = createModel('resnet_nano_32', options).eval();
  const resnet: ModelInfo = {
    ...info,
    name: 'resnet_nano_32',
    options,
    input: { ...info.input, size: [32, 32] },
  };
  await saveModel(path, model.stateDict(), resnet);
  const predictor = await openPredictor(path, { topk: 3, workers: 0 });
  t.true(Object.keys(model.stateDict()).some((name) => name.includes('running_var')));
  t.false(Object.keys(predictor.model.stateDict()).some((name) => name.includes('running_var')));
  const plain = new Predictor(model, resnet, { topk: 3, workers: 0, ownsModel: true });
  const image = pattern(40, 40);
  const [folded, unfolded] = await Promise.all([predictor.predict(image), plain.predict(image)]);
  t.true(worstDifference(byClass(folded.top), byClass(unfolded.top)) < 1e-5);
  await Promise.all([predictor.close(), plain.close()]);
});

test.serial(
  'a model that is not there or gives no numbers is an error that says so, and leaves nothing behind',
  async (t) => {
    const folder = await temporaryFolder(t);
    const path = join(folder, 'model.safetensors');
    const model = tinyModel();
    await saveModel(path, { ...model.stateDict(), 'head.bias': tensor([NaN, 0, 0]) }, info);
    model.dispose();
    const tensors = await collectTensors();
    t.deepEqual(await refused(t, openPredictor(path)), [
      'VALUE',
      `openPredictor: expected a model that gives finite numbers in ${path}, got NaN`,
    ]);
    t.deepEqual(await refused(t, openPredictor(join(folder, 'none'))), [
      'IO',
      `openPredictor: expected a run's folder, or a model's folder or file, got ${join(folder, 'none')}, which does not exist`,
    ]);
    await t.throwsAsync(openPredictor(path, { batchSize: 0 }), { instanceOf: TensorError });
    t.is(await collectTensors(), tensors);
  },
);

test('wrong arguments are sentences', async (t) => {
  const model = tinyModel();
  const message = (options: PredictorOptions): string | undefined =>
    t.throws(() => new Predictor(model, info, options), { instanceOf: TensorError })?.message;
  for (const name of ['topk', 'batchSize', 'maxPending', 'maxPixels']) {
    t.is(message({ [name]: 0 }), `Predictor: expected ${name} to be a whole number of at least 1, got 0`);
  }
  t.is(message({ workers: 1.5 }), 'Predictor: expected workers to be a whole number of at least 0, got 1.5');
  t.is(
    message({ precision: 'bf8' as 'bf16' }),
    "Predictor: expected a precision of float32, bf16, fp16, got 'bf8'",
  );
  const predictor = predictorOf(t);
  const wrong = (source: unknown): Promise<[string, string]> =>
    refused(t, predictor.predict(source as ImageSource));
  const expected = "expected an image's bytes, path or { data, height, width }";
  t.deepEqual(await wrong(42), ['VALUE', `predict: ${expected}, got 42`]);
  t.deepEqual(await wrong(undefined), ['VALUE', `predict: ${expected}, got undefined`]);
  t.deepEqual(await wrong({ data: [1, 2, 3], height: 1, width: 1 }), [
    'VALUE',
    `predict: ${expected}, got an object`,
  ]);
  t.deepEqual(await wrong({ data: new Uint8Array(5), height: 1, width: 2 }), [
    'SHAPE',
    'predict: expected 1 x 2 x 3 bytes of pixels, got 5',
  ]);
  t.is(predictor.pending, 0);
  model.dispose();
});
