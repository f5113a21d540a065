import test from 'ava';

import {
  Adam,
  AdamW,
  Ema,
  Linear,
  SGD,
  TensorError,
  add,
  clipGradNorm,
  copyInto,
  globalNorm,
  leakCheck,
  mul,
  ones,
  sum,
  normal,
  tensor,
  zeros,
  type FloatTensor,
  type Optimizer,
  type OptimizerState,
  type Tensor,
} from '../../src/index.js';
import { close } from '../helpers/numbers.js';

const param = (values: number[]): Tensor<'float32'> =>
  tensor(values, { dtype: 'float32', requiresGrad: true });

/** Gives each parameter the gradient `scale * parameter`, by a loss. */
function lossOf(params: readonly Tensor<'float32'>[], scale = 1): void {
  for (const p of params) mul(sum(mul(p, p)), scale / 2).backward();
}

test('parameter groups have a learning rate and a weight decay of their own', async (t) => {
  const [a, b, c] = [param([1]), param([1]), param([1])];
  const optimizer = new SGD(
    [
      { params: [a], lr: 0.5 },
      { params: [b], weightDecay: 1 },
      { params: [c], lrScale: 0.5 },
    ],
    { lr: 0.1 },
  );
  lossOf([a, b, c]);
  optimizer.step();
  await close(t, a, [1 - 0.5]);
  await close(t, b, [1 - 0.1 * 2]);
  await close(t, c, [1 - 0.05]);
  optimizer.setLearningRate(0.2);
  t.deepEqual(
    optimizer.groups.map(({ lr }) => lr),
    [0.2, 0.2, 0.1],
  );
});

test('SGD with momentum and Nesterov is the formula, on two steps', async (t) => {
  const p = param([1, 2]);
  const optimizer = new SGD([p], { lr: 0.1, momentum: 0.5, nesterov: true, weightDecay: 0.1 });
  let [expected, buffer] = [
    [1, 2],
    [0, 0],
  ];
  for (let step = 0; step < 2; step++) {
    lossOf([p]);
    optimizer.step();
    optimizer.zeroGrad();
    const g = expected.map((x) => x + 0.1 * x);
    buffer = buffer.map((b, i) => 0.5 * b + g[i]);
    expected = expected.map((x, i) => x - 0.1 * (g[i] + 0.5 * buffer[i]));
    await close(t, p, expected);
  }
});

test('a parameter without a gradient sits a step out and keeps its own count', async (t) => {
  const [a, b] = [param([1]), param([1])];
  const optimizer = new AdamW([a, b], { lr: 0.1, weightDecay: 0 });
  lossOf([a]);
  optimizer.step();
  optimizer.zeroGrad();
  lossOf([a, b]);
  optimizer.step();
  // The first step of Adam is lr times the sign of the gradient, whenever it comes.
  await close(t, b, [0.9]);
  t.deepEqual(optimizer.stateDict().values.steps, [2, 1]);
  t.is(new AdamW([param([1])]).step(), undefined);
});

test('float64 parameters are updated in float64, gradients that are views too', async (t) => {
  const p = tensor([[1, 2]], { dtype: 'float64', requiresGrad: true });
  p.transpose().sum().backward(); // an expanded scalar, transposed
  new SGD([p], { lr: 1e-12 }).step();
  t.deepEqual([...(await p.data())], [1 - 1e-12, 2 - 1e-12]);
});

test('parameters without elements pass through every update', async (t) => {
  for (const make of [
    (params: Tensor<'float32'>[]) => new AdamW(params, { lr: 0.5, weightDecay: 0 }),
    (params: Tensor<'float32'>[]) => new SGD(params, { lr: 0.5, momentum: 0.9 }),
  ]) {
    const [empty, full] = [zeros([3, 0], { requiresGrad: true }), param([1, 2])];
    const ema = new Ema({ empty, full }, { decay: 0.5 });
    [empty.grad, full.grad] = [zeros([3, 0]), tensor([1, 1])];
    clipGradNorm([empty, full], 10);
    make([empty, full]).step();
    ema.update();
    await close(t, full, [0.5, 1.5]);
    await close(t, ema.averages.full, [0.75, 1.75]);
    t.deepEqual(empty.shape, [3, 0]);
  }
});

