/**
 * What errors say beside their sentence: where they came from, and what JavaScript does with a tensor elsewhere.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

import test from 'ava';

import {
  Conv2d,
  Dropout,
  Linear,
  TensorError,
  backward,
  copyInto,
  createModel,
  detach,
  dropout,
  eye,
  getRandomState,
  grad,
  indexSelect,
  keep,
  manualSeed,
  matmul,
  ones,
  registerHook,
  setMemoryLimit,
  setRequiresGrad,
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

test('what stands where a number or numbers do is an error that names it', (t) => {
  const x = ones([2, 3]);
  const image = ones([1, 1, 4, 4]);
  const layout = ones([1, 1, 1, 1]);
  const name = Symbol('n');
  const numbers = (came: string, parameter: string): string =>
    `expected a number or an array of them, got ${came} for ${parameter}`;
  const cases: readonly [call: () => unknown, message: string][] = [
    [forbidden(ops.sum, x, { dim: null }), `sum: ${numbers('null', 'dim')}`],
    [forbidden(ops.variance, x, { dim: 1n }), `variance: ${numbers('1n', 'dim')}`],
    [forbidden(ops.max, x, { dim: [0, null] }), 'max: expected a number, got null for dim'],
    [
      forbidden(ops.variance, x, { correction: null }),
      'variance: expected a number, got null for correction',
    ],
    [forbidden(ops.argmax, x, { dim: null }), 'argmax: expected a number, got null for dim'],
    [forbidden(ops.softmax, x, { dim: null }), 'softmax: expected a number, got null for dim'],
    [forbidden(ops.logSoftmax, x, { dim: null }), 'logSoftmax: expected a number, got null for dim'],
    [forbidden(ops.logsumexp, x, { dim: null }), 'logsumexp: expected a number, got null for dim'],
    [forbidden(ops.topk, x, 1, { dim: null }), 'topk: expected a number, got null for dim'],
    [forbidden(ops.interpolate, image), 'interpolate: expected an array, got undefined for size'],
    [forbidden(ops.interpolate, image, 8), 'interpolate: expected an array, got 8 for size'],
    [forbidden(ops.adaptiveAvgPool2d, image), `adaptiveAvgPool2d: ${numbers('undefined', 'size')}`],
    [forbidden(ops.adaptiveAvgPool2d, image, 1n), `adaptiveAvgPool2d: ${numbers('1n', 'size')}`],
    [forbidden(ops.maxPool2d, image, 2, { stride: null }), `maxPool2d: ${numbers('null', 'stride')}`],
    [forbidden(ops.avgPool2d, image), `avgPool2d: ${numbers('undefined', 'kernel')}`],
    [
      forbidden(ops.conv2d, image, layout, undefined, { padding: [1, name] }),
      'conv2d: expected a number, got Symbol(n) for padding',
    ],
    [
      forbidden(ops.windowAttention, ones([1, 2, 2, 3]), ones([9, 1]), {}),
      `windowAttention: ${numbers('undefined', 'window')}`,
    ],
    [forbidden(ops.pad, x), 'pad: expected an array, got undefined for padding'],
    [forbidden(ops.pad, x, 1), 'pad: expected an array, got 1 for padding'],
    [forbidden(ops.pad, x, [1, 1]), 'pad: expected an array, got 1 for padding'],
    [forbidden(ops.split, x), `split: ${numbers('undefined', 'size')}`],
    [forbidden(ops.split, x, [1n, 1n]), 'split: expected a number, got 1n for size'],
    [forbidden(ops.split, x, 1, null), 'split: expected a number, got null for dim'],
    [forbidden(ops.roll, x), `roll: ${numbers('undefined', 'shifts')}`],
    [forbidden(ops.roll, x, 1), `roll: ${numbers('undefined', 'dims')}`],
    [forbidden(ops.flip, x, null), `flip: ${numbers('null', 'dims')}`],
    [forbidden(ops.squeeze, x, null), `squeeze: ${numbers('null', 'dim')}`],
    [forbidden(ops.flatten, x, 1n), 'flatten: expected a number, got 1n for startDim'],
    [forbidden(ops.stack, [x, x], name), 'stack: expected a number, got Symbol(n) for dim'],
    [forbidden(ops.unbind, x, '0'), "unbind: expected a number, got '0' for dim"],
    [forbidden(ops.select, x, 0, name), 'select: expected a number, got Symbol(n) for index'],
    [forbidden(ops.narrow, x, 0, 0), 'narrow: expected a number, got undefined for length'],
    [forbidden(ops.slice, x, 1n), 'slice: expected an array, got 1n for ranges'],
    [forbidden(ops.slice, x, undefined), 'slice: expected an array, got undefined for ranges'],
    [forbidden(ops.slice, x, [name]), 'slice: expected a number, got Symbol(n) for ranges'],
    [forbidden(ops.dropPath, x, name), 'dropPath: expected a number, got Symbol(n) for p'],
    [forbidden(ops.arange, 2n), 'arange: expected a number, got 2n for stop'],
    [forbidden(tensor, [1, 2], { shape: [2n] }), 'tensor: expected a number, got 2n for shape'],
    [forbidden(tensor, [1, 2], { shape: 2 }), 'tensor: expected an array, got 2 for shape'],
    [forbidden(zeros, [name]), 'zeros: expected a number, got a symbol for shape'],
    [() => new Linear(2n as never, 2), 'Linear: expected a number, got 2n for inFeatures'],
    [() => new Conv2d(1, 1, undefined as never), `Conv2d: ${numbers('undefined', 'kernel')}`],
    [() => new Dropout('0.5' as never), "Dropout: expected a number, got '0.5' for p"],
    [
      forbidden(createModel, 'vit_nano_patch8_32', { imgSize: null }),
      `VisionTransformer: ${numbers('null', 'imgSize')}`,
    ],
    [
      forbidden(setMemoryLimit, 2n),
      'setMemoryLimit: expected a whole number of bytes above 0 or Infinity, got 2n',
    ],
    [
      forbidden(manualSeed, name),
      'random: expected the seed to be a whole number from 0 to 2^53 - 1, got Symbol(n)',
    ],
    [
      forbidden(ops.rearrange, x, 'a (b c) -> a b c', { b: 3n }),
      "rearrange: expected whole numbers as sizes for 'a (b c) -> a b c', got shape [2, 3] with b = 3n",
    ],
  ];
  for (const [call, message] of cases) t.throws(call, { instanceOf: TensorError, code: 'VALUE', message });
  // What the addon refuses; it shows a bigint without its n.
  t.throws(forbidden(zeros, [2n]), {
    code: 'VALUE',
    message: /^zeros: expected a number, got 2n? for shape$/,
  });
  t.throws(forbidden(ops.reshape, x, [6n]), {
    code: 'VALUE',
    message: /^reshape: expected a number, got 6n?/,
  });
});

test('an error of an op that is made of another names the op that was called', (t) => {
  const x = ones([2, 3]);
  const flags = tensor([[true], [false]]);
  const calls: Readonly<Record<string, readonly [call: () => unknown, code: string]>> = {
    zeros: [() => ops.zeros([-1]), 'SHAPE'],
    ones: [() => ops.ones([-1]), 'SHAPE'],
    zerosLike: [forbidden(ops.zerosLike, { shape: [2], dtype: 'int32', device: 'cpu' }), 'VALUE'],
    onesLike: [forbidden(ops.onesLike, { shape: [2], dtype: 'int32', device: 'cpu' }), 'VALUE'],
    gelu: [forbidden(ops.gelu, 5, { approximate: 'tanh' }), 'VALUE'],
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

test('what is no tensor at all is an error that shows the arguments, and changes nothing', async (t) => {
  const x = ones([2, 2]);
  const w = ones([2, 2], { requiresGrad: true });
  const came = 'Tensor float32 [2, 2] cpu';
  const later = Promise.resolve(x);
  const cases: readonly [call: () => unknown, message: string][] = [
    [forbidden(matmul, undefined, x), `matmul: expected tensors, got (undefined, ${came})`],
    [forbidden(matmul, x, null), `matmul: expected tensors, got (${came}, null)`],
    [forbidden(matmul, [1, 2], w), `matmul: expected tensors, got (an array, ${came})`],
    [forbidden(indexSelect, x, 0, undefined), `indexSelect: expected tensors, got (${came}, 0, undefined)`],
    [forbidden(dropout, undefined, 0.5), 'dropout: expected tensors, got (undefined)'],
    [forbidden(dropout, 5, 0), 'dropout: expected tensors, got (5)'],
    [forbidden(ops.attention, x, later, x), `attention: expected tensors, got (${came}, a Promise, ${came})`],
    [forbidden(ops.flatten, new Float32Array(2)), 'flatten: expected tensors, got (a Float32Array)'],
    [forbidden(ops.split, new Int32Array(2), 1), 'split: expected tensors, got (an Int32Array)'],
    [forbidden(ops.rearrange, {}, 'a -> a'), 'rearrange: expected tensors, got (an object)'],
    [forbidden(ops.einsum, 'i,i->', x, 'x'), `einsum: expected tensors, got (${came}, 'x')`],
    [forbidden(ops.layerNormResidual, x, 5), `layerNormResidual: expected tensors, got (${came}, 5)`],
    [forbidden(ops.logicalNot, null), 'logicalNot: expected tensors, got (null)'],
    [forbidden(ops.crossEntropy, x, [0, 1]), `crossEntropy: expected tensors, got (${came}, an array)`],
    [forbidden(ops.cat, [x, undefined]), 'cat: expected tensors, got undefined for tensors[1]'],
    [forbidden(ops.cat, x, x), `cat: expected an array of tensors, got ${came} for tensors`],
    [forbidden(ops.stack, [[1], x]), 'stack: expected tensors, got an array for tensors[0]'],
    [forbidden(backward, undefined), 'backward: expected tensors, got (undefined)'],
    [forbidden(backward, w, { gradient: [1] }), 'backward: expected tensors, got (an array)'],
    [forbidden(grad, w, w), `grad: expected an array of tensors, got ${came} for inputs`],
    [forbidden(grad, undefined, [w]), 'grad: expected an array of tensors, got undefined for outputs'],
    [forbidden(grad, w, [5]), 'grad: expected tensors, got 5 for inputs[0]'],
    [forbidden(setRequiresGrad, [x]), 'setRequiresGrad: expected tensors, got (an array)'],
    [forbidden(registerHook, null, () => undefined), 'registerHook: expected tensors, got (null)'],
    [forbidden(detach, undefined), 'detach: expected tensors, got (undefined)'],
    [forbidden(keep, [x]), 'keep: expected tensors, got (an array)'],
    [forbidden(copyInto, x, [1, 2]), `copyInto: expected tensors, got (${came}, an array)`],
  ];
  const state = getRandomState();
  for (const [call, message] of cases) t.throws(call, { instanceOf: TensorError, code: 'VALUE', message });
  await t.throwsAsync(forbidden(ops.toArray, [1]) as () => Promise<unknown>, {
    instanceOf: TensorError,
    message: 'toArray: expected tensors, got (an array)',
  });
  const q = ones([1, 1, 2, 2]);
  for (const call of [
    forbidden(ops.attention, q, x, q, { dropout: 0.5 }),
    forbidden(ops.attentionPacked, ones([1, 2, 3]), { numHeads: 1, queries: 'all', dropout: 0.5 }),
    forbidden(ops.windowAttention, ones([1, 2, 2, 3]), ones([9, 1]), { window: ['a', 2], dropout: 0.5 }),
  ])
    t.throws(call, { instanceOf: TensorError });
  t.deepEqual(getRandomState(), state);
});

test('a pattern that is no text is an error', (t) => {
  const x = ones([2]);
  for (const [call, message] of [
    [forbidden(ops.rearrange, x), 'rearrange: expected a pattern, got undefined'],
    [forbidden(ops.reduce, x, 5, 'sum'), 'reduce: expected a pattern, got 5'],
    [forbidden(ops.repeat, x, ['a']), 'repeat: expected a pattern, got an array'],
    [forbidden(ops.einsum, x, x), 'einsum: expected an equation, got Tensor float32 [2] cpu'],
  ] as const)
    t.throws(call, { instanceOf: TensorError, code: 'VALUE', message });
});

test('a disposed tensor is told from what is none', (t) => {
  const gone = ones([2, 2]);
  gone.dispose();
  const message = 'tensor: expected a live tensor, got one that was disposed';
  for (const call of [
    () => ops.flatten(gone),
    () => ops.split(gone, 1),
    () => ops.linear(ones([2]), ones([2, 2]), gone),
    () => ops.cat([gone]),
    () => ops.attention(gone, gone, gone),
  ])
    t.throws(call, { instanceOf: TensorError, code: 'DISPOSED', message });
});

test('what stands in the place of a tensor that may be left out is an error that names it', (t) => {
  const x = ones([1, 4, 4, 4]);
  const [tokens, weight] = [ones([2, 4]), ones([4, 4])];
  const table = ones([9, 1]);
  const cases: readonly [op: string, parameter: string, call: (given: unknown) => () => unknown][] = [
    ['conv2d', 'bias', (given) => forbidden(ops.conv2d, x, ones([4, 4, 1, 1]), given)],
    [
      'conv2d',
      'residual',
      (given) => forbidden(ops.conv2d, x, ones([4, 4, 1, 1]), undefined, { residual: given }),
    ],
    ['linear', 'bias', (given) => forbidden(ops.linear, tokens, weight, given)],
    ['linear', 'residual', (given) => forbidden(ops.linear, tokens, weight, undefined, { residual: given })],
    ['mlp', 'bias1', (given) => forbidden(ops.mlp, tokens, weight, given, weight, undefined)],
    ['mlp', 'bias2', (given) => forbidden(ops.mlp, tokens, weight, undefined, weight, given)],
    [
      'mlp',
      'residual',
      (given) => forbidden(ops.mlp, tokens, weight, undefined, weight, undefined, { residual: given }),
    ],
    ['layerNorm', 'gamma', (given) => forbidden(ops.layerNorm, tokens, given)],
    ['layerNorm', 'beta', (given) => forbidden(ops.layerNorm, tokens, undefined, given)],
    ['layerNormResidual', 'gamma', (given) => forbidden(ops.layerNormResidual, tokens, tokens, given)],
    [
      'layerNormResidual',
      'beta',
      (given) => forbidden(ops.layerNormResidual, tokens, tokens, undefined, given),
    ],
    ['batchNorm', 'gamma', (given) => forbidden(ops.batchNorm, x, given)],
    ['batchNorm', 'beta', (given) => forbidden(ops.batchNorm, x, undefined, given)],
    [
      'batchNorm',
      'residual',
      (given) => forbidden(ops.batchNorm, x, undefined, undefined, { residual: given }),
    ],
    [
      'batchNorm',
      'runningMean',
      (given) => forbidden(ops.batchNorm, x, undefined, undefined, { runningMean: given }),
    ],
    [
      'batchNorm',
      'runningVar',
      (given) => forbidden(ops.batchNorm, x, undefined, undefined, { runningVar: given }),
    ],
    ['attention', 'bias', (given) => forbidden(ops.attention, x, x, x, { bias: given })],
    ['attention', 'mask', (given) => forbidden(ops.attention, x, x, x, { mask: given })],
    ['attentionWithLse', 'mask', (given) => forbidden(ops.attentionWithLse, x, x, x, { mask: given })],
    [
      'attentionPacked',
      'bias',
      (given) => forbidden(ops.attentionPacked, ones([1, 2, 3]), { numHeads: 1, bias: given }),
    ],
    [
      'attentionPacked',
      'mask',
      (given) => forbidden(ops.attentionPacked, ones([1, 2, 3]), { numHeads: 1, mask: given }),
    ],
    ['attentionRows', 'bias', (given) => forbidden(ops.attentionRows, x, x, ops.arange(1), { bias: given })],
    ['attentionRows', 'mask', (given) => forbidden(ops.attentionRows, x, x, ops.arange(1), { mask: given })],
    [
      'windowAttention',
      'padding',
      (given) => forbidden(ops.windowAttention, ones([1, 2, 2, 3]), table, { window: 2, padding: given }),
    ],
  ];
  for (const [op, parameter, call] of cases) {
    for (const [given, came] of [
      [{ stride: 2 }, 'an object'],
      [null, 'null'],
      [0, '0'],
      ['relu', "'relu'"],
      [[1, 2], 'an array'],
    ] as const)
      t.throws(call(given), {
        instanceOf: TensorError,
        code: 'VALUE',
        message: `${op}: expected a tensor or undefined, got ${came} for ${parameter}`,
      });
  }
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
