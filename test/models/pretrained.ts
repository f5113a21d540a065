/**
 * Models of other libraries: their names, their configurations, and what becomes of positions and classifiers.
 */
import { existsSync } from 'node:fs';
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import test from 'ava';

import {
  DistilledVisionTransformer,
  type InputSpec,
  type LayoutName,
  type FloatTensor,
  type Model,
  type ModelInfo,
  type Tensor,
  type SwinTransformer,
  type VisionTransformer,
  createModel,
  inferenceMode,
  loadModel,
  loadPretrained,
  manualSeed,
  normal,
  readPretrainedInfo,
  readSafetensors,
  readSafetensorsHeader,
  saveModel,
  savePretrained,
  saveSafetensors,
} from '../../src/index.js';
import { goldenTest } from '../helpers/golden.js';
import { TINY_INFO, temporaryFolder, tinyModel } from '../helpers/training.js';
import { matchesTransformers } from '../helpers/transformers.js';

for (const folder of ['hf-vit', 'hf-deit', 'hf-deit-distilled']) {
  goldenTest(
    `${folder}: logits, hidden states, loss and gradients are those of transformers`,
    `models/${folder}`,
    (t, device) =>
      // transformers' last hidden state comes after the final norm.
      matchesTransformers(
        t,
        folder,
        (model) => [...(model as VisionTransformer).blocks].slice(0, -1),
        device,
      ),
  );
}

goldenTest(
  'hf-swin: logits, hidden states, loss and gradients are those of transformers',
  'models/hf-swin',
  (t, device) =>
    // There a merging ends a stage, and the last hidden state comes before the final norm.
    matchesTransformers(
      t,
      'hf-swin',
      (model) => {
        const last = (model as SwinTransformer).layers.at(-1)!;
        return [last.downsample!, last];
      },
      device,
    ),
);

const INPUT: InputSpec = {
  size: [16, 16],
  mean: [0.485, 0.456, 0.406],
  std: [0.229, 0.224, 0.225],
  interpolation: 'bicubic',
  cropPct: 0.8,
  cropMode: 'squash',
};
const SMALL = { imgSize: 16, patchSize: 4, embedDim: 24, depth: 2, numHeads: 2, numClasses: 3 } as const;
const SWIN = {
  imgSize: 16,
  patchSize: 2,
  windowSize: 4,
  embedDim: 16,
  depths: [2, 2],
  numHeads: [2, 4],
  numClasses: 3,
} as const;
const CLASSES = ['cat', 'dog', 'fox'];

/** A small model of a name, and what a file says of it. */
function small(name: string, settings = {}): { model: Model; info: ModelInfo } {
  manualSeed(7);
  const options = name.startsWith('swin') ? { ...SWIN, ...settings } : { ...SMALL, ...settings };
  return {
    model: createModel(name, options).eval(),
    info: { name, options, classes: CLASSES, input: INPUT },
  };
}

async function logitsOf(model: Model, size = 16): Promise<ArrayLike<number>> {
  manualSeed(8);
  const images = normal([2, 3, size, size]);
  return inferenceMode(() => model.call(images)).data();
}

const MODELS: readonly [name: string, settings: object, layouts: readonly LayoutName[]][] = [
  ['vit_tiny_patch16_224', {}, ['timm', 'hf', 'hf-current']],
  ['vit_tiny_patch16_224', { regTokens: 1, qkvBias: false }, ['timm', 'hf', 'hf-current']],
  ['deit_tiny_patch16_224', {}, ['timm', 'hf', 'hf-current']],
  ['deit_tiny_distilled_patch16_224', {}, ['timm', 'hf', 'hf-current']],
  ['deit3_small_patch16_224', {}, ['timm', 'original']],
  ['swin_tiny_patch4_window7_224', SWIN, ['timm', 'hf', 'hf-current', 'original']],
];

