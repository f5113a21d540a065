/**
 * Every family as an ONNX file, run by ONNX Runtime: its numbers are Tenon's.
 */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';

import test from 'ava';

import {
  BatchNorm2d,
  type FloatTensor,
  GELU,
  Linear,
  MaxPool2d,
  Module,
  type ModelOptions,
  type TensorModule,
  Sequential,
  SqueezeExcite,
  avgPool2d,
  cat,
  checkpoint,
  Conv2d,
  copyInto,
  createModel,
  defineOp,
  exportOnnx,
  foldBatchNorm,
  loadModel,
  manualSeed,
  memoryStats,
  mul,
  normal,
  saveModel,
  uniform,
} from '../../src/index.js';
import { exportWithin } from '../../src/onnx/write.js';
import { TensorProto_DataLocation } from '../../src/onnx/generated/onnx_pb.js';
import { expectSame, readOnnx } from '../helpers/onnx.js';
import { TINY_INFO, temporaryFolder, tinyModel } from '../helpers/training.js';

const VIT = { imgSize: 32, patchSize: 8, embedDim: 48, depth: 2, numHeads: 3, numClasses: 7 };
const SWIN = {
  imgSize: 32,
  patchSize: 2,
  windowSize: 4,
  embedDim: 16,
  depths: [2, 2],
  numHeads: [2, 4],
  numClasses: 7,
};
const RESNET = { block: 'basic', layers: [1, 2], channels: [8, 16], stemWidth: 8, imgSize: 48 };
const REGNET = { depths: [1, 2], widths: [16, 32], groupWidth: 8, stemWidth: 8, imgSize: 32, numClasses: 7 };

/** Name, settings and, where they are others than `imgSize`, the pixels of the images. */
const MODELS: readonly (readonly [
  what: string,
  name: string,
  options: ModelOptions,
  size?: readonly number[],
])[] = [
  ['ViT', 'vit', VIT],
  [
    'ViT with registers, q and k norms and layer scale',
    'vit',
    { ...VIT, regTokens: 3, qkNorm: true, initValues: 0.5 },
  ],
  ['ViT with positions on patches alone', 'vit', { ...VIT, regTokens: 1, noEmbedClass: true }],
  ['ViT with mean pooling', 'vit', { ...VIT, globalPool: 'avg', classToken: false }],
  [
    'ViT that normalises after, and before all',
    'vit',
    { ...VIT, blockNorm: 'post', preNorm: true, qkvBias: false },
  ],
  ['ViT for another size', 'vit', { ...VIT, dynamicImgSize: true }, [48, 32]],
  ['ViT without classes', 'vit', { ...VIT, numClasses: 0 }],
  ['DeiT, distilled', 'deit', { ...VIT, distilled: true }],
  ['DeiT, distilled, without classes', 'deit', { ...VIT, distilled: true, numClasses: 0 }],
  ['Swin with shifted windows', 'swin', SWIN],
  ['Swin with windows that do not divide the map', 'swin', { ...SWIN, windowSize: 5 }],
  [
    'Swin with rectangular maps, odd merging, absolute positions and no bias',
    'swin',
    { ...SWIN, imgSize: [28, 44], windowSize: 3, absolutePositions: true, qkvBias: false },
  ],
  ['Swin without classes', 'swin', { ...SWIN, numClasses: 0 }],
  ['ResNet with basic blocks', 'resnet', { ...RESNET, numClasses: 7 }],
  ['ResNet with bottlenecks, without classes', 'resnet', { ...RESNET, block: 'bottleneck', numClasses: 0 }],
  ['RegNetY', 'regnet', REGNET],
];

/** Weights and statistics that are not those of a fresh model, so that none is left out unseen. */
function stir(model: Module): void {
  for (const [name, value] of Object.entries(model.stateDict())) {
    if (value.dtype === 'int64') continue;
    const noise = normal(value.shape, { std: 0.1 });
    if (name.endsWith('running_var')) copyInto(value, uniform(value.shape, { low: 0.5, high: 2 }));
    else copyInto(value, (value.detach() as FloatTensor).add(noise));
  }
}

