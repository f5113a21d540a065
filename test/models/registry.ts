import { readFileSync, readdirSync } from 'node:fs';

import test from 'ava';

import {
  type LayoutName,
  createModel,
  describeModel,
  familyOf,
  listModels,
  modelEntry,
  noGrad,
  normal,
  scope,
} from '../../src/index.js';
import { layoutsNamed, toStoredNames } from '../../src/models/layouts/layout.js';
import { goldenPath, relativeError, sharedTest } from '../helpers/golden.js';
import { timmShapes } from '../helpers/timm.js';

/** Shapes by tensor name. One block of a ViT stands for all, so that no test allocates the gigabytes of a huge model. */
function shapesOf(
  name: string,
  layout: LayoutName = 'timm',
  options = {},
): Record<string, readonly number[]> {
  const { family, config } = modelEntry(name);
  const { depth } = config;
  using model = createModel(name, { ...(depth !== undefined && { depth: 1 }), ...options });
  const [names] = layoutsNamed(familyOf(family).layouts ?? [], layout);
  return scope(() =>
    Object.fromEntries(
      Object.entries(toStoredNames(names, model.stateDict())).flatMap(([key, { shape }]) =>
        depth !== undefined && key.includes('.0.')
          ? Array.from({ length: Number(depth) }, (_, i) => [key.replace('.0.', `.${i}.`), shape] as const)
          : [[key, shape] as const],
      ),
    ),
  );
}

test('every family gives the features that its head sees', (t) => {
  const small = { imgSize: 32, numClasses: 5 };
  for (const [name, options, width] of [
    ['vit_tiny_patch16_224', { ...small, depth: 1 }, 192],
    ['deit_tiny_distilled_patch16_224', { ...small, depth: 1 }, 192],
    ['swin_micro_patch2_window4_32', { numClasses: 5 }, 128],
    ['resnet18', small, 512],
    ['regnety_002', small, 368],
  ] as const) {
    using model = createModel(name, options).eval();
    scope(() => {
      const images = normal([2, 3, 32, 32]);
      const [logits, whole, features] = noGrad(() => {
        const seen = model.forwardFeatures(images);
        return [model.forwardHead(seen), model.call(images), model.forwardHead(seen, { preLogits: true })];
      });
      t.deepEqual([...features.shape], [2, width], name);
      const [a, b] = [logits.dataSync(), whole.dataSync()];
      t.true(relativeError(a, b) < 1e-6, name);
    });
  }
});

sharedTest('every ViT and DeiT has the names and shapes of timm', goldenPath('state_dicts'), (t) => {
  const entries = [...listModels('vit_*'), ...listModels('deit_*')];
  const known = entries.filter(({ name }) => timmShapes(name) !== undefined);
  const files = readdirSync(goldenPath('state_dicts')).filter((file) => /^timm-(vit|deit)_/.test(file));
  t.is(known.length, files.length);
  for (const { name } of known) t.deepEqual(shapesOf(name), timmShapes(name), name);
});

sharedTest('full-size models have the names and shapes of transformers', goldenPath('state_dicts'), (t) => {
  const models = {
    'ViTForImageClassification-base': ['vit_base_patch16_224', 'hf-current'],
    'DeiTForImageClassificationWithTeacher-base': ['deit_base_distilled_patch16_224', 'hf-current'],
    'SwinForImageClassification-tiny': ['swin_tiny_patch4_window7_224', 'hf-current'],
    'ResNetForImageClassification-50': ['resnet50', 'hf'],
    'RegNetForImageClassification-default': ['regnety_040', 'hf'],
  } as const;
  for (const [file, [name, layout]] of Object.entries(models)) {
    const path = goldenPath(`state_dicts/hf-${file}.json`);
    t.deepEqual(shapesOf(name, layout, { numClasses: 2 }), JSON.parse(readFileSync(path, 'utf8')), name);
  }
});

sharedTest('every registered model has the parameter count of timm', goldenPath('state_dicts'), (t) => {
  const summary = JSON.parse(readFileSync(goldenPath('state_dicts/timm-summary.json'), 'utf8')) as Record<
    string,
    { params: number }
  >;
  const known = listModels().filter(({ name }) => name in summary);
  t.true(known.length >= 8);
  for (const entry of known) t.is(describeModel(entry).parameters, summary[entry.name].params, entry.name);
});

test('multiply-accumulates are those of the table in the specification', (t) => {
  const expected = {
    vit_tiny_patch16_224: 1.254,
    vit_small_patch16_224: 4.599,
    vit_small_patch32_224: 1.143,
    deit_base_patch16_384: 55.484,
  };
  for (const [name, gmacs] of Object.entries(expected)) {
    t.is(Number((describeModel(modelEntry(name)).gflops / 2).toFixed(3)), gmacs, name);
  }
});

test("every model's name begins with its family's, and no other's", (t) => {
  const families = [...new Set(listModels().map(({ family }) => family))];
  for (const { name, family } of listModels()) {
    t.deepEqual(
      families.filter((prefix) => name.startsWith(prefix)),
      [family],
    );
  }
});

test('the registry lists by pattern and suggests near names', (t) => {
  t.true(listModels().length > 25);
  t.is(new Set(listModels().map(({ name }) => name)).size, listModels().length);
  t.deepEqual(
    listModels('vit_tiny*').map(({ name }) => name),
    ['vit_tiny_patch16_224', 'vit_tiny_patch16_384'],
  );
  t.deepEqual(listModels('VIT_Tiny*'), listModels('vit_tiny*'));
  t.throws(() => createModel('vit_tinny_patch16_224' as string), {
    message: /such as vit_tiny_patch16_224.*got 'vit_tinny/,
  });
});