for (const [name, settings, layouts] of MODELS) {
  for (const layout of layouts) {
    test(`${name} ${JSON.stringify(settings)} comes back from ${layout} as it went`, async (t) => {
      const folder = await temporaryFolder(t);
      const { model, info } = small(name, settings);
      const wanted = await logitsOf(model);
      await savePretrained(folder, model, info, layout);
      const back = await loadPretrained(folder);
      t.is(back.report.layout, layout);
      t.deepEqual(await logitsOf(back.model), wanted);
      t.deepEqual(back.info.classes, CLASSES);
      t.deepEqual(back.info.input, INPUT);
      t.is(back.model.constructor, model.constructor);
      back.model.dispose();
      model.dispose();
    });
  }
}

test('files of transformers hold the published names, a split query, key and value among them', async (t) => {
  const folder = await temporaryFolder(t);
  const { model, info } = small('deit_tiny_distilled_patch16_224');
  await savePretrained(folder, model, info, 'hf');
  const { entries } = await readSafetensorsHeader(join(folder, 'model.safetensors'));
  t.deepEqual([...entries['deit.encoder.layer.1.attention.attention.key.weight'].shape], [24, 24]);
  t.true('distillation_classifier.bias' in entries);
  t.true('deit.embeddings.distillation_token' in entries);
  const config = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8')) as Record<string, unknown>;
  t.deepEqual(config['architectures'], ['DeiTForImageClassificationWithTeacher']);
  t.deepEqual(config['id2label'], { 0: 'cat', 1: 'dog', 2: 'fox' });
  t.is(config['intermediate_size'], 96);
  const preprocessor = JSON.parse(await readFile(join(folder, 'preprocessor_config.json'), 'utf8')) as Record<
    string,
    unknown
  >;
  t.deepEqual(preprocessor['size'], { height: 20, width: 20 });
  t.is(preprocessor['resample'], 3);
  model.dispose();
});

test("a folder of timm has timm's names and arguments", async (t) => {
  const folder = await temporaryFolder(t);
  const { model, info } = small('deit_tiny_distilled_patch16_224');
  await savePretrained(join(folder, 'hf'), model, info, 'hf');
  const other = await loadPretrained(join(folder, 'hf'));
  t.is(other.info.name, 'deit');
  await savePretrained(join(folder, 'timm'), other.model, other.info, 'timm');
  const config = JSON.parse(await readFile(join(folder, 'timm/config.json'), 'utf8')) as object;
  t.like(config, {
    architecture: 'deit_tiny_distilled_patch16_224',
    num_classes: 3,
    model_args: { img_size: 16, patch_size: 4, embed_dim: 24, depth: 2, num_heads: 2 },
    norm_eps: 1e-6,
  });
  t.false('distilled' in (config as { model_args: object }).model_args);
  const back = await loadPretrained(join(folder, 'timm'));
  t.deepEqual(await logitsOf(back.model), await logitsOf(model));
  for (const one of [model, other.model, back.model]) one.dispose();
});

test('weights in several files with an index are one model', async (t) => {
  const folder = await temporaryFolder(t);
  const { model, info } = small('vit_tiny_patch16_224');
  await savePretrained(folder, model, info, 'hf');
  const { tensors } = await readSafetensors(join(folder, 'model.safetensors'));
  const names = Object.keys(tensors);
  const halves = [names.slice(0, 9), names.slice(9)];
  const weightMap: Record<string, string> = {};
  for (const [i, half] of halves.entries()) {
    const file = `model-0000${i + 1}-of-00002.safetensors`;
    await saveSafetensors(join(folder, file), Object.fromEntries(half.map((name) => [name, tensors[name]])));
    for (const name of half) weightMap[name] = file;
  }
  const index = join(folder, 'model.safetensors.index.json');
  await writeFile(index, JSON.stringify({ metadata: {}, weight_map: weightMap }));
  const wanted = await logitsOf(model);
  const back = await loadPretrained(folder);
  t.deepEqual(await logitsOf(back.model), wanted);
  await writeFile(index, JSON.stringify({ weight_map: { 'vit.layernorm.weight': '../model.safetensors' } }));
  await t.throwsAsync(loadPretrained(folder), {
    message: `loadPretrained: expected file names in the weight_map of ${index}, got others`,
  });
  for (const one of [model, back.model, ...Object.values(tensors)]) one.dispose();
});

