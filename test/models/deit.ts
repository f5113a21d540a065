import test from 'ava';

import {
  DistilledVisionTransformer,
  type FloatTensor,
  TensorError,
  VisionTransformer,
  createModel,
  describeModel,
  listModels,
  manualSeed,
  modelEntry,
  noGrad,
  normal,
} from '../../src/index.js';
import { asTensor, goldenTest, readGolden, relativeError } from '../helpers/golden.js';
import { matchesTimm, timmConfig } from '../helpers/timm.js';

const TINY = { imgSize: 16, patchSize: 4, embedDim: 24, depth: 2, numHeads: 2, numClasses: 5 } as const;
const FOLDER = 'timm-deit-distilled';

goldenTest(
  "a distilled DeiT's features, logits, loss and gradients are timm's",
  `models/${FOLDER}`,
  async (t, device) => {
    using model = new DistilledVisionTransformer(timmConfig(FOLDER));
    await matchesTimm(t, FOLDER, model, device);
    const { tensors: io } = readGolden(`models/${FOLDER}/io.safetensors`);
    const images = asTensor(io['pixel_values'], device) as FloatTensor;
    const [logits, distLogits] = noGrad(() => model.heads(images));
    t.true(relativeError(await logits.data(), io['train.cls_logits'].data) < 1e-4);
    t.true(relativeError(await distLogits.data(), io['train.dist_logits'].data) < 1e-4);
  },
);

test('the prediction is the mean of the heads, the features that of the tokens', async (t) => {
  manualSeed(2);
  using model = new DistilledVisionTransformer({ ...TINY, regTokens: 2 }).eval();
  const images = normal([2, 3, 16, 16]);
  const [a, b] = noGrad(() => model.heads(images));
  const mean = await noGrad(() => a.add(b).div(2)).data();
  t.deepEqual(await noGrad(() => model.call(images)).data(), mean);
  const tokens = noGrad(() => model.forwardFeatures(images));
  t.deepEqual([...tokens.shape], [2, 4 + 16, 24]);
  const features = noGrad(() => model.forwardHead(tokens, { preLogits: true }));
  const wanted = noGrad(() => tokens.narrow(1, 0, 2).mean({ dim: 1 }));
  t.true(relativeError(await features.data(), await wanted.data()) < 1e-6);
});

test('parameters are counted as they are made, with the distillation token and without, and of DeiT III', (t) => {
  for (const name of [
    'deit_small_patch16_224',
    'deit_small_distilled_patch16_224',
    'deit3_small_patch16_224',
  ] as const) {
    const small = { ...TINY, imgSize: 32, depth: 3 };
    using model = createModel(name, small);
    const entry = modelEntry(name);
    const { parameters } = describeModel({ ...entry, config: { ...entry.config, ...small } });
    t.is(parameters, model.parameterCount, name);
  }
});

test('multiply-accumulates are those of the table in the specification', (t) => {
  const expected = {
    deit_tiny_distilled_patch16_224: 1.26,
    deit_small_distilled_patch16_224: 4.62,
    deit_base_distilled_patch16_224: 17.66,
    deit_base_distilled_patch16_384: 55.59,
  };
  for (const [name, gmacs] of Object.entries(expected)) {
    t.is(Number((describeModel(modelEntry(name)).gflops / 2).toFixed(2)), gmacs, name);
  }
});

test('DeiT III has layer scale and positions on the patches alone', (t) => {
  t.is(listModels('deit3_*').length, 8);
  using model = createModel('deit3_small_patch16_224', { ...TINY });
  t.true(model instanceof VisionTransformer && !(model instanceof DistilledVisionTransformer));
  t.deepEqual([...model.posEmbed.shape], [1, 16, 24]);
  t.deepEqual([...model.stateDict()['blocks.1.ls2.gamma'].shape], [24]);
});

test('tokens and positions have no weight decay', (t) => {
  using model = createModel('deit_tiny_distilled_patch16_224', { ...TINY });
  t.deepEqual([...model.noWeightDecay].sort(), ['cls_token', 'dist_token', 'pos_embed', 'reg_token']);
});

test('pooling by anything but the tokens is an error', (t) => {
  t.throws(() => new DistilledVisionTransformer({ ...TINY, globalPool: 'avg' }), {
    instanceOf: TensorError,
    message: "DistilledVisionTransformer: expected two class tokens with positions, got globalPool 'avg'",
  });
  t.throws(() => new DistilledVisionTransformer({ ...TINY, noEmbedClass: true }), {
    message: /got noEmbedClass$/,
  });
});
