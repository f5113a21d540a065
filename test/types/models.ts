/**
 * The names of models at compile time, and in an editor. The compiler checks the lines below: a missing error is one.
 */
import { fileURLToPath } from 'node:url';

import test from 'ava';
import ts from 'typescript';

import {
  type Model,
  type ModelName,
  type ResNet,
  type SwinTransformer,
  TensorError,
  createModel,
  listModels,
} from '../../src/index.js';

function names(anyName: string, known: 'vit_nano_patch8_32' | 'resnet_nano_32', name: ModelName): void {
  const swin: SwinTransformer = createModel('swin_micro_patch2_window4_32', { windowSize: 2 });
  const family: ResNet = createModel('resnet', { layers: [1, 1, 1] });
  const model: Model = createModel(anyName, { numClasses: 10 });
  createModel(known, { numClasses: 10 });
  createModel(name);
  createModel('deit3_huge_patch14_224');
  // @ts-expect-error no family has such models
  createModel('nonsense');
  // @ts-expect-error nor with a family's name elsewhere
  createModel('my_vit', { numClasses: 10 });
  // @ts-expect-error nor has a family any name that begins with its own
  createModel('vit_nonsense');
  // @ts-expect-error sizes that were not published together
  createModel('vit_tiny_patch8_224');
  // @ts-expect-error a setting of another family
  createModel('resnet18', { patchSize: 4 });
  void [swin, family, model];
}

test('a name that no family has is an error of the compiler, or of createModel', (t) => {
  t.is(names.name, 'names'); // never called: compiling this file is the test
  const wrong: readonly string[] = ['vitt', 'nonsense', 'vit_nonsense'];
  for (const name of wrong) t.throws(() => createModel(name), { instanceOf: TensorError, code: 'VALUE' });
});

test('an editor completes the names of all models and families, and no others', (t) => {
  const registry = fileURLToPath(new URL('../../src/models/registry.d.ts', import.meta.url));
  const file = `${registry}.test.ts`;
  const text = "import { createModel } from './registry.js'; createModel('');";
  const service = ts.createLanguageService({
    getScriptFileNames: () => [file],
    getScriptVersion: () => '',
    getScriptSnapshot: (name) => {
      const content = name === file ? text : ts.sys.readFile(name);
      return content === undefined ? undefined : ts.ScriptSnapshot.fromString(content);
    },
    getCurrentDirectory: () => ts.sys.getCurrentDirectory(),
    getCompilationSettings: () => ({ strict: true, module: ts.ModuleKind.NodeNext }),
    getDefaultLibFileName: (options) => ts.getDefaultLibFilePath(options),
    fileExists: (name) => name === file || ts.sys.fileExists(name),
    readFile: (name) => ts.sys.readFile(name),
  });
  const completions = service.getCompletionsAtPosition(file, text.indexOf("''") + 1, {});
  const families = ['deit', 'regnet', 'resnet', 'swin', 'vit'];
  t.deepEqual(
    completions?.entries.map(({ name }) => name).sort(),
    [...families, ...listModels().map(({ name }) => name)].sort(),
  );
});
