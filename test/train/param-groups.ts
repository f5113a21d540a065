import { readFileSync } from 'node:fs';

import test from 'ava';

import {
  Linear,
  type Model,
  Module,
  type FloatTensor,
  type LayerNames,
  TensorError,
  createModel,
  paramGroups,
} from '../../src/index.js';
import { sharedPath, sharedTest } from '../helpers/golden.js';
import { tinyModel } from '../helpers/training.js';

/** The scale of each parameter's learning rate, by its name. */
function scalesOf(model: Model, layerDecay: number): Map<string, number | undefined> {
  const names = new Map(model.namedParameters().map(([name, tensor]) => [tensor, name]));
  return new Map(
    paramGroups(model, 0.05, { layerDecay }).flatMap(({ params, lrScale }) =>
      params.map((tensor): [string, number | undefined] => [names.get(tensor)!, lrScale]),
    ),
  );
}

/** The layers of a model by the parameters' names: of a decay of 1/2, whose powers are exact. */
function layersBy(model: Model): (name: string) => number {
  const scales = scalesOf(model, 0.5);
  return (name) => model.layerNames.length - 1 + Math.log2(scales.get(name)!);
}

test('matrices decay; biases, norms, scales, positions and tokens do not', (t) => {
  const model = tinyModel({ regTokens: 2, initValues: 1e-5, qkNorm: true });
  const [decay, noDecay] = paramGroups(model, 0.05);
  const names = new Map(model.namedParameters().map(([name, tensor]) => [tensor, name]));
  t.deepEqual(
    decay.params.map((tensor) => names.get(tensor)),
    [
      'patch_embed.proj.weight',
      'blocks.0.attn.qkv.weight',
      'blocks.0.attn.proj.weight',
      'blocks.0.mlp.fc1.weight',
      'blocks.0.mlp.fc2.weight',
      'head.weight',
    ],
  );
  t.is(decay.weightDecay, 0.05);
  t.is(noDecay.weightDecay, 0);
  const spared = noDecay.params.map((tensor) => names.get(tensor));
  for (const name of [
    'cls_token',
    'reg_token',
    'pos_embed',
    'patch_embed.proj.bias',
    'blocks.0.norm1.weight',
    'blocks.0.ls1.gamma',
    'blocks.0.attn.q_norm.weight',
    'norm.bias',
    'head.bias',
  ]) {
    t.true(spared.includes(name), name);
  }
  t.is(decay.params.length + noDecay.params.length, model.parameters().length);
});

test('frozen parameters are in no group', (t) => {
  const model = tinyModel().freeze();
  model.head!.freeze(false);
  const groups = paramGroups(model, 0.1);
  t.deepEqual(
    groups.map(({ params, weightDecay }) => [params.map(({ shape }) => shape), weightDecay]),
    [
      [[[3, 16]], 0.1],
      [[[3]], 0],
    ],
  );
});

test('without a layer decay no group has a scale', (t) => {
  const model = tinyModel();
  for (const groups of [paramGroups(model, 0.05), paramGroups(model, 0.05, { layerDecay: 1 })]) {
    t.deepEqual(
      groups.map((group) => Object.keys(group)),
      [
        ['params', 'weightDecay'],
        ['params', 'weightDecay'],
      ],
    );
  }
});

const NUMBERS = sharedPath('reference/golden_numbers.json');

sharedTest("a ViT's layers have the scales of MAE", NUMBERS, (t) => {
  const numbers = JSON.parse(readFileSync(NUMBERS, 'utf8')) as Record<string, readonly number[]>;
  const golden = numbers['mae_layer_scales_depth12_decay0.65'];
  const model = tinyModel({ depth: 12, regTokens: 1, preNorm: true });
  const scales = scalesOf(model, 0.65);
  const first = ['cls_token', 'reg_token', 'pos_embed', 'patch_embed.proj.weight', 'norm_pre.bias'];
  const names = (layer: number): readonly string[] =>
    layer === 0
      ? first
      : layer === 13
        ? ['norm.weight', 'norm.bias', 'head.weight', 'head.bias']
        : [`blocks.${layer - 1}.attn.qkv.weight`, `blocks.${layer - 1}.mlp.fc2.bias`];
  golden.forEach((scale, layer) => {
    for (const name of names(layer)) {
      const got = scales.get(name)!;
      t.true(Math.abs(got - scale) <= 1e-15 * scale, `${name}: ${got} for ${scale}`);
    }
  });
  t.is(golden.length, 14);
  // With and without weight decay, and nothing to decay in the norms.
  t.is(paramGroups(model, 0.05, { layerDecay: 0.65 }).length, 2 * 14);
  t.is(scales.size, model.parameters().length);
});

