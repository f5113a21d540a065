/**
 * What is no tensor, or no options, in layers, optimizers and whatever else takes tensors; test/tensor/errors.ts and the op table have the
 * ops.
 */
import test from 'ava';

import {
  AdamW,
  Conv2d,
  DropPath,
  Dropout,
  Ema,
  LayerScale,
  Linear,
  PatchEmbed,
  PatchMerging,
  Residual,
  SGD,
  Sequential,
  TensorError,
  WindowAttention,
  attentionDistance,
  attentionGradients,
  attentionMaps,
  attentionRelevance,
  attentionRollout,
  backward,
  buffer,
  clipGradNorm,
  createModel,
  defineOp,
  distillationLoss,
  explain,
  globalNorm,
  initConstant,
  initLecunNormal,
  initNormal,
  initTruncatedNormal,
  initUniform,
  initXavierUniform,
  massMask,
  normal,
  ones,
  parameter,
  resizePositions,
  saveSafetensors,
  snapshot,
  tensor,
  type AnyModule,
} from '../../src/index.js';
import * as ops from '../../src/ops/index.js';
import { forbidden } from '../helpers/op-case.js';

type Cases = readonly (readonly [call: () => unknown, message: string])[];

test('a layer that is given no tensor names itself, or its op, and what came', (t) => {
  const call =
    (layer: AnyModule, ...args: unknown[]): (() => unknown) =>
    () =>
      layer.call(...args) as unknown;
  const vit = createModel('vit_nano_patch8_32');
  const swin = createModel('swin_micro_patch2_window4_32');
  const x = ones([2, 3]);
  const embed = new PatchEmbed({ patchSize: 4, inChans: 3, embedDim: 2 });
  const cases: Cases = [
    [
      call(new Linear(3, 3), null),
      "linear: expected tensors, got (null, Tensor float32 [3, 3] cpu, Tensor float32 [3] cpu, undefined, 'none')",
    ],
    [
      call(new Linear(3, 3), x, { training: true }),
      'linear: expected a tensor or undefined, got an object for residual',
    ],
    [call(new LayerScale(3, 1), [1]), 'LayerScale: expected tensors, got (an array)'],
    [call(new Residual(new Linear(3, 3)), undefined), 'Residual: expected tensors, got (undefined)'],
    [call(new Sequential([]), 5), 'Sequential: expected tensors, got (5)'],
    [call(new Dropout(0.5).eval(), 5), 'Dropout: expected tensors, got (5)'],
    [call(new DropPath(0.5).eval(), [x]), 'DropPath: expected tensors, got (an array)'],
    [call(embed, new Float32Array(2)), 'PatchEmbed: expected tensors, got (a Float32Array)'],
    [
      call(new WindowAttention(2, { numHeads: 1, window: [2, 2] }), null),
      'WindowAttention: expected tensors, got (null)',
    ],
    [call(new PatchMerging(2, 4), null), 'PatchMerging: expected tensors, got (null)'],
    [call(vit, Promise.resolve(x)), 'VisionTransformer: expected tensors, got (a Promise)'],
    [call(swin, undefined), 'SwinTransformer: expected tensors, got (undefined)'],
  ];
  for (const [run, message] of cases) t.throws(run, { instanceOf: TensorError, code: 'VALUE', message });
});

test('what fills, keeps or loads parameters says what came in their place', (t) => {
  const layer = new Linear(1, 1);
  const cases: Cases = [
    [forbidden(parameter, undefined), 'parameter: expected tensors, got (undefined)'],
    [forbidden(buffer, [1]), 'buffer: expected tensors, got (an array)'],
    [forbidden(initConstant, null, 1), 'initConstant: expected tensors, got (null)'],
    [forbidden(initNormal, null, 1), 'initNormal: expected tensors, got (null)'],
    [forbidden(initTruncatedNormal, null, 1), 'initTruncatedNormal: expected tensors, got (null)'],
    [forbidden(initUniform, null, 1), 'initUniform: expected tensors, got (null)'],
    [forbidden(initXavierUniform, {}), 'initXavierUniform: expected tensors, got (an object)'],
    [forbidden(initLecunNormal, {}), 'initLecunNormal: expected tensors, got (an object)'],
    [
      () => layer.loadStateDict({ weight: ones([1, 1]), bias: [1] as never }),
      "loadStateDict: expected tensors, got an array for state['bias']",
    ],
    [
      () => layer.loadStateDict(Promise.resolve({}) as never),
      'loadStateDict: expected tensors by name, got a Promise for state',
    ],
    [forbidden(snapshot, { a: 5 }), "snapshot: expected tensors, got 5 for state['a']"],
    [forbidden(snapshot, [ones([1])]), 'snapshot: expected tensors by name, got an array for state'],
    [
      forbidden(resizePositions, undefined, [1, 1], [2, 2], 0),
      'resizePositions: expected tensors, got (undefined)',
    ],
  ];
  for (const [run, message] of cases) t.throws(run, { instanceOf: TensorError, code: 'VALUE', message });
});

