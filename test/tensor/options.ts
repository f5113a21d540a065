/**
 * Every function, class and method with options refuses a name that none of them has: by name here, and none is left out.
 */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import test from 'ava';
import ts from 'typescript';

import * as tenon from '../../src/index.js';
import type { Image, LoaderOptions } from '../../src/index.js';
import { forbidden } from '../helpers/op-case.js';
import { TINY_INFO, tinyBatches, tinyImages, tinyModel } from '../helpers/training.js';

const { DataLoader, Predictor, SampleRandom, Teacher, TensorError, Trainer } = tenon;
const { createModel, inputTransform, memoryData, ones, openDataset, parseAugment, resolveSettings } = tenon;
const { subsetData, tensor, train } = tenon;

const x = ones([2, 3]);
const q = ones([1, 1, 2, 2]); // an image, or a head of queries
const index = tensor([0], { dtype: 'int64' });
const p = ones([1], { requiresGrad: true });
const layer = ones([1, 1, 2, 2]); // of attention
const vit = tinyModel();
const input = tensor(tinyImages(1).images, { shape: [1, 3, 8, 8] });
const picture = { data: new Uint8Array(192), height: 8, width: 8 };
const pixels = { classes: ['a'], pixels: new Uint8Array(192), height: 8, width: 8, labels: [0] };
const dataset = await openDataset(memoryData(pixels));
const transform = { steps: [], size: [8, 8], mean: [0, 0, 0], std: [1, 1, 1] } as const;
const trainer = new Trainer(vit, { epochs: 1 });
const predictor = new Predictor(vit, TINY_INFO, { workers: 0 });
const random = new SampleRandom(0, 0, 0);