test('a bare encoder of transformers, without its prefix, gets a classifier', async (t) => {
  const folder = await temporaryFolder(t);
  const { model, info } = small('vit_tiny_patch16_224');
  await savePretrained(folder, model, info, 'hf');
  const { tensors } = await readSafetensors(join(folder, 'model.safetensors'));
  const bare = Object.fromEntries(
    Object.entries(tensors)
      .filter(([name]) => !name.startsWith('classifier.'))
      .map(([name, tensor]) => [name.replace('vit.', ''), tensor] as const),
  );
  await saveSafetensors(join(folder, 'model.safetensors'), { ...bare, 'pooler.dense.bias': normal([24]) });
  const back = await loadPretrained(folder, { classes: ['a', 'b', 'c', 'd'] });
  t.deepEqual(back.report, {
    layout: 'hf',
    resized: [],
    replaced: ['head'],
    ignored: ['pooler.dense.bias'],
  });
  t.is((await logitsOf(back.model)).length, 8);
  for (const one of [model, back.model, ...Object.values(tensors)]) one.dispose();
});

test('another image size resizes the positions, other classes replace both heads, and the report says so', async (t) => {
  const folder = await temporaryFolder(t);
  const { model, info } = small('deit_tiny_distilled_patch16_224');
  await savePretrained(folder, model, info, 'hf');
  const back = await loadPretrained(folder, {
    classes: ['x', 'y', 'z', 'w'],
    settings: { imgSize: 24, dropPathRate: 0.1 },
  });
  t.deepEqual(back.report, {
    layout: 'hf',
    resized: ['pos_embed'],
    replaced: ['head', 'head_dist'],
    ignored: [],
  });
  t.deepEqual(back.info.classes, ['x', 'y', 'z', 'w']);
  t.deepEqual(back.info.input.size, [24, 24]);
  if (!(back.model instanceof DistilledVisionTransformer)) throw new Error('expected a distilled DeiT');
  t.deepEqual([...back.model.posEmbed.shape], [1, 2 + 36, 24]);
  // The rows of both tokens stay as they are.
  const rows = async (one: Model): Promise<number[]> =>
    Array.from(await (one.stateDict()['pos_embed'] as Tensor<'float32'>).narrow(1, 0, 2).data());
  t.deepEqual(await rows(back.model), await rows(model));
  t.is((await logitsOf(back.model, 24)).length, 8);
  back.model.dispose();
  model.dispose();
});

test('another image size and window resize the tables of a Swin', async (t) => {
  const folder = await temporaryFolder(t);
  const { model, info } = small('swin_tiny_patch4_window7_224', { absolutePositions: true });
  await savePretrained(folder, model, info, 'original');
  const back = await loadPretrained(folder, { settings: { imgSize: 20, windowSize: 5 } });
  t.is(back.report.layout, 'original');
  t.is(back.report.resized.length, 5);
  t.deepEqual(back.report.resized.slice(0, 2).sort(), [
    'absolute_pos_embed',
    'layers.0.blocks.0.attn.relative_position_bias_table',
  ]);
  const table = 'layers.1.blocks.1.attn.relative_position_bias_table';
  const [before, after] = [model, back.model].map((one) => one.stateDict()[table] as FloatTensor);
  t.deepEqual(
    [[...before.shape], [...after.shape]],
    [
      [49, 4],
      [81, 4],
    ],
  );
  // The middle of a table of odd sides stays where it is.
  const middle = async (one: FloatTensor): Promise<number> =>
    Number((await one.select(0, (one.shape[0] - 1) / 2).data())[1]);
  t.true(Math.abs((await middle(after)) - (await middle(before))) < 1e-6);
  t.is((await logitsOf(back.model, 20)).length, 6);
  back.model.dispose();
  model.dispose();
});

