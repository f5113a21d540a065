/**
 * Images as vectors: the features that a model's head reads, of length 1, each in its file's place.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import test from 'ava';

import {
  type FileEmbedding,
  type Model,
  Predictor,
  SampleRandom,
  applySteps,
  createModel,
  decodeImage,
  embed,
  inferenceMode,
  inputTransform,
  leakCheck,
  manualSeed,
  normalizeInto,
  openPredictor,
  predict,
  saveModel,
  tensor,
  zeros,
} from '../../src/index.js';
import { pattern, flat, toSharp } from '../helpers/images.js';
import { TINY_INFO, temporaryFolder, tinyModel } from '../helpers/training.js';

const info = TINY_INFO;

const vectorOf = (result: FileEmbedding): Float32Array => {
  if ('error' in result) throw new Error(result.error);
  return result.embedding;
};

const dot = (a: Float32Array, b: Float32Array): number => a.reduce((sum, x, i) => sum + x * b[i], 0);

const worst = (a: Float32Array, b: Float32Array): number =>
  a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i])), Math.abs(a.length - b.length));

/** Seven pictures, of which the last is the first again. */
async function pictures(folder: string): Promise<string[]> {
  const paths = Array.from({ length: 7 }, (_, i) => join(folder, `${i}.png`));
  const images = [
    pattern(20, 14),
    ...[10, 60, 110, 160, 210].map((red) => flat(9, 12, [red, 255 - red, 40])),
  ];
  for (const [i, path] of paths.entries())
    await toSharp(images[i % 6])
      .png()
      .toFile(path);
  return paths;
}

/** What the head reads of a file, by the model's own methods. */
async function featuresOf(model: Model, path: string): Promise<Float32Array> {
  const { steps, size, mean, std } = inputTransform(info.input);
  const view = applySteps(await decodeImage(await readFile(path)), steps, new SampleRandom(0, 0, 0));
  const pixels = new Float32Array(3 * size[0] * size[1]);
  normalizeInto(view, mean, std, pixels, 0);
  using features = inferenceMode(() =>
    model
      .forwardHead(model.forwardFeatures(tensor(pixels, { shape: [1, 3, ...size] })), { preLogits: true })
      .to('float32'),
  );
  return await features.data();
}

const SMALL = { imgSize: 8, numClasses: 3 };
const MODELS: Readonly<Record<string, () => Model>> = {
  ViT: () => tinyModel(),
  'a ViT without classes': () => tinyModel({ numClasses: 0 }),
  ResNet: () => createModel('resnet18', { ...SMALL, stem: '3x3' }),
};

for (const [name, make] of Object.entries(MODELS)) {
  test(`an embedding is what the head of ${name} reads`, async (t) => {
    manualSeed(2);
    const model = make().eval();
    const paths = await pictures(await temporaryFolder(t));
    const features = await embed(model, info, paths, { normalize: false, batchSize: 3 });
    const normalized = await embed(model, info, paths);
    t.deepEqual(
      features.map(({ path }) => path),
      paths,
    );
    for (const [i, path] of paths.entries()) {
      const expected = await featuresOf(model, path);
      const [raw, unit] = [vectorOf(features[i]), vectorOf(normalized[i])];
      t.true(worst(raw, expected) < 1e-5 * Math.hypot(...expected), path);
      const length = Math.hypot(...expected);
      t.true(
        worst(
          unit,
          expected.map((x) => x / length),
        ) < 1e-5,
        path,
      );
      t.true(Math.abs(Math.hypot(...unit) - 1) < 1e-6);
    }
    const [first, second, last] = [0, 1, 6].map((i) => vectorOf(normalized[i]));
    t.true(dot(first, last) > 1 - 1e-6, 'the same picture');
    t.true(dot(first, second) < 1 - 1e-4, 'another one');
    model.dispose();
  });
}

test('bf16 gives nearly the same, in float32', async (t) => {
  const model = tinyModel();
  const paths = await pictures(await temporaryFolder(t));
  const [exact, rounded] = [
    await embed(model, info, paths),
    await embed(model, info, paths, { precision: 'bf16' }),
  ];
  for (const [i, result] of exact.entries()) {
    const [a, b] = [vectorOf(result), vectorOf(rounded[i])];
    t.true(b instanceof Float32Array);
    const difference = worst(a, b);
    t.true(difference > 0 && difference < 0.02, `${difference}`);
  }
});

test('a file that is no image is reported in its place', async (t) => {
  const folder = await temporaryFolder(t);
  const paths = await pictures(folder);
  const broken = join(folder, 'broken.png');
  await writeFile(broken, 'no image');
  const model = tinyModel();
  const results = await embed(model, info, [paths[0], broken, paths[1]], { batchSize: 2 });
  t.deepEqual(
    results.map((result) => ('error' in result ? 'error' : result.embedding.length)),
    [16, 'error', 16],
  );
  t.true('error' in results[1] && results[1].error.includes('broken.png'));
  t.deepEqual(await embed(model, info, []), []);
});

