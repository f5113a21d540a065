/**
 * The names of models at compile time. The compiler checks the lines below: a missing error is one.
 */
import test from 'ava';

import { TensorError, createModel, type Model, type SwinTransformer } from '../../src/index.js';

function names(anyName: string, known: 'vit_nano_patch8_32' | 'resnet_nano_32'): void {
  const swin: SwinTransformer = createModel('swin_micro_patch2_window4_32', { windowSize: 2 });
  const model: Model = createModel(anyName, { numClasses: 10 });
  createModel(known, { numClasses: 10 });
  // @ts-expect-error no family has such models
  createModel('nonsense');
  // @ts-expect-error nor with a family's name elsewhere
  createModel('my_vit', { numClasses: 10 });
  void [swin, model];
}

test('a name that no family has is an error of the compiler, or of createModel', (t) => {
  t.is(names.name, 'names'); // never called: compiling this file is the test
  t.throws(() => createModel('vitt'), { instanceOf: TensorError, code: 'VALUE' });
  const name: string = 'nonsense';
  t.throws(() => createModel(name), { instanceOf: TensorError, code: 'VALUE' });
});