for (const [what, name, options, size] of MODELS) {
  test(`${what} gives the same numbers`, async (t) => {
    manualSeed(3);
    using model = createModel(name, options);
    stir(model);
    model.eval();
    const pixels = size ?? [options.imgSize ?? 0].flat();
    const shape = [3, pixels[0], pixels[1] ?? pixels[0]];
    const path = join(await temporaryFolder(t), 'model.onnx');
    const exported = await exportOnnx(path, model, size === undefined ? {} : { shape });
    t.is(exported.output.name, options.numClasses === 0 ? 'features' : 'logits');
    t.deepEqual(exported.input, { name: 'images', shape: ['batch', ...shape] });
    await expectSame(t, model, exported, shape);
  });
}

test('a model whose batch norms are folded gives the same numbers', async (t) => {
  using model = createModel('regnet', REGNET);
  stir(model);
  foldBatchNorm(model);
  const exported = await exportOnnx(join(await temporaryFolder(t), 'model.onnx'), model);
  const { graph } = await readOnnx(exported.path);
  t.false(graph?.node.some(({ opType }) => opType === 'BatchNormalization'));
  await expectSame(t, model, exported, [3, 32, 32]);
});

/** An op of a user, made of Tenon's. */
const square = defineOp({
  name: 'square',
  forward: (ctx, x: FloatTensor) => {
    ctx.save(x);
    return mul(x, x);
  },
  backward: ({ saved: [x] }, dy) => [mul(mul(x as FloatTensor, 2), dy as FloatTensor)],
});

/** Layers, and ops of its own. */
class Own extends Module {
  readonly stem = new Sequential([new Conv2d(2, 8, 3, { padding: 2, dilation: 2 }), new BatchNorm2d(8)]);
  readonly squeeze = new SqueezeExcite(8, 2);
  readonly pool = new MaxPool2d(2);
  readonly head = new Sequential([new Linear(16, 12), new GELU('tanh'), new Linear(12, 5)]);

  override forward(x: FloatTensor): FloatTensor {
    const map = this.pool.call(this.squeeze.call(this.stem.call(x)));
    const small = avgPool2d(map, 2, { padding: 1, countIncludePad: false });
    const [mean, energy] = [small.mean({ dim: [2, 3] }), square(small).mean({ dim: [-1, -2] })];
    return checkpoint((y) => this.head.call(y), cat([mean, energy], 1));
  }
}

test('a model of one’s own, of layers, ops and a checkpoint, gives the same numbers', async (t) => {
  using model = new Own();
  stir(model);
  model.eval();
  const path = join(await temporaryFolder(t), 'own.onnx');
  const exported = await exportOnnx(path, model, { shape: [2, 12, 20], output: 'scores' });
  t.deepEqual(exported.output, { name: 'scores', shape: ['batch', 5] });
  await expectSame(t, model, exported, [2, 12, 20]);
});

test('a model in 16 bits, and one in training, are exported in float32 and evaluation, and left as they are', async (t) => {
  manualSeed(3);
  const folder = await temporaryFolder(t);
  using model = createModel('vit', { ...VIT, dropRate: 0.5, dropPathRate: 0.5, posDropRate: 0.5 });
  const [first, second] = [...model.blocks];
  first.eval();
  const exported = await exportOnnx(join(folder, 'model.onnx'), model);
  t.deepEqual([model.training, first.training, second.training], [true, false, true]);
  t.true(model.parameters().every((parameter) => parameter.requiresGrad && parameter.grad === undefined));
  model.eval();
  await expectSame(t, model, exported, [3, 32, 32]);
  const half = await exportOnnx(join(folder, 'half.onnx'), model.to('bfloat16'));
  const { graph } = await readOnnx(half.path);
  t.false(graph?.node.some(({ opType }) => opType === 'Cast'));
  await expectSame(t, model.to('float32'), half, [3, 32, 32]);
});