test('an optimizer or an average that is given no parameters says what came', (t) => {
  const p = ones([1], { requiresGrad: true });
  const layer = new Linear(1, 1);
  const make =
    (params: unknown): (() => unknown) =>
    () =>
      new SGD(params as never, { lr: 1 });
  const cases: Cases = [
    [make(undefined), 'SGD: expected an array of parameters or of groups, got undefined for params'],
    [make(layer), 'SGD: expected an array of parameters or of groups, got a Linear for params'],
    [
      make(layer.parameters.bind(layer)),
      'SGD: expected an array of parameters or of groups, got a function for params',
    ],
    [make([undefined]), 'SGD: expected tensors, got undefined for params[0]'],
    [make([p, 5]), 'SGD: expected tensors, got 5 for params[1]'],
    [make([{ params: p }]), 'SGD: expected an array of tensors, got Tensor float32 [1] cpu for params'],
    [() => new AdamW([{ params: [p, null as never] }]), 'AdamW: expected tensors, got null for params[1]'],
    [forbidden(clipGradNorm, [p, null], 1), 'clipGradNorm: expected tensors, got null for params[1]'],
    [forbidden(globalNorm, [p, {}]), 'globalNorm: expected tensors, got an object for tensors[1]'],
    [() => new Ema({ a: null as never }), "Ema: expected tensors, got null for weights['a']"],
    [() => new Ema(p as never), 'Ema: expected tensors by name, got Tensor float32 [1] cpu for weights'],
  ];
  for (const [run, message] of cases) t.throws(run, { instanceOf: TensorError, code: 'VALUE', message });
});

test('explanations, losses and files say what came in the place of tensors', async (t) => {
  const vit = createModel('vit_nano_patch8_32');
  const logits = ones([1, 2]);
  const cases: Cases = [
    [forbidden(explain, vit, undefined), 'explain: expected tensors, got (undefined)'],
    [forbidden(attentionMaps, vit, [1]), 'attentionMaps: expected tensors, got (an array)'],
    [forbidden(attentionGradients, vit, null), 'attentionGradients: expected tensors, got (null)'],
    [
      forbidden(attentionRollout, logits),
      'attentionRollout: expected an array of tensors, got Tensor float32 [1, 2] cpu for layers',
    ],
    [forbidden(attentionRollout, [5]), 'attentionRollout: expected tensors, got 5 for layers[0]'],
    [
      forbidden(attentionRelevance, [logits, 5]),
      'attentionRelevance: expected what attentionGradients gives, got an array',
    ],
    [
      forbidden(attentionDistance, [1], { grid: [1, 1], patchSize: 1 }),
      'attentionDistance: expected tensors, got (an array)',
    ],
    [forbidden(massMask, new Float32Array(1), 1), 'massMask: expected tensors, got (a Float32Array)'],
    [
      forbidden(distillationLoss, logits, undefined, { type: 'hard' }),
      'distillationLoss: expected tensors, got (Tensor float32 [1, 2] cpu, undefined)',
    ],
  ];
  for (const [run, message] of cases) t.throws(run, { instanceOf: TensorError, code: 'VALUE', message });
  await t.throwsAsync(saveSafetensors('nowhere/x.safetensors', { a: logits, b: [1] as never }), {
    instanceOf: TensorError,
    message: "saveSafetensors: expected tensors, got an array for tensors['b']",
  });
});