test('a file of Tenon, a folder of timm and a named file of weights load alike', async (t) => {
  const folder = await temporaryFolder(t);
  const { model, info } = small('vit_tiny_patch16_224');
  const wanted = await logitsOf(model);
  const own = join(folder, 'own.safetensors');
  await saveModel(own, model.stateDict(), info);
  const mine = await loadPretrained(own);
  t.deepEqual(await logitsOf(mine.model), wanted);
  t.deepEqual(mine.info, info);

  const run = join(folder, 'run');
  await t.throwsAsync(loadPretrained(run), {
    message: `loadPretrained: expected a model's folder or file, got ${run}, which does not exist`,
  });
  await mkdir(join(run, 'checkpoints'), { recursive: true });
  await t.throwsAsync(loadPretrained(run), {
    message: `loadPretrained: expected a finished epoch in the run ${run}, got none`,
  });
  await copyFile(own, join(run, 'checkpoints/best.safetensors'));
  t.deepEqual(await logitsOf((await loadPretrained(run)).model), wanted);

  const full = createModel('deit_tiny_patch16_224', { depth: 1 });
  const bare = join(folder, 'deit_tiny_patch16_224-a1311bcf.safetensors');
  await saveSafetensors(bare, full.stateDict());
  const named = await loadPretrained(bare, { settings: { depth: 1 } });
  t.is(named.info.name, 'deit_tiny_patch16_224');
  t.is(named.info.classes.length, 1000);
  t.deepEqual(named.info.input.mean, [0.485, 0.456, 0.406]);
  const nameless = join(folder, 'weights.safetensors');
  await saveSafetensors(nameless, full.stateDict());
  await t.throwsAsync(loadPretrained(nameless), {
    message: `loadPretrained: expected a config.json, or the name of the model, got ${nameless} alone`,
  });
  const told = await loadPretrained(nameless, { model: 'deit_tiny_patch16_224', settings: { depth: 1 } });
  t.is(told.info.input.interpolation, 'bicubic');
  for (const one of [model, mine.model, full, named.model, told.model]) one.dispose();
});

const PROCESSORS: readonly [what: string, json: object, input: Partial<InputSpec>][] = [
  ['an old ViT', { size: 224, resample: 2 }, { cropPct: 1, cropMode: 'squash', interpolation: 'bilinear' }],
  [
    'a DeiT',
    { size: 256, do_center_crop: true, crop_size: 224, resample: 3, image_mean: [0.485, 0.456, 0.406] },
    { cropPct: 0.875, cropMode: 'squash', interpolation: 'bicubic', mean: [0.485, 0.456, 0.406] },
  ],
  ['a ResNet', { size: { shortest_edge: 224 }, crop_pct: 0.875 }, { cropPct: 0.875, cropMode: 'center' }],
  ['no normalisation', { do_normalize: false }, { mean: [0, 0, 0], std: [1, 1, 1] }],
];

test("a folder's preprocessing is read as transformers means it", async (t) => {
  const folder = await temporaryFolder(t);
  const { model, info } = small('vit_tiny_patch16_224');
  await savePretrained(folder, model, { ...info, options: { ...info.options } }, 'hf');
  const config = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8')) as object;
  await writeFile(join(folder, 'config.json'), JSON.stringify({ ...config, image_size: 224 }));
  for (const [what, json, input] of PROCESSORS) {
    await writeFile(join(folder, 'preprocessor_config.json'), JSON.stringify(json));
    const got = (await readPretrainedInfo(folder)).input;
    t.like(got, { size: [224, 224], ...input }, what);
  }
  await writeFile(join(folder, 'preprocessor_config.json'), JSON.stringify({ resample: 1 }));
  await t.throwsAsync(readPretrainedInfo(folder), {
    message: 'loadPretrained: expected resample of the preprocessing to be 2 or 3, got 1',
  });
  model.dispose();
});