test('a stored state continues the path exactly, and its learning rates', async (t) => {
  for (const make of [
    (p: FloatTensor[]): Optimizer => new AdamW(p, { lr: 0.1 }),
    (p: FloatTensor[]): Optimizer => new SGD(p, { lr: 0.1, momentum: 0.9 }),
  ]) {
    const run = (optimizer: Optimizer, p: Tensor<'float32'>): void => {
      lossOf([p]);
      optimizer.step();
      optimizer.zeroGrad();
    };
    const p = param([1, -2, 3]);
    const first = make([p]);
    run(first, p);
    first.setLearningRate(0.05);
    const q = param(Array.from(await p.data()));
    const second = make([q]);
    second.loadStateDict(first.stateDict());
    for (let i = 0; i < 3; i++) {
      run(first, p);
      run(second, q);
    }
    t.deepEqual(await q.data(), await p.data());
    t.is(second.groups[0].lr, 0.05);
  }
});

test('loading the state of a fresh optimizer forgets the old one', async (t) => {
  const p = param([1]);
  const optimizer = new SGD([p], { lr: 0.1, momentum: 0.9 });
  const fresh = optimizer.stateDict();
  lossOf([p]);
  optimizer.step();
  optimizer.zeroGrad();
  optimizer.loadStateDict(fresh);
  t.deepEqual(optimizer.stateDict().tensors, {});
  lossOf([p]);
  optimizer.step();
  await close(t, p, [0.9 * 0.9]); // no momentum of the first step
});

test('a state of other parameters is an error that says what is wrong', (t) => {
  const state = (values: number[]): OptimizerState => {
    const p = param(values);
    const optimizer = new AdamW([p]);
    lossOf([p]);
    optimizer.step();
    return optimizer.stateDict();
  };
  const optimizer = new AdamW([param([1, 2])]);
  t.throws(() => new AdamW([param([1]), param([2])]).loadStateDict(state([1])), {
    instanceOf: TensorError,
    message: 'AdamW: expected the state of 2 parameters in 1 groups, got 1 in 1',
  });
  t.throws(() => optimizer.loadStateDict(state([1, 2, 3])), {
    instanceOf: TensorError,
    message: /\[2\].*\[3\]/,
  });
  const { tensors, values } = state([1, 2]);
  t.throws(() => optimizer.loadStateDict({ tensors: { 'm.0': tensors['m.0'] }, values }), {
    message: 'AdamW: expected a tensor v.0 in the state',
  });
});

test('clipping scales gradients above the norm, leaves others, and returns the norm before', async (t) => {
  const [a, b] = [param([3, 0]), param([0, 4])];
  lossOf([a, b]);
  await close(t, globalNorm([a.grad as Tensor, b.grad as Tensor]), [5]);
  await close(t, clipGradNorm([a, b, param([1])], 1), [5]);
  await close(t, a.grad, [0.6, 0]);
  await close(t, b.grad, [0, 0.8]);
  await close(t, clipGradNorm([a, b], 10), [1]);
  await close(t, a.grad, [0.6, 0]);
});

test('gradients that share their memory are clipped once each', async (t) => {
  const [a, b] = [param([3, 4]), param([0, 0])];
  // Both operands of a sum get one gradient; here [3, 4], of norm 5 each.
  mul(add(a, b), tensor([3, 4]))
    .sum()
    .backward();
  await close(t, clipGradNorm([a, b], 1), [Math.sqrt(50)], 1e-5);
  for (const { grad } of [a, b]) await close(t, grad, [3 / Math.sqrt(50), 4 / Math.sqrt(50)], 1e-5);
});