test('what stands where options do, or has a name that none has, is an error with their names', (t) => {
  const x = ones([2, 3]);
  const p = ones([1], { requiresGrad: true });
  const image = ones([1, 1, 2, 2]);
  const create = 'dtype, device, requiresGrad';
  const cases: Cases = [
    [forbidden(ops.softmax, x, 1), 'softmax: expected options { dim }, got 1'],
    [forbidden(ops.softmax, x, null), 'softmax: expected options { dim }, got null'],
    [forbidden(ops.sum, x, 0), 'sum: expected options { dim, keepdim }, got 0'],
    [forbidden(ops.sum, x, [0]), 'sum: expected options { dim, keepdim }, got an array'],
    [forbidden(ops.mean, x, { dims: 1 }), "mean: expected options { dim, keepdim }, got one named 'dims'"],
    [forbidden(ops.argmax, x, 1), 'argmax: expected options { dim, keepdim }, got 1'],
    [
      forbidden(ops.variance, x, { unbiased: false }),
      "variance: expected options { dim, keepdim, correction }, got one named 'unbiased'",
    ],
    [forbidden(ops.gelu, x, 'tanh'), "gelu: expected options { approximate }, got 'tanh'"],
    [
      forbidden(ops.attention, image, image, image, ones([2, 2])),
      'attention: expected options { bias, mask, scale, dropout }, got Tensor float32 [2, 2] cpu',
    ],
    [
      forbidden(ops.conv2d, image, ones([1, 1, 1, 1]), undefined, { strides: 2 }),
      "conv2d: expected options { stride, padding, dilation, groups, residual, activation }, got one named 'strides'",
    ],
    [forbidden(ops.zeros, [2], 'int32'), `zeros: expected options { ${create} }, got 'int32'`],
    [
      forbidden(ops.ones, [2], { requires_grad: true }),
      `ones: expected options { ${create} }, got one named 'requires_grad'`,
    ],
    [forbidden(ops.arange, 0, 3, 1), `arange: expected options { ${create}, step }, got 1`],
    [forbidden(tensor, [1], 'int32'), `tensor: expected options { ${create}, shape }, got 'int32'`],
    [forbidden(ops.uniform, [2], 0, 1), `uniform: expected options { ${create}, low, high }, got 0`],
    [
      forbidden(ops.permutation, 3, { seed: 1 }),
      "permutation: expected options { device }, got one named 'seed'",
    ],
    [
      forbidden(backward, p, ones([1])),
      'backward: expected options { gradient, retainGraph }, got Tensor float32 [1] cpu',
    ],
    [() => new Linear(2, 2, false as never), 'Linear: expected options { bias, activation }, got false'],
    [
      () => new Conv2d(1, 1, 1, { strides: 2 } as never),
      "Conv2d: expected options { stride, padding, dilation, groups, bias }, got one named 'strides'",
    ],
    [
      () => new AdamW([p], { weight_decay: 0.1 } as never),
      "AdamW: expected options { lr, betas, eps, weightDecay }, got one named 'weight_decay'",
    ],
    [
      () => new SGD([{ params: [p], weight_decay: 0 } as never], { lr: 1 }),
      "SGD: expected options { params, lr, weightDecay, lrScale }, got one named 'weight_decay'",
    ],
    [
      () => new SGD([p], 0.1 as never),
      'SGD: expected options { lr, momentum, nesterov, weightDecay }, got 0.1',
    ],
    [() => new SGD([p], { lr: 1 }).step(1 as never), 'SGD: expected options { maxNorm }, got 1'],
    [() => new Ema({}, 0.9 as never), 'Ema: expected options { decay, warmup }, got 0.9'],
  ];
  for (const [run, message] of cases) t.throws(run, { instanceOf: TensorError, code: 'VALUE', message });
});

test('a gradient that is set to null is none, and what is no tensor is an error', async (t) => {
  const p = tensor([1, 2], { dtype: 'float32', requiresGrad: true });
  const optimizer = new SGD([p], { lr: 1 });
  p.mul(3).sum().backward();
  p.grad = null;
  t.is(p.grad, undefined);
  t.is(optimizer.step(), undefined);
  p.mul(5).sum().backward();
  t.deepEqual(await p.grad!.toArray(), [5, 5]);
  t.throws(() => (p.grad = [1, 2] as never), {
    instanceOf: TensorError,
    code: 'VALUE',
    message: 'grad: expected a tensor or undefined, got an array',
  });
  t.deepEqual(await p.grad!.toArray(), [5, 5]);
  const before = p.grad;
  p.dispose();
  t.true(before!.isDisposed);
});

test("an op of one's own must return tensors", (t) => {
  for (const [result, came] of [
    [undefined, 'undefined'],
    [5, '5'],
    [[normal([1]), 5], 'an array'],
    [{ y: 1 }, 'an object'],
  ] as const) {
    const op = defineOp({ name: 'mine', forward: () => result as never });
    t.throws(() => op(), {
      instanceOf: TensorError,
      code: 'VALUE',
      message: `mine: expected a tensor or tensors from forward, got ${came}`,
    });
  }
});