/** A call with the options that it is given, by what is called. */
const CALLS: Readonly<Record<string, (options: never) => unknown>> = {
  // ops
  all: (o) => tenon.all(x.greater(0), o),
  any: (o) => tenon.any(x.greater(0), o),
  arange: (o) => tenon.arange(3, o),
  argmax: (o) => tenon.argmax(x, o),
  argmin: (o) => tenon.argmin(x, o),
  attention: (o) => tenon.attention(q, q, q, o),
  attentionPacked: (o) => tenon.attentionPacked(ones([1, 2, 3]), o),
  attentionRows: (o) => tenon.attentionRows(q, q, index, o),
  attentionWithLse: (o) => tenon.attentionWithLse(q, q, q, o),
  avgPool2d: (o) => tenon.avgPool2d(q, 1, o),
  batchNorm: (o) => tenon.batchNorm(q, undefined, undefined, o),
  bernoulli: (o) => tenon.bernoulli([2], 0.5, o),
  binaryCrossEntropy: (o) => tenon.binaryCrossEntropy(x, x, o),
  conv2d: (o) => tenon.conv2d(q, ones([1, 1, 1, 1]), undefined, o),
  crossEntropy: (o) => tenon.crossEntropy(ones([1, 3]), index, o),
  eye: (o) => tenon.eye(2, o),
  full: (o) => tenon.full([2], 1, o),
  gelu: (o) => tenon.gelu(x, o),
  indexAdd: (o) => tenon.indexAdd(x, 0, index, ones([1, 3]), o),
  interpolate: (o) => tenon.interpolate(q, [2, 2], o),
  layerNorm: (o) => tenon.layerNorm(x, undefined, undefined, o),
  layerNormResidual: (o) => tenon.layerNormResidual(x, x, undefined, undefined, o),
  linear: (o) => tenon.linear(x, ones([2, 3]), undefined, o),
  logSoftmax: (o) => tenon.logSoftmax(x, o),
  logsumexp: (o) => tenon.logsumexp(x, o),
  max: (o) => tenon.max(x, o),
  maxPool2d: (o) => tenon.maxPool2d(q, 1, o),
  mean: (o) => tenon.mean(x, o),
  min: (o) => tenon.min(x, o),
  mlp: (o) => tenon.mlp(x, ones([2, 3]), undefined, ones([3, 2]), undefined, o),
  normal: (o) => tenon.normal([2], o),
  oneHot: (o) => tenon.oneHot(index, 3, o),
  ones: (o) => ones([2], o),
  permutation: (o) => tenon.permutation(3, o),
  randint: (o) => tenon.randint([2], 0, 3, o),
  softmax: (o) => tenon.softmax(x, o),
  sum: (o) => tenon.sum(x, o),
  tensor: (o) => tensor([1], o),
  topk: (o) => tenon.topk(x, 1, o),
  truncatedNormal: (o) => tenon.truncatedNormal([2], o),
  uniform: (o) => tenon.uniform([2], o),
  variance: (o) => tenon.variance(x, o),
  windowAttention: (o) => tenon.windowAttention(ones([1, 2, 2, 3]), ones([9, 1]), o),
  zeros: (o) => tenon.zeros([2], o),
  // tensors, the tape and captured steps
  'Tensor.data': (o) => index.data(o),
  'Tensor.dataSync': (o) => index.dataSync(o),
  'Tensor.item': (o) => index.item(o),
  'Tensor.itemSync': (o) => index.itemSync(o),
  backward: (o) => tenon.backward(p, o),
  capture: (o) => tenon.capture(() => x, o),
  defineOp: (o) => tenon.defineOp(o),
  grad: (o) => tenon.grad(p, [p], o),
  // layers
  Attention: (o) => new tenon.Attention(4, o),
  AvgPool2d: (o) => new tenon.AvgPool2d(2, o),
  BatchNorm2d: (o) => new tenon.BatchNorm2d(4, o),
  Conv2d: (o) => new tenon.Conv2d(1, 1, 1, o),
  ConvNorm: (o) => new tenon.ConvNorm(1, 1, 1, o),
  'DropPath.residual': (o) => new tenon.DropPath(0.5).residual(x, () => x, o),
  LayerNorm: (o) => new tenon.LayerNorm(4, o),
  Linear: (o) => new tenon.Linear(4, 4, o),
  MaxPool2d: (o) => new tenon.MaxPool2d(2, o),
  Mlp: (o) => new tenon.Mlp(4, 8, o),
  'Module.loadStateDict': (o) => vit.loadStateDict(vit.stateDict(), o),
  PatchEmbed: (o) => new tenon.PatchEmbed(o),
  WindowAttention: (o) => new tenon.WindowAttention(4, o),
  // optimizers
  Adam: (o) => new tenon.Adam([p], o),
  AdamW: (o) => new tenon.AdamW([p], o),
  Ema: (o) => new tenon.Ema({}, o),
  GradScaler: (o) => new tenon.GradScaler(o),
  'GradScaler.step': (o) => new tenon.GradScaler().step(trainer.optimizer, o),
  'Optimizer.step': (o) => trainer.optimizer.step(o),
  SGD: (o) => new tenon.SGD([p], o),
  // models
  DistilledVisionTransformer: (o) => new tenon.DistilledVisionTransformer(o),
  'DistilledVisionTransformer.forwardHead': (o) =>
    createModel('deit_tiny_distilled_patch16_224', { depth: 1 }).forwardHead(ones([1, 198, 192]), o),
  RegNet: (o) => new tenon.RegNet(o),
  'RegNet.forwardHead': (o) => createModel('regnety_002').forwardHead(ones([1, 368, 1, 1]), o),
  ResNet: (o) => new tenon.ResNet(o),
  'ResNet.forwardHead': (o) => createModel('resnet18').forwardHead(ones([1, 512, 1, 1]), o),
  SwinTransformer: (o) => new tenon.SwinTransformer(o),
  'SwinTransformer.forwardHead': (o) =>
    createModel('swin_micro_patch2_window4_32').forwardHead(ones([1, 1, 1, 192]), o),
  VisionTransformer: (o) => new tenon.VisionTransformer(o),
  'VisionTransformer.forwardHead': (o) => vit.forwardHead(ones([1, 5, 16]), o),
  createModel: (o) => createModel('vit_nano_patch8_32', o),
  loadModel: (o) => tenon.loadModel('nowhere', o),
  loadPretrained: (o) => tenon.loadPretrained('nowhere', o),
  readSafetensors: (o) => tenon.readSafetensors('nowhere', o),
  // explanations
  attentionDistance: (o) => tenon.attentionDistance(layer, o),
  attentionRollout: (o) => tenon.attentionRollout([layer], o),
  explain: (o) => tenon.explain(vit, input, o),
  gradientRollout: (o) => tenon.gradientRollout([{ attention: layer, gradient: layer }], o),
  heatmap: (o) => tenon.heatmap(picture, [1], o),
  // data
  DataLoader: (o) => new DataLoader(dataset, o),
  applySteps: (o) => tenon.applySteps(picture, [Object.assign(o, { kind: 'verticalFlip' })], random),
  augment: (o) => tenon.augment(picture, Object.assign(o, { kind: '3a' }), 'bilinear', [0, 0, 0], random),
  colourJitter: (o) => tenon.colourJitter(picture, o, random),
  decodeImage: (o) => tenon.decodeImage(new Uint8Array(1), o),
  erase: (o) => tenon.erase(new Float32Array(192), 0, 8, 8, o, random),
  findData: (o) => tenon.findData('shapes', o),
  memoryData: (o) => memoryData(o),
  openDataset: (o) => openDataset(Object.assign(o, { kind: 'shapes' })),
  readImage: (o) => tenon.readImage('nowhere', o),
  resize: (o) => tenon.resize(picture, [8, 8], o),
  shapesData: (o) => tenon.shapesData(o),
  // training and what follows
  Predictor: (o) => new Predictor(vit, TINY_INFO, o),
  'Predictor.embed': (o) => predictor.embed(picture, o),
  'Predictor.explain': (o) => predictor.explain(picture, o),
  'Predictor.predict': (o) => predictor.predict(picture, o),
  Teacher: (o) => new Teacher(vit, o),
  Trainer: (o) => new Trainer(vit, o),
  'Trainer.evaluate': (o) => trainer.evaluate(tinyBatches(1, 1), o),
  'Trainer.run': (o) => trainer.run(tinyBatches(1, 1), o),
  cosineSchedule: (o) => tenon.cosineSchedule(o),
  distillationLoss: (o) => tenon.distillationLoss(x, x, o),
  evaluate: (o) => tenon.evaluate(vit, tinyBatches(1, 1), o),
  explainFiles: (o) => tenon.explainFiles(vit, TINY_INFO, ['nowhere'], o).next(),
  openPredictor: (o) => tenon.openPredictor('nowhere', o),
  embed: (o) => tenon.embed(vit, TINY_INFO, [], o),
  exportOnnx: (o) => tenon.exportOnnx('nowhere', vit, o),
  paramGroups: (o) => tenon.paramGroups(vit, 0.05, o),
  predict: (o) => tenon.predict(vit, TINY_INFO, [], o),
  resolveSettings: (o) => resolveSettings('nowhere', o),
  resume: (o) => tenon.resume('nowhere', o),
  train: (o) => train('nowhere', {}, o),
};