test('a model computes in evaluation mode, and is left in its own, module by module', async (t) => {
  const paths = await pictures(await temporaryFolder(t));
  const model = tinyModel({ dropRate: 0.5, projDropRate: 0.5 });
  const still = await embed(model.eval(), info, paths);
  model.train();
  model.blocks.eval();
  const modes = (): boolean[] => model.namedModules().map(([, module]) => module.training);
  const before = modes();
  t.deepEqual(await embed(model, info, paths), still);
  await predict(model, info, paths);
  const predictor = new Predictor(model, info, { workers: 0 });
  t.deepEqual(
    (await predictor.embed(paths[0])).embedding,
    vectorOf((await embed(model, info, [paths[0]]))[0]),
  );
  await predictor.predict(paths[0]);
  await predictor.close();
  t.deepEqual(modes(), before);
  t.is(new Set(before).size, 2);
});

test('an upload may be an ArrayBuffer, as fetch gives it', async (t) => {
  const [path] = await pictures(await temporaryFolder(t));
  const bytes = new Uint8Array(await readFile(path)).buffer;
  for (const workers of [0, 1]) {
    const predictor = new Predictor(tinyModel(), info, { workers, ownsModel: true });
    t.deepEqual(await predictor.embed(bytes), await predictor.embed(path));
    t.deepEqual(await predictor.predict(bytes), await predictor.predict(path));
    t.true(bytes.byteLength > 0, 'it stays whole');
    await predictor.close();
  }
});

test('wrong arguments, and features that are not finite, are sentences', async (t) => {
  const model = tinyModel();
  const paths = await pictures(await temporaryFolder(t));
  await t.throwsAsync(embed(model, info, paths, { precision: 'bf8' as 'bf16' }), {
    message: "embed: expected a precision of float32, bf16, fp16, got 'bf8'",
  });
  await t.throwsAsync(embed(model, info, paths[0] as unknown as string[]), {
    message: `embed: expected an array, got '${paths[0]}' for files`,
  });
  await t.throwsAsync(embed(model, info, paths, { batchSize: 0 }), {
    message: 'embed: expected batchSize to be a whole number of at least 1, got 0',
  });
  const bias = model.stateDict()['norm.bias'];
  model.loadStateDict({ ...model.stateDict(), 'norm.bias': zeros([16]).add(NaN) });
  await t.throwsAsync(embed(model, info, paths), {
    code: 'VALUE',
    message: 'embed: expected a model that gives finite features, got ones of length NaN',
  });
  t.true(bias.shape.length === 1);
});

test.serial('a predictor answers both questions at once, in batches of each', async (t) => {
  const model = tinyModel();
  const paths = await pictures(await temporaryFolder(t));
  const expected = await embed(model, info, paths);
  const predictor = new Predictor(model, info, { workers: 0, batchSize: 32 });
  const check = async (): Promise<void> => {
    const [vectors, named] = await Promise.all([
      Promise.all(paths.map((path) => predictor.embed(path))),
      Promise.all(paths.map((path) => predictor.predict(path))),
    ]);
    for (const [i, { embedding }] of vectors.entries()) {
      t.true(worst(embedding, vectorOf(expected[i])) < 1e-5);
      t.is(named[i].top.length, 3);
    }
  };
  await check();
  await leakCheck(check);
  t.is(predictor.stats.images, 2 * 2 * 7);
  t.is(predictor.pending, 0);
  const { embedding } = await predictor.embed(paths[0], { normalize: false });
  t.true(worst(embedding, await featuresOf(model, paths[0])) < 1e-5);
  const signal = AbortSignal.abort(new Error('gone'));
  await t.throwsAsync(predictor.embed(paths[0], { signal }), { message: 'gone' });
  await t.throwsAsync(predictor.embed('nowhere.png'), { code: 'IO' });
  await predictor.close();
  await t.throwsAsync(predictor.embed(paths[0]), { code: 'DISPOSED', message: /^embed: / });
});

test('a model without classes embeds, and cannot predict', async (t) => {
  const folder = await temporaryFolder(t);
  const path = join(folder, 'headless.safetensors');
  const [image] = await pictures(folder);
  const headless = { ...info, classes: [], options: { ...info.options, numClasses: 0 } };
  const model = tinyModel({ numClasses: 0 });
  await saveModel(path, model.stateDict(), headless);
  const predictor = await openPredictor(path, { workers: 0 });
  t.deepEqual(predictor.stats, { images: 0, batches: 0 });
  const [expected] = await embed(model, headless, [image]);
  t.deepEqual((await predictor.embed(image)).embedding, vectorOf(expected));
  const none = {
    code: 'VALUE',
    message: 'predict: expected a model with classes, got one without; embed() needs none',
  };
  await t.throwsAsync(predictor.predict(image), none);
  await t.throwsAsync(predict(model, headless, [image]), none);
  await predictor.close();
});