test("a DeiT's second token is a token, and its second head a head", (t) => {
  const layer = layersBy(createModel('deit_tiny_distilled_patch16_224', { imgSize: 32, depth: 2 }));
  t.deepEqual(
    ['dist_token', 'cls_token', 'blocks.0.norm1.bias', 'blocks.1.norm1.bias', 'norm.bias'].map(layer),
    [0, 0, 1, 2, 3],
  );
  t.deepEqual(['head.weight', 'head_dist.weight', 'head_dist.bias'].map(layer), [3, 3, 3]);
});

test("a Swin's layers are its blocks; merging is of the block before it", (t) => {
  const model = createModel('swin_tiny_patch4_window7_224', { absolutePositions: true, embedDim: 6 });
  t.is(model.layerNames.length, 14); // depths 2, 2, 6, 2
  const layer = layersBy(model);
  const expected: Record<string, number> = {
    'patch_embed.proj.weight': 0,
    'patch_embed.norm.bias': 0,
    'layers.0.blocks.0.attn.qkv.weight': 1,
    'layers.0.blocks.1.attn.relative_position_bias_table': 2,
    'layers.1.downsample.reduction.weight': 2,
    'layers.1.blocks.0.mlp.fc1.weight': 3,
    'layers.2.downsample.norm.weight': 4,
    'layers.2.blocks.5.norm2.bias': 10,
    'layers.3.downsample.reduction.weight': 10,
    'layers.3.blocks.0.attn.proj.weight': 11,
    'layers.3.blocks.1.attn.proj.weight': 12,
    absolute_pos_embed: 13,
    'norm.weight': 13,
    'head.fc.weight': 13,
  };
  for (const [name, wanted] of Object.entries(expected)) t.is(layer(name), wanted, name);
});

test("a ResNet's and a RegNetY's layers are their blocks in order", (t) => {
  const resnet = createModel('resnet18', { layers: [2, 3], channels: [8, 16], stemWidth: 8, numClasses: 3 });
  t.deepEqual(
    ['conv1.weight', 'bn1.bias', 'layer1.1.conv2.weight', 'layer2.0.downsample.0.weight', 'fc.bias'].map(
      layersBy(resnet),
    ),
    [0, 0, 2, 3, 6],
  );
  const regnet = createModel('regnety_002', { numClasses: 3 }); // depths 1, 1, 4, 7
  t.deepEqual(
    ['stem.conv.weight', 's1.b1.se.fc1.weight', 's3.b4.conv3.bn.weight', 's4.b7.conv1.conv.weight'].map(
      layersBy(regnet),
    ),
    [0, 1, 6, 13],
  );
  t.is(layersBy(regnet)('head.fc.weight'), 14);
});

class Own extends Module<[images: FloatTensor], FloatTensor> {
  readonly stem = new Linear(4, 4);
  readonly body = new Linear(4, 4);
  readonly norm = new Linear(4, 4);
  readonly head = new Linear(4, 2);

  constructor(readonly layerNames?: LayerNames) {
    super();
  }

  override forward(x: FloatTensor): FloatTensor {
    return this.head.call(this.norm.call(this.body.call(this.stem.call(x))));
  }
}

test('a model of your own says its layers; what it does not name is of the last', (t) => {
  const groups = paramGroups(new Own([['stem'], ['body'], ['head']]), 0.1, { layerDecay: 0.5 });
  t.deepEqual(
    groups.map(({ params, weightDecay, lrScale }) => [params.length, weightDecay, lrScale]),
    [
      [1, 0.1, 0.25],
      [1, 0, 0.25],
      [1, 0.1, 0.5],
      [1, 0, 0.5],
      [2, 0.1, 1],
      [2, 0, 1],
    ],
  );
});

test('a layer decay that makes no sense, or that a model cannot have, is an error', (t) => {
  const message = (model: Own, layerDecay: number): string =>
    t.throws(() => paramGroups(model, 0.1, { layerDecay }), { instanceOf: TensorError, code: 'VALUE' })
      .message;
  for (const layerDecay of [0, -1, 1.5, NaN]) {
    t.is(
      message(new Own([['stem'], ['head']]), layerDecay),
      `paramGroups: expected a layerDecay above 0 and up to 1, got ${layerDecay}`,
    );
  }
  t.is(
    message(new Own(), 0.5),
    'paramGroups: expected a model with layerNames for layerDecay, got an Own without',
  );
  t.is(
    message(new Own([['stem'], ['bodi'], ['head']]), 0.5),
    'paramGroups: expected parameters in each of layerNames, got none in layer 1: bodi',
  );
});
