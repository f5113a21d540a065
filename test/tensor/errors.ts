/**
 * What errors say beside their sentence: where they came from, and what JavaScript does with a tensor elsewhere.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

import test from 'ava';

import {
  TensorError,
  dropout,
  eye,
  getRandomState,
  indexSelect,
  matmul,
  ones,
  synchronize,
  tensor,
  zeros,
  type Tensor,
} from '../../src/index.js';
import * as ops from '../../src/ops/index.js';
import { forbidden } from '../helpers/op-case.js';

/** An op whose error depends on the data. */
const beyond = (): Tensor<'float32'> => indexSelect(tensor([1, 2]), 0, tensor([5], { dtype: 'int64' }));

test.serial('an error of a value that is awaited has the stack of whoever awaits it', async (t) => {
  const reads: Readonly<Record<string, () => Promise<unknown>>> = {
    async waitsForItem() {
      return await beyond().item();
    },
    async waitsForData() {
      return await beyond().to('bfloat16').data();
    },
    async waitsForArray() {
      return await beyond().toArray();
    },
    async waitsForDevice() {
      beyond();
      await synchronize();
    },
  };
  for (const [name, read] of Object.entries(reads)) {
    const error = await t.throwsAsync(read, { instanceOf: TensorError });
    t.regex(error.stack ?? '', new RegExp(`^TensorError: indexSelect: .*\\n[^]* at async .*${name} `));
  }
});

test.serial(
  'an error of the data comes at every read of what depends on it, and of nothing else',
  async (t) => {
    const message = 'indexSelect: expected indices from 0 to 1, got 5';
    const before = ones([2]);
    const failed = beyond();
    const soon = failed.mul(2).sum();
    const beside = before.add(1);
    await t.throwsAsync(synchronize(), { instanceOf: TensorError, message }); // which tells it once
    await synchronize();
    const later = failed.add(before);
    const view = failed.reshape([1, 1]);
    for (const x of [failed, soon, later, view, failed.to('bfloat16'), failed, later]) {
      await t.throwsAsync(x.data(), { instanceOf: TensorError, message });
      t.throws(() => x.dataSync(), { instanceOf: TensorError, message });
    }
    t.deepEqual([...(await beside.data())], [2, 2]);
    t.deepEqual([...(await before.mul(3).data())], [3, 3]);
  },
);

test('a tensor is not silently JSON, nor a structured clone', (t) => {
  const loss = ones([]);
  t.throws(() => JSON.stringify({ loss }), {
    instanceOf: TensorError,
    code: 'VALUE',
    message:
      'toJSON: expected values, got Tensor float32 [] cpu; ' +
      'put await x.toArray(), or what await x.data() gives, in its place',
  });
  t.throws(() => structuredClone({ loss }), {
    any: true,
    name: 'DataCloneError',
    message: 'Symbol(a Tensor: expected values, such as those of await x.data()) could not be cloned.',
  });
});

test('an argument of another type is an error with the name of the op', (t) => {
  const x = ones([2, 2]);
  const cases: readonly [call: () => unknown, message: string][] = [
    [forbidden(zeros, 3), 'zeros: expected an array, got 3 for shape'],
    [forbidden(zeros, [NaN]), 'zeros: expected a whole number, got NaN for shape'],
    [forbidden(zeros, ['2']), "zeros: expected a number, got '2' for shape"],
    [forbidden(eye, 2.5), 'eye: expected a whole number, got 2.5 for n'],
    [forbidden(eye), 'eye: expected a number, got undefined for n'],
    [forbidden(matmul, x, 5), 'matmul: expected a tensor, got none for b'],
    [forbidden(matmul, [1, 2], x), 'matmul: expected a tensor, got none for a'],
  ];
  for (const [call, message] of cases) t.throws(call, { instanceOf: TensorError, code: 'VALUE', message });
});