/** Whose options are no user's: what a Swin makes of itself, and the teacher that a run's settings name. */
const INNER: readonly string[] = ['SwinBlock', 'SwinStage', 'openTeacher'];

/** What a call complains by: its class or method, unless it is one of these. */
const COMPLAINS: Readonly<Record<string, string>> = {
  'Optimizer.step': 'AdamW',
  DistilledVisionTransformer: 'VisionTransformer',
  createModel: 'VisionTransformer',
};

/** Settings of a model are many, and have a sentence of their own. */
const SENTENCE =
  /^\w+: expected (options \{ .+ \}, got one named 'nonsense'|settings among .+, got 'nonsense')$/;

test('every function, class and method with options refuses a name that none of them has', async (t) => {
  for (const [name, call] of Object.entries(CALLS)) {
    const error = await t.throwsAsync(async () => await call({ nonsense: 1 } as never), undefined, name);
    if (!(error instanceof TensorError)) t.fail(`${name}: ${String(error)}`);
    else {
      t.regex(error.message, SENTENCE);
      const complains = COMPLAINS[name] === undefined ? name.split('.') : [COMPLAINS[name]];
      t.true(complains.includes(error.op), `${name}: ${error.message}`);
      t.is(error.code, 'VALUE');
    }
  }
});

test('options in options are refused by who was given them', async (t) => {
  const load = (more: object, change: object = {}): (() => unknown) =>
    forbidden((options: LoaderOptions) => new DataLoader(dataset, options), {
      batchSize: 1,
      transform: { ...transform, ...change },
      ...more,
    });
  const step = (...steps: readonly unknown[]): (() => unknown) => load({}, { steps });
  const policy = { ...(parseAugment('rand-m9') as object), level: 9 };
  const teacher = new Teacher(vit);
  const cases: readonly (readonly [call: () => unknown, message: string | RegExp])[] = [
    [
      load({ shard: { index: 0, counts: 2 } }),
      "DataLoader: expected options { index, count }, got one named 'counts'",
    ],
    [
      load({ mix: { mixup: 0.8, cutmix: 1, p: 0.5 } }),
      "DataLoader: expected options { mixup, cutmix, cutmixMinmax, prob, switchProb, mode, offEpoch }, got one named 'p'",
    ],
    [
      load({}, { erase: { p: 0.25 } }),
      "DataLoader: expected options { steps, size, mean, std, erasing, interpolation, cropPct, cropMode }, got one named 'erase'",
    ],
    [
      load({}, { erasing: { p: 0.25, mode: 'pixel', scale: [0.1, 0.2] } }),
      "DataLoader: expected options { p, mode, count, area, ratio }, got one named 'scale'",
    ],
    [load({}, { steps: undefined }), 'DataLoader: expected an array, got undefined for steps'],
    [
      step({ kind: 'resize', size: 8, interpolation: 'bilinear' }),
      "DataLoader: expected options { kind, size, mode }, got one named 'interpolation'",
    ],
    [
      step({ kind: 'verticalFlip', p: 0.5 }, { kind: 'randomFlip', p: 0.5 }),
      'DataLoader: expected a kind of resize, centerCrop, randomResizedCrop, randomCrop, horizontalFlip, verticalFlip, ' +
        "augment, colourJitter, got 'randomFlip'",
    ],
    [step(undefined), /^DataLoader: expected a kind of .*, got undefined$/],
    [
      step({ kind: 'augment', policy, mode: 'bicubic', fill: [0, 0, 0] }),
      "DataLoader: expected options { kind, magnitude, magnitudeStd, magnitudeMax, count, p, set }, got one named 'level'",
    ],
    [
      forbidden(openDataset, subsetData({ kind: 'folders' } as never, [0])),
      "openDataset: expected a kind of folder, tar, cifar, memory, shapes, module, subset, got 'folders'",
    ],
    [
      () => new Trainer(vit, { epochs: 1, distillation: { type: 'soft', teacher, temperature: 3 } as never }),
      "Trainer: expected options { type, tau, teacher, alpha }, got one named 'temperature'",
    ],
    [
      () => train('nowhere', {}, { onEpochEnd: () => undefined } as never),
      "train: expected options { onStart, onStep, onEvaluated, onEpoch, signal }, got one named 'onEpochEnd'",
    ],
  ];
  for (const [call, message] of cases)
    await t.throwsAsync(async () => await call(), { instanceOf: TensorError, code: 'VALUE', message });
});

