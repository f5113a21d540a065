/**
 * The benchmark's tasks on an emulated GPU: they run, and say what of the GPU's memory they took.
 */
import '../helpers/emulated-cuda.js';

import test from 'ava';

import { loadTenon } from '../../bench/tenon.js';
import type { Task } from '../../bench/tasks.js';
import { memoryStats } from '../../src/index.js';

const VIT = { image: 8, patch: 4, dim: 8, depth: 1, heads: 2, classes: 3 };
const TASKS: readonly Task[] = [
  { kind: 'gemm', size: 4, precision: 'bfloat16' },
  { kind: 'copy', elements: 8 },
  { kind: 'linear', rows: 4, inputs: 8, outputs: 8, pass: 'forwardGelu', precision: 'bfloat16' },
  { kind: 'layerNorm', rows: 2, features: 8, backward: true, precision: 'bfloat16' },
  {
    kind: 'attention',
    batch: 1,
    tokens: 5,
    heads: 1,
    headDim: 8,
    backward: true,
    precision: 'bfloat16',
  },
  { kind: 'crossEntropy', rows: 2, classes: 3 },
  { kind: 'adamw', vit: VIT },
  { kind: 'vit', vit: VIT, batch: 2, train: true, precision: 'bfloat16' },
  { kind: 'vit', vit: VIT, batch: 2, train: false },
];

test.serial('every kind of task runs on cuda', async (t) => {
  const system = loadTenon(1, 'cuda');
  for (const task of TASKS) {
    const before = memoryStats('cuda').allocations;
    const prepared = await system.prepare(task);
    if ('unsupported' in prepared) return t.fail(prepared.unsupported);
    await prepared.run();
    t.true(memoryStats('cuda').allocations > before, task.kind);
  }
  t.is(system.peakBytes?.(), memoryStats('cuda').reservedPeak);
});