test('what cannot be loaded or saved is one sentence', async (t) => {
  const root = await temporaryFolder(t);
  const missing = join(root, 'none');
  await t.throwsAsync(loadPretrained(missing), {
    message: `loadPretrained: expected a model's folder or file, got ${missing}, which does not exist`,
  });
  await mkdir(join(root, 'empty'));
  await t.throwsAsync(loadPretrained(join(root, 'empty')), {
    message: /expected model\.safetensors or .*got neither/,
  });
  await writeFile(join(root, 'empty/pytorch_model.bin'), 'PK');
  await t.throwsAsync(loadPretrained(join(root, 'empty')), {
    message: /got pytorch_model\.bin alone, PyTorch's own format; write it with .*, in Python$/,
  });

  const { model, info } = small('vit_tiny_patch16_224');
  const folder = join(root, 'vit');
  await savePretrained(folder, model, info, 'hf');
  const path = join(folder, 'config.json');
  const config = JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>;
  const changed = (changes: object): Promise<void> =>
    writeFile(path, JSON.stringify({ ...config, ...changes }));
  await changed({ hidden_act: 'relu' });
  await t.throwsAsync(loadPretrained(folder), {
    message: 'loadPretrained: expected hidden_act of config.json to be "gelu", got "relu"',
  });
  await changed({ num_hidden_layers: 3 });
  await t.throwsAsync(loadPretrained(folder), {
    message: /^loadPretrained: expected the tensors of vit, got missing blocks\.2\.norm1\.weight, /,
  });
  await changed({ architectures: ['BertModel'], model_type: 'bert' });
  await t.throwsAsync(loadPretrained(folder), {
    message: /expected an architecture among ViTForImageClassification, .*, got BertModel in /,
  });
  await writeFile(path, '{');
  await t.throwsAsync(loadPretrained(folder), {
    message: /^loadPretrained: expected JSON in .*config\.json, got /,
  });
  const { tensors } = await readSafetensors(join(folder, 'model.safetensors'));
  const { ['vit.encoder.layer.0.attention.attention.key.bias']: key, ...rest } = tensors;
  await changed({});
  await saveSafetensors(join(folder, 'model.safetensors'), rest);
  await t.throwsAsync(loadPretrained(folder), {
    message: 'loadPretrained: expected 3 parts of blocks.0.attn.qkv.bias, got 2',
  });
  const scaled = small('deit3_small_patch16_224');
  await t.throwsAsync(savePretrained(folder, scaled.model, scaled.info, 'hf'), {
    message:
      "savePretrained: expected a model that the layout 'hf' has names for, got deit3_small_patch16_224 " +
      'with initValues 0.000001, where transformers has none',
  });
  for (const one of [model, scaled.model, key, ...Object.values(rest)]) one.dispose();
});

test('a model is saved and loaded with a class for each output', async (t) => {
  const folder = await temporaryFolder(t);
  const model = tinyModel();
  const path = join(folder, 'model.safetensors');
  const message = (name: string, where: string): string =>
    `${name}: expected 3 classes${where}, one for each output, got 2`;
  const info = { ...TINY_INFO, classes: ['a', 'b'] };
  await t.throwsAsync(saveModel(path, model.stateDict(), info), { message: message('saveModel', '') });
  t.false(existsSync(path));
  await saveSafetensors(path, model.stateDict(), { 'tenon.model': JSON.stringify(info) });
  await t.throwsAsync(loadModel(path), { message: message('loadModel', ` in ${path}`) });
  const { numClasses: _, ...open } = TINY_INFO.options;
  await t.throwsAsync(saveModel(path, model.stateDict(), { ...info, options: open }), {
    message: 'saveModel: expected 1000 classes, one for each output, got 2',
  });
});

test('a model with a registered size has its name, another one its family', async (t) => {
  const folder = await temporaryFolder(t);
  const { model, info } = small('vit_tiny_patch16_224');
  await savePretrained(folder, model, info, 'hf');
  t.is((await readPretrainedInfo(folder)).name, 'vit');
  const path = join(folder, 'config.json');
  const config = JSON.parse(await readFile(path, 'utf8')) as object;
  const tiny = { hidden_size: 192, num_hidden_layers: 12, num_attention_heads: 3, patch_size: 16 };
  for (const [size, name] of [
    [384, 'vit_tiny_patch16_384'],
    [160, 'vit_tiny_patch16_224'],
  ] as const) {
    await writeFile(path, JSON.stringify({ ...config, ...tiny, image_size: size }));
    t.is((await readPretrainedInfo(folder)).name, name);
  }
  model.dispose();
});
