/**
 * Which tasks ONNX Runtime gets, and that each kind of them can be exported.
 */
import { join } from 'node:path';

import test from 'ava';

import { modelOf } from '../../bench/rivals/onnx.js';
import { CASES } from '../../bench/suites.js';
import type { Task } from '../../bench/tasks.js';
import { exportOnnx } from '../../src/index.js';
import { temporaryFolder } from '../helpers/training.js';

test('ONNX Runtime gets the inference in float32 of every model', (t) => {
  const taken = CASES.cpu.filter(({ suite, task }) => suite === 'models' && modelOf(task) !== undefined);
  const expected = CASES.cpu.filter(
    ({ suite, name }) => suite === 'models' && name.endsWith('inference') && !name.includes('bf16'),
  );
  t.true(expected.length >= 6);
  t.deepEqual(taken, expected);
});

const vit = { image: 16, patch: 8, dim: 12, depth: 1, heads: 3, classes: 5 };
const swin = { image: 16, patch: 2, dim: 8, depths: [1, 1], heads: [1, 2], window: 4, classes: 5 };
const run = { batch: 4, train: false };

const TASKS: readonly (readonly [
  task: Task,
  input: readonly number[],
  output: readonly (number | string)[],
])[] = [
  [{ kind: 'gemm', size: 6 }, [6, 6], ['batch', 6]],
  [{ kind: 'linear', rows: 7, inputs: 5, outputs: 3, pass: 'forwardGelu' }, [7, 5], ['batch', 3]],
  [{ kind: 'layerNorm', rows: 7, features: 5, backward: false }, [7, 5], ['batch', 5]],
  [{ kind: 'gelu', rows: 7, features: 5, backward: false }, [7, 5], ['batch', 5]],
  [{ kind: 'softmax', rows: 7, features: 5, backward: false }, [7, 5], ['batch', 5]],
  [
    { kind: 'attention', batch: 2, tokens: 5, heads: 3, headDim: 4, backward: false },
    [2, 5, 36],
    ['batch', 5, 12],
  ],
  [
    { kind: 'windowAttention', batch: 2, map: 8, window: 4, shift: 2, heads: 3, headDim: 4, backward: false },
    [2, 8, 8, 36],
    ['batch', 8, 8, 12],
  ],
  [{ kind: 'vit', vit, ...run }, [4, 3, 16, 16], ['batch', 5]],
  [{ kind: 'swin', swin, ...run }, [4, 3, 16, 16], ['batch', 5]],
];

test('a task of each kind is exported, for any batch', async (t) => {
  const path = join(await temporaryFolder(t), 'model.onnx');
  for (const [task, input, result] of TASKS) {
    const model = modelOf(task);
    if (model === undefined) return void t.fail(task.kind);
    const { make, batch, shape } = model;
    t.deepEqual([batch, ...shape], [...input]);
    const { output } = await exportOnnx(path, make(), { shape });
    t.deepEqual(output.shape, result, task.kind);
  }
});