test('an error of an op that is made of another names the op that was called', (t) => {
  const x = ones([2, 3]);
  const flags = tensor([[true], [false]]);
  const calls: Readonly<Record<string, readonly [call: () => unknown, code: string]>> = {
    zeros: [() => ops.zeros([-1]), 'SHAPE'],
    ones: [() => ops.ones([-1]), 'SHAPE'],
    zerosLike: [forbidden(ops.zerosLike, { shape: [-1], dtype: 'int32', device: 'cpu' }), 'SHAPE'],
    onesLike: [forbidden(ops.onesLike, { shape: [-1], dtype: 'int32', device: 'cpu' }), 'SHAPE'],
    uniform: [forbidden(ops.uniform, 3), 'VALUE'],
    normal: [forbidden(ops.normal, [2], { std: 'a' }), 'VALUE'],
    truncatedNormal: [forbidden(ops.truncatedNormal, 'a'), 'VALUE'],
    bernoulli: [forbidden(ops.bernoulli, [2]), 'VALUE'],
    randint: [forbidden(ops.randint, [2], 0), 'VALUE'],
    logSoftmax: [() => ops.logSoftmax(x, { dim: 2 }), 'INDEX'],
    maskedFill: [() => ops.maskedFill(ops.to(x, 'int32'), flags, 0.5), 'VALUE'],
    attentionWithLse: [() => ops.attentionWithLse(x, x, x), 'SHAPE'],
    layerNormResidual: [() => ops.layerNormResidual(x, x, ones([2])), 'SHAPE'],
    embedding: [forbidden(ops.embedding, ops.randint([2], 0, 2), 5), 'VALUE'],
    argmax: [forbidden(ops.argmax, 5), 'VALUE'],
    argmin: [forbidden(ops.argmin, 5), 'VALUE'],
    squeeze: [forbidden(ops.squeeze, null), 'VALUE'],
    unsqueeze: [forbidden(ops.unsqueeze, null, 0), 'VALUE'],
  };
  for (const [op, [call, code]] of Object.entries(calls)) {
    t.throws(call, {
      instanceOf: TensorError,
      code,
      message: new RegExp(`^${op}: expected |^${op}: dim 2 `),
    });
  }
});

test('what is no tensor at all is an error that shows the arguments, and changes nothing', (t) => {
  const x = ones([2, 2]);
  const w = ones([2, 2], { requiresGrad: true });
  const came = 'Tensor float32 [2, 2] cpu';
  const cases: readonly [call: () => unknown, message: string][] = [
    [forbidden(matmul, undefined, x), `matmul: expected tensors, got (undefined, ${came})`],
    [forbidden(matmul, x, null), `matmul: expected tensors, got (${came}, null)`],
    [forbidden(matmul, [1, 2], w), `matmul: expected tensors, got (an array, ${came})`],
    [forbidden(indexSelect, x, 0, undefined), `indexSelect: expected tensors, got (${came}, 0, undefined)`],
    [forbidden(dropout, undefined, 0.5), 'dropout: expected tensors, got (undefined, 0.5)'],
    [forbidden(dropout, 5, 0.5), 'dropout: expected a tensor, got none for x'],
  ];
  const state = getRandomState();
  for (const [call, message] of cases) t.throws(call, { instanceOf: TensorError, code: 'VALUE', message });
  t.deepEqual(getRandomState(), state);
});

const execute = promisify(execFile);

test('a malformed TENON_NUM_THREADS is an error that a program can catch', async (t) => {
  const module = new URL('../../src/index.js', import.meta.url).href;
  const program = `
    const { TensorError, ones } = await import('${module}');
    try { ones([2]); } catch (error) { console.log(error instanceof TensorError, error.code, error.message); }`;
  for (const value of ['abc', '0', '-1', '1e3', '100000']) {
    const { stdout } = await execute(process.execPath, ['--input-type=module', '-e', program], {
      env: { ...process.env, TENON_NUM_THREADS: value },
    });
    t.is(
      stdout,
      `true VALUE device: TENON_NUM_THREADS: expected a whole number from 1 to 1024, got '${value}'\n`,
    );
  }
});