test('what has more names on purpose is taken', async (t) => {
  const { steps } = inputTransform(TINY_INFO.input);
  t.is(new DataLoader(dataset, { batchSize: 1, transform: { ...TINY_INFO.input, steps } }).batches, 1);
  const read = (): Image => picture;
  const source = { classes: ['a'], length: 2, label: () => 0, read, files: ['a.png', 'b.png'] };
  t.is((await openDataset(source)).length, 2);
  const config = await resolveSettings('shapes', { epochs: 3, workers: 0 });
  t.deepEqual(await resolveSettings('shapes', config), config);
  const elsewhere = { ...config, data: 'elsewhere' };
  t.deepEqual(await resolveSettings('shapes', elsewhere), config);
});

/** The functions, classes ('Trainer') and methods ('Trainer.run') that the package exports, and that take options. */
function declared(): Set<string> {
  const folder = fileURLToPath(new URL('../../src/', import.meta.url));
  const names = new Set<string>();
  const isOptions = ({ name, type }: ts.ParameterDeclaration, file: ts.SourceFile): boolean =>
    name.getText(file) === 'options' || /(Options|Settings)\b/.test(type?.getText(file) ?? '');
  for (const path of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
    if (!path.endsWith('.d.ts')) continue;
    const text = readFileSync(join(folder, path), 'utf8');
    const file = ts.createSourceFile(path, text, ts.ScriptTarget.Latest);
    const note = (name: string, { parameters }: ts.SignatureDeclarationBase): void => {
      if (parameters.some((parameter) => isOptions(parameter, file))) names.add(name);
    };
    for (const statement of file.statements) {
      const name = (statement as { readonly name?: ts.Identifier }).name?.text ?? '';
      if (!Object.hasOwn(tenon, name)) continue;
      if (ts.isFunctionDeclaration(statement)) note(name, statement);
      if (!ts.isClassDeclaration(statement)) continue;
      for (const member of statement.members) {
        if (ts.isConstructorDeclaration(member)) note(name, member);
        else if (ts.isMethodDeclaration(member)) note(`${name}.${member.name.getText(file)}`, member);
      }
    }
  }
  return names;
}

test('the table above has all that take options', (t) => {
  const names = declared();
  t.true(names.size > 100, [...names].join());
  const missing = [...names].filter((name) => !Object.hasOwn(CALLS, name) && !INNER.includes(name));
  t.deepEqual(missing, []);
});
