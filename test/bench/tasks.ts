import test from 'ava';

import { describeModel } from '../../src/index.js';
import { type Task, bytes, flops, limitOf, metricOf } from '../../bench/tasks.js';
import { SWIN_TINY, swinFlops } from '../../bench/swin.js';
import { createSwin, createVit } from '../../bench/tenon.js';
import { VIT_CIFAR, VIT_TINY, forwardFlops, parameterShapes } from '../../bench/vit.js';

test('ViT-Ti/16 takes 2.51 GFLOP an image forward, and three times that to train', (t) => {
  t.is(forwardFlops(VIT_TINY), 2_507_366_400);
  t.is(flops({ kind: 'vit', vit: VIT_TINY, batch: 16, train: false }), 16 * 2_507_366_400);
  t.is(flops({ kind: 'vit', vit: VIT_TINY, batch: 16, train: true }), 48 * 2_507_366_400);
});

test('operations and parameters are those of the library’s own model', (t) => {
  for (const vit of [VIT_TINY, VIT_CIFAR]) {
    const model = createVit(vit);
    t.is(forwardFlops(vit), 2 * model.macs);
    const own = Object.entries(model.stateDict()).map(([name, { shape }]) => [name, [...shape]]);
    t.deepEqual(new Map(parameterShapes(vit)), new Map(own as [string, number[]][]));
  }
});

test('Swin-T takes what the library counts', (t) => {
  using model = createSwin({ ...SWIN_TINY, depths: [2, 2, 2, 2] });
  const { gflops } = describeModel({ name: 'test', family: 'swin', config: { ...model.config } });
  t.is(swinFlops({ ...SWIN_TINY, depths: [2, 2, 2, 2] }), Math.round(1e9 * gflops));
  const blocks =
    swinFlops({ ...SWIN_TINY, depths: [2, 0, 0, 0] }) - swinFlops({ ...SWIN_TINY, depths: [0, 0, 0, 0] });
  const saved =
    swinFlops({ ...SWIN_TINY, depths: [2, 0, 0, 0] }) -
    swinFlops({ ...SWIN_TINY, depths: [2, 0, 0, 0] }, 0.5);
  t.is(saved, blocks / 4, 'of two blocks the second is computed for half of the images');
});

test('a product of n^3 multiplications has 2 n^3 operations; attention two products forward, seven with backward', (t) => {
  t.is(flops({ kind: 'gemm', size: 10 }), 2000);
  t.is(flops({ kind: 'linear', rows: 2, inputs: 3, outputs: 4, pass: 'input' }), 48);
  const attention = { kind: 'attention', batch: 2, tokens: 5, heads: 3, headDim: 4 } as const;
  t.is(flops({ ...attention, backward: false }), 2 * (2 * 2 * 3 * 25 * 4));
  t.is(flops({ ...attention, backward: true }), 7 * (2 * 2 * 3 * 25 * 4));
});

test('a row-wise op reads and writes two tensors forward, five with backward; AdamW moves seven numbers a parameter', (t) => {
  const norm = { kind: 'layerNorm', rows: 10, features: 8 } as const;
  t.is(bytes({ ...norm, backward: false }), 2 * 320);
  t.is(bytes({ ...norm, backward: true }), 5 * 320);
  const parameters = [...createVit(VIT_CIFAR).parameters()].reduce((sum, { size }) => sum + size, 0);
  t.is(bytes({ kind: 'adamw', vit: VIT_CIFAR }), 28 * parameters);
});

test('the limit of arithmetic is a product, that of memory a copy of as many bytes, and a call has none', (t) => {
  t.deepEqual(limitOf({ kind: 'vit', vit: VIT_TINY, batch: 1, train: false }), { kind: 'gemm', size: 2048 });
  const copy = limitOf({ kind: 'gelu', rows: 10, features: 8, backward: true });
  t.deepEqual(copy, { kind: 'copy', elements: 200 });
  t.is(bytes(copy as Task), 5 * 320);
  t.is(limitOf({ kind: 'dispatch', op: 'add', calls: 10 }), undefined);
});

test('seconds become the number that a task is reported by', (t) => {
  const value = (task: Task, seconds: number): [number, string] => {
    const metric = metricOf(task);
    return [metric.of(seconds), metric.unit];
  };
  t.deepEqual(value({ kind: 'dispatch', op: 'add', calls: 1000 }, 0.002), [2, 'us']);
  t.deepEqual(value({ kind: 'vit', vit: VIT_TINY, batch: 16, train: true }, 0.5), [32, 'images/s']);
  const load = { kind: 'load', transform: 'crop', batch: 32, batchesPerWorker: 12 } as const;
  t.deepEqual(value(load, 0.1), [320, 'images/s']);
  t.is(limitOf(load), undefined);
  t.deepEqual(value({ kind: 'gemm', size: 1000 }, 0.1), [20, 'GFLOP/s']);
  t.deepEqual(value({ kind: 'copy', elements: 1e9 }, 2), [4, 'GB/s']);
});