test('a norm beyond float32 clips, and a NaN makes every gradient NaN', async (t) => {
  const wide = tensor([0, 0], { dtype: 'float64', requiresGrad: true });
  wide.mul(1e60).sum().backward();
  const norm = await clipGradNorm([wide], 1).item();
  t.true(Math.abs(norm / Math.hypot(1e60, 1e60) - 1) < 1e-12, `${norm}`);
  await close(t, wide.grad, [Math.SQRT1_2, Math.SQRT1_2], 1e-12);

  const [a, b] = [param([1, 2]), param([1])];
  mul(a, tensor([NaN, 1]))
    .sum()
    .add(mul(b, 5).sum())
    .backward();
  t.is(await clipGradNorm([a, b], 1).item(), NaN);
  for (const { grad } of [a, b]) t.true((await grad?.data())?.every(Number.isNaN));
  const [c, d] = [param([1]), param([1])];
  mul(c, NaN).add(d).sum().backward();
  new SGD([c, d], { lr: 1 }).step({ maxNorm: 1 });
  t.deepEqual([await c.item(), await d.item()], [NaN, NaN]);
});

test('a parameter that is listed twice is clipped once', async (t) => {
  const w = param([3, 4]);
  lossOf([w]);
  await close(t, clipGradNorm([w, w], 1), [5]);
  await close(t, w.grad, [0.6, 0.8]);
});

test('wrong settings are errors that name the optimizer and the value', (t) => {
  const p = [param([1])];
  const cases: [() => unknown, string][] = [
    [() => new AdamW([]), 'AdamW: expected at least one parameter, got none'],
    [() => new AdamW([{ params: [] }]), 'AdamW: expected at least one parameter, got none'],
    [() => new AdamW([p[0], p[0]]), 'AdamW: expected each parameter once, got one twice'],
    [() => new AdamW(p, { lr: -1 }), 'AdamW: expected a finite learning rate of 0 or more, got -1'],
    [() => new AdamW(p, { lr: NaN }), 'AdamW: expected a finite learning rate of 0 or more, got NaN'],
    [() => new Adam(p, { weightDecay: -1 }), 'Adam: expected a finite weight decay of 0 or more, got -1'],
    [() => new Adam(p, { betas: [0.9, 1] }), 'Adam: expected betas in [0, 1), got 0.9, 1'],
    [() => new Adam(p, { eps: -1 }), 'Adam: expected an eps of 0 or more, got -1'],
    [() => new SGD(p, { lr: 1, momentum: -1 }), 'SGD: expected a momentum of 0 or more, got -1'],
    [() => new SGD(p, { lr: 1, nesterov: true }), 'SGD: expected a momentum with nesterov, got none'],
    [() => new Ema({}, { decay: 2 }), 'Ema: expected a decay in [0, 1], got 2'],
    [() => clipGradNorm(p, 1), 'clipGradNorm: expected at least one gradient, got none'],
    [() => clipGradNorm(p, 0), 'clipGradNorm: expected a maxNorm above 0, got 0'],
  ];
  for (const [run, message] of cases) t.is(t.throws(run, { instanceOf: TensorError, message }).code, 'VALUE');
  lossOf(p);
  t.throws(() => new AdamW(p).step({ maxNorm: -1 }), {
    message: 'AdamW: expected a maxNorm above 0, got -1',
  });
});

test('the result of a recorded op is no parameter', (t) => {
  const w = normal([2, 2], { requiresGrad: true });
  t.throws(() => new SGD([w, w.mul(0.02)], { lr: 0.1 }), {
    code: 'AUTOGRAD',
    message: 'SGD: expected leaves, got the result of mul for params[1]; detach() it, then setRequiresGrad()',
  });
  new SGD([w.mul(0.02).detach().setRequiresGrad()], { lr: 0.1 }).dispose();
});