test('a file has the names of the weights, one product for q, k and v, a free batch, and what the checkpoint says', async (t) => {
  using model = tinyModel();
  const path = join(await temporaryFolder(t), 'model.onnx');
  const { bytes, opset, dataPath } = await exportOnnx(path, model, { info: TINY_INFO });
  t.is(dataPath, undefined);
  t.is(opset, 20);
  const file = await readOnnx(path);
  t.deepEqual([file.irVersion, file.opsetImport[0].version, file.producerName], [9n, 20n, 'tenon']);
  const { graph } = file;
  const shapes = new Map(graph?.initializer.map(({ name, dims }) => [name, dims.map(Number)]));
  for (const [name, { shape }] of Object.entries(model.stateDict()))
    t.true(shapes.has(name), `${name} ${shape.join()}`);
  t.deepEqual(shapes.get('blocks.0.attn.qkv.weight'), [16, 48]);
  t.deepEqual(shapes.get('patch_embed.proj.weight'), [48, 16]);
  const reads = graph?.node.filter(({ input }) => input.includes('blocks.0.attn.qkv.weight'));
  t.deepEqual(
    reads?.map(({ opType }) => opType),
    ['MatMul'],
  );
  const [input] = graph?.input ?? [];
  const dims =
    input.type?.value.case === 'tensorType'
      ? input.type.value.value.shape?.dim.map(({ value }) => value.value)
      : [];
  t.deepEqual(dims, ['batch', 3n, 8n, 8n]);
  t.deepEqual(
    file.metadataProps.map(({ key, value }) => [key, JSON.parse(value) as unknown]),
    [['tenon.model', TINY_INFO]],
  );
  // 4 bytes for each weight, and little beside: 6 kB of names, nodes and axes.
  const weights = 4 * model.parameterCount;
  t.true(bytes > weights && bytes < weights + 10_000, `${bytes} for ${weights}`);
});

test('weights beyond a limit are in a file beside it', async (t) => {
  manualSeed(3);
  const folder = await temporaryFolder(t);
  using model = createModel('vit', VIT).eval();
  const path = join(folder, 'model.onnx');
  const exported = await exportWithin(path, model, {}, 100_000);
  t.deepEqual((await readdir(folder)).sort(), ['model.onnx', 'model.onnx.data']);
  t.is(exported.dataPath, `${path}.data`);
  const { graph } = await readOnnx(path);
  const external =
    graph?.initializer.filter(({ dataLocation }) => dataLocation === TensorProto_DataLocation.EXTERNAL) ?? [];
  t.true(external.length > 8 && external.every(({ rawData }) => rawData.length === 0));
  const places = external.map(({ externalData }) =>
    Object.fromEntries(externalData.map(({ key, value }) => [key, value])),
  );
  t.true(
    places.every(({ location, offset }) => location === 'model.onnx.data' && Number(offset) % 4096 === 0),
  );
  await expectSame(t, model, exported, [3, 32, 32]);
});

test('a checkpoint is exported with its info', async (t) => {
  const folder = await temporaryFolder(t);
  const saved = join(folder, 'model.safetensors');
  using first = tinyModel();
  await saveModel(saved, first.stateDict(), TINY_INFO);
  const { model, info } = await loadModel(saved);
  using loaded = model;
  await expectSame(t, loaded, await exportOnnx(join(folder, 'model.onnx'), loaded, { info }), [3, 8, 8]);
});

test.serial('exports keep no memory', async (t) => {
  using model = tinyModel();
  const path = join(await temporaryFolder(t), 'model.onnx');
  await exportOnnx(path, model);
  const before = memoryStats();
  for (let i = 0; i < 3; i++) await exportOnnx(path, model, { info: TINY_INFO });
  const failing: TensorModule = new Sequential([tinyModel(), new Linear(4, 4)]);
  await t.throwsAsync(exportOnnx(path, failing, { shape: [3, 8, 8] }));
  failing.dispose();
  t.is(memoryStats().blocks, before.blocks);
});