test('an average of weights follows its formula, with and without warm-up', async (t) => {
  for (const warmup of [false, true]) {
    const w = param([0]);
    const ema = new Ema({ w }, { decay: 0.9, warmup });
    let expected = 0;
    for (let step = 1; step <= 4; step++) {
      w.grad = tensor([-1]);
      new SGD([w], { lr: 1 }).step();
      ema.update();
      const decay = warmup ? Math.min(0.9, 1 - (1 + step) ** (-2 / 3)) : 0.9;
      expected += (1 - decay) * (step - expected);
      await close(t, ema.averages['w'], [expected]);
    }
    t.is(ema.steps, 4);
  }
});

test('an average follows weights that are views', async (t) => {
  const weights = tensor([
    [1, 2],
    [3, 4],
  ]);
  const ema = new Ema({ w: weights.transpose(0, 1) }, { decay: 0.5 });
  copyInto(weights, zeros([2, 2]));
  ema.update();
  t.deepEqual(await ema.averages['w'].toArray(), [
    [0.5, 1.5],
    [1, 2],
  ]);
});

test('an average copies the whole numbers among the weights', async (t) => {
  const count = tensor([3], { dtype: 'int64' });
  const w = param([1]);
  const ema = new Ema({ count, w }, { decay: 0.5 });
  copyInto(count, tensor([8], { dtype: 'int64' }));
  copyInto(w, tensor([3]));
  ema.update();
  t.is(Number(await ema.averages['count'].item()), 8);
  t.is(await ema.averages['w'].item(), 2);
  ema.dispose();
});

test.serial('an optimizer and an average own their state until they are disposed of', async (t) => {
  const p = param([1, 2]);
  await leakCheck(() => {
    const optimizer = new AdamW([p]);
    const ema = new Ema({ p });
    p.grad = ones([2]);
    optimizer.step();
    ema.update();
    optimizer.dispose();
    ema.dispose();
  });
  t.is(p.grad, undefined);
  t.false(p.isDisposed);
});

test('a step with parameters that were disposed of is an error, and changes nothing', async (t) => {
  const gone = (shape: string): string =>
    `expected live parameters, got Tensor (disposed (${shape})), as model.to() and model.dispose() leave behind; ` +
    'make the optimizer after model.to()';
  const w = param([1]);
  for (const end of [(m: Linear) => m.to('float64'), (m: Linear) => m.dispose()]) {
    const model = new Linear(2, 3, { bias: false });
    void model.weight.shape;
    const optimizer = new SGD([{ params: [w] }, { params: model.parameters() }], { lr: 1 });
    end(model);
    lossOf([w]);
    for (const options of [{}, { maxNorm: 1 }]) {
      t.throws(() => optimizer.step(options), {
        instanceOf: TensorError,
        code: 'DISPOSED',
        message: `SGD: ${gone('float32 [3, 2]')}`,
      });
    }
    await close(t, w, [1]);
    optimizer.dispose();
  }
});

test('rates that would make every weight NaN are errors when they are set, or at the next step', async (t) => {
  const p = param([1]);
  const optimizer = new AdamW([{ params: [p], lrScale: 0.5 }], { lr: 1, weightDecay: 0 });
  lossOf([p]);
  for (const [lr, got] of [
    [NaN, 'NaN'],
    [undefined, 'undefined'],
    [-1, '-1'],
    [Infinity, 'Infinity'],
    ['0.1', "'0.1'"],
  ] as const) {
    const message = `AdamW: expected a finite learning rate of 0 or more, got ${got}`;
    t.throws(() => optimizer.setLearningRate(lr as number), {
      instanceOf: TensorError,
      code: 'VALUE',
      message,
    });
    t.is(optimizer.groups[0].lr, 0.5);
    optimizer.groups[0].lr = lr as number;
    t.throws(() => optimizer.step(), { instanceOf: TensorError, code: 'VALUE', message });
    optimizer.setLearningRate(1);
  }
  optimizer.groups[0].weightDecay = NaN;
  t.throws(() => optimizer.step(), {
    message: 'AdamW: expected a finite weight decay of 0 or more, got NaN',
  });
  optimizer.groups[0].weightDecay = 0;
  await close(t, p, [1]);
  optimizer.step();
  await close(t, p, [0.5]);
});
