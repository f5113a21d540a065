import test from 'ava';

import {
  SGD,
  TensorError,
  add,
  autocast,
  copyInto,
  detach,
  enableGrad,
  exp,
  gelu,
  grad,
  inferenceMode,
  isGradEnabled,
  keep,
  leakCheck,
  linear,
  logSoftmax,
  matmul,
  memoryStats,
  mul,
  noGrad,
  normal,
  ones,
  resetPeakMemory,
  scope,
  setRequiresGrad,
  sum,
  synchronize,
  tensor,
  topk,
  zeros,
  type FloatTensor,
  type Tensor,
} from '../../src/index.js';
import { close, finiteDifferences } from '../helpers/numbers.js';

const leaf = (values: number[]): Tensor<'float32'> =>
  tensor(values, { dtype: 'float32', requiresGrad: true });

test('backward adds up every way that leads to a leaf', async (t) => {
  const x = leaf([1, -2, 3]);
  // x^2 + x + x exp(0 x), through a diamond and with x used five times.
  const square = mul(x, x);
  const y = add(add(square, x), mul(x, exp(mul(x, 0))));
  y.sum().backward();
  await close(t, x.grad, [2 + 1 + 1, -4 + 1 + 1, 6 + 1 + 1]);
});

test('gradients accumulate over calls of backward', async (t) => {
  const x = leaf([2, 5]);
  mul(x, 3).sum().backward();
  mul(x, x).sum().backward();
  await close(t, x.grad, [3 + 4, 3 + 10]);
});

test('backward starts from the gradient that it is given', async (t) => {
  const x = leaf([1, 2]);
  mul(x, x).backward({ gradient: tensor([10, 100]) });
  await close(t, x.grad, [20, 400]);
});

test('grad gives the gradients of inputs, of intermediate results too, and leaves every .grad alone', async (t) => {
  const x = leaf([1, 2]);
  const w = leaf([3, 4]);
  const unrelated = leaf([0]);
  const hidden = mul(x, w);
  const y = mul(hidden, hidden).sum();
  const [dx, dHidden, none, again] = grad(y, [x, hidden, unrelated, x]);
  await close(t, dx, [2 * 3 * 3, 2 * 8 * 4]);
  await close(t, dHidden, [6, 16]);
  t.is(none, undefined);
  await close(t, again, [18, 64]);
  t.is(x.grad, undefined);
  t.is(w.grad, undefined);
});

test('grad takes several outputs, each with a gradient of its own', async (t) => {
  const x = leaf([1, 2]);
  const [dx] = grad([mul(x, x), mul(x, 5).sum()], [x], { gradients: [tensor([1, 10]), undefined] });
  await close(t, dx, [2 + 5, 40 + 5]);
});

test('a retained graph runs backward again; another one is an error that says how', async (t) => {
  const x = leaf([1, 2]);
  const y = mul(x, x).sum();
  y.backward({ retainGraph: true });
  y.backward();
  await close(t, x.grad, [4, 8]);
  t.throws(() => y.backward(), {
    instanceOf: TensorError,
    message: 'mul: expected a first backward, got a second; pass { retainGraph: true }',
  });
});

test('what backward cannot start from is an error that names it', (t) => {
  const x = leaf([1, 2]);
  const cases: [() => unknown, string][] = [
    [() => mul(x, 2).backward(), 'backward: expected a scalar output or a gradient for it, got shape [2]'],
    [
      () => ones([2]).backward(),
      'backward: expected an output that requires a gradient, got Tensor float32 [2] cpu',
    ],
    [() => mul(x, 2).backward({ gradient: ones([3]) }), 'backward: expected a gradient [2], got [3]'],
    [
      () => mul(x, 2).backward({ gradient: ones([2], { dtype: 'float64' }) }),
      'backward: expected a gradient of float32, got float64',
    ],
    [
      () => grad(mul(x, 2).sum(), [x, ones([1])]),
      'grad: expected inputs that require a gradient, input 1 does not',
    ],
    [
      () => setRequiresGrad(mul(x, 2)),
      'requiresGrad: expected a leaf, got the result of a recorded op; detach() it first',
    ],
    [
      () => tensor([1, 2], { dtype: 'int32', requiresGrad: true }),
      'requiresGrad: expected a floating-point tensor, got int32',
    ],
    [
      () => ones([2]).registerHook(() => undefined),
      'registerHook: expected a tensor that requires a gradient',
    ],
  ];
  for (const [run, message] of cases) t.throws(run, { instanceOf: TensorError, message });
});

test('a hook sees the gradient of a leaf once, in full, and of a result on its way', async (t) => {
  const x = leaf([1, 2]);
  const seen: number[][] = [];
  x.registerHook((gradient) => void seen.push(Array.from(gradient.dataSync() as Float32Array)));
  const hidden = mul(x, 3);
  hidden.registerHook((gradient) => void seen.push(Array.from(gradient.dataSync() as Float32Array)));
  add(hidden, x).sum().backward();
  t.deepEqual(seen, [
    [1, 1],
    [4, 4],
  ]);
  await close(t, x.grad, [4, 4]);
});

test('what a hook returns takes the place of the gradient, until the hook is removed', async (t) => {
  const x = leaf([1, 2]);
  const run = (): void => {
    const hidden = mul(x, 3);
    hidden.registerHook((gradient) => mul(gradient, 10));
    hidden.sum().backward();
  };
  const remove = x.registerHook((gradient) => add(gradient, 1));
  run();
  await close(t, x.grad, [31, 31]);
  remove();
  run();
  await close(t, x.grad, [61, 61]);
});

test('what a hook returns must be like the gradient', (t) => {
  const x = leaf([1, 2]);
  const cases: [FloatTensor, string][] = [
    [ones([2], { dtype: 'float64' }), 'registerHook: expected a gradient of float32, got float64'],
    [ones([3]), 'registerHook: expected a gradient [2], got [3]'],
  ];
  for (const [replacement, message] of cases) {
    const remove = x.registerHook(() => replacement);
    t.throws(() => mul(x, 3).sum().backward(), { instanceOf: TensorError, message });
    remove();
  }
});

test('a hook that writes to its gradient is an error: others may be made of the same memory', async (t) => {
  const x = leaf([1, 2]);
  const h = mul(x, 5);
  h.registerHook((g) => {
    copyInto(g, zeros([2]));
    return undefined;
  });
  t.throws(
    () =>
      mul(add(x, h), tensor([2, 3]))
        .sum()
        .backward(),
    {
      code: 'AUTOGRAD',
      message: 'registerHook: expected a hook that returns another gradient, got one changed in place',
    },
  );
  const y = mul(x, 5);
  y.registerHook((g) => mul(g, 0));
  mul(add(x, y), tensor([2, 3]))
    .sum()
    .backward();
  await close(t, x.grad, [2, 3]);
});

test('a gradient that is set belongs to its leaf, in a scope too', async (t) => {
  const x = leaf([1, 2]);
  scope(() => {
    mul(x, x).sum().backward();
    x.grad = mul(x.grad as Tensor<'float32'>, 10);
  });
  await close(t, x.grad, [20, 40]);
  const optimizer = new SGD([x], { lr: 0.1 });
  optimizer.step();
  await close(t, x, [-1, -2]);
  optimizer.dispose();
});

test('a collected gradient has memory of its own', async (t) => {
  const [a, b, c] = [leaf([1, 2, 3]), leaf([4, 5, 6]), leaf([7, 8, 9])];
  const given = tensor([1, 2, 3]);
  sum(a).backward(); // an expanded scalar
  add(b, c).backward({ gradient: given }); // one tensor for both, and the caller's
  const grads = [a, b, c].map(({ grad }) => grad as FloatTensor);
  copyInto(grads[0], tensor([7, 8, 9]));
  copyInto(grads[1], zeros([3]));
  await close(t, grads[0], [7, 8, 9]);
  await close(t, grads[1], [0, 0, 0]);
  await close(t, grads[2], [1, 2, 3]);
  await close(t, given, [1, 2, 3]);
});

test("a gradient that is nobody else's is not copied", async (t) => {
  const [x, w] = [ones([512, 512]), ones([512, 512]).setRequiresGrad()];
  const y = linear(x, w);
  const dy = ones([512, 512]);
  await synchronize();
  resetPeakMemory();
  const before = memoryStats().current;
  y.backward({ gradient: dy });
  t.true(memoryStats().peak - before < 1.5 * 512 * 512 * 4);
});

test('detach shares the elements and leaves the graph', async (t) => {
  const x = leaf([1, 2]);
  const y = mul(x, 3);
  const constant = detach(y);
  t.false(constant.requiresGrad);
  mul(y, constant).sum().backward();
  await close(t, x.grad, [9, 18]); // 3 y, not 2 * 3 y
});

const CHANGED = (op: string, what: string): { code: string; message: string } => ({
  code: 'AUTOGRAD',
  message:
    `${op}: expected tensors as forward saved them, got Tensor ${what} changed in place since; ` +
    'call backward before copyInto() or optimizer.step(), or give forward a clone()',
});

test('what backward needs must be as it was in forward: a change in place is an error that names it', async (t) => {
  const w = leaf([3, 4]);
  const x = leaf([1, 2]);
  const stale = mul(x, w).sum();
  copyInto(w, tensor([5, 6]));
  t.throws(() => stale.backward(), CHANGED('mul', 'float32 [2] cpu'));
  t.is(x.grad, undefined);

  mul(x, w).sum().backward();
  await close(t, x.grad, [5, 6]);
  await close(t, w.grad, [1, 2]);
});

test('a change through a view of the same memory counts', (t) => {
  const w = leaf([3, 4]);
  const y = exp(w).sum();
  const product = mul(w, w).sum();
  copyInto(detach(w).slice([0, 1]), tensor([5]));
  t.throws(() => product.backward(), CHANGED('mul', 'float32 [2] cpu'));
  t.notThrows(() => y.backward()); // exp needs its result alone
});

test('a change of what backward does not need is none of its business', async (t) => {
  const x = leaf([1, 2]);
  const w = leaf([3, 4]);
  const other = zeros([2]);
  const y = add(mul(x, w), 1);
  copyInto(y.detach(), other); // add has no use for its result
  copyInto(other, tensor([7, 7]));
  y.sum().backward();
  await close(t, x.grad, [3, 4]);
});

test('a product needs of its operands what the gradients that are wanted need', async (t) => {
  const [x, w, b] = [ones([2, 3]), ones([4, 3]), ones([4])];
  const head = w.clone().setRequiresGrad();
  const bias = b.clone().setRequiresGrad();
  const input = x.clone().setRequiresGrad();
  // A step of a linear head between two of its losses: of the weight, nothing is needed.
  for (const product of [
    () => linear(x, head, bias),
    () => matmul(x, head.transpose(0, 1)),
    () => linear(x, head, bias, { activation: 'gelu' }),
  ]) {
    const y = product().sum();
    copyInto(head, zeros([4, 3]));
    y.backward();
  }
  await close(t, linear(x, head, bias).sum().reshape([1]), [8]);
  // Frozen weights: of the input, nothing is needed.
  const y = linear(input, w, b).sum();
  const z = matmul(input, w.transpose(0, 1)).sum();
  copyInto(input, zeros([2, 3]));
  y.backward();
  z.backward();
  await close(t, input.grad, [8, 8, 8, 8, 8, 8]);
  // And vectors, whose shapes the gradients have.
  const v = ones([3]).setRequiresGrad();
  matmul(w, v).sum().backward();
  matmul(v, w.transpose(0, 1)).sum().backward();
  await close(t, v.grad, [8, 8, 8]);
});

test('layers that do not train keep no activations', (t) => {
  const held = (trains: boolean): number =>
    scope(() => {
      const weights = Array.from({ length: 8 }, () => ones([64, 64]).setRequiresGrad(trains));
      const input = ones([256, 64]).setRequiresGrad();
      const before = memoryStats().current;
      const y = weights.reduce((x: FloatTensor, w) => {
        const next = linear(x, w);
        if (x !== input) x.dispose();
        return next;
      }, input);
      const after = memoryStats().current;
      y.sum().backward();
      return after - before;
    });
  const layer = 256 * 64 * 4;
  t.is(held(true), 8 * layer);
  t.is(held(false), layer); // the result
});

test('what was cloned before it changed has its gradient', async (t) => {
  const w = leaf([3, 4]);
  const y = mul(w, w.clone()).sum();
  const z = exp(w.clone()).sum();
  copyInto(w, zeros([2]));
  t.throws(() => y.backward(), CHANGED('mul', 'float32 [2] cpu'));
  z.backward();
  await close(
    t,
    w.grad,
    [3, 4].map((x) => Math.fround(Math.exp(x))),
  );
});

test('an update between forward and backward is an error, in 16 bits too', (t) => {
  for (const dtype of ['float32', 'bfloat16'] as const) {
    const w = keep(ones([2, 2]).setRequiresGrad()); // as modules keep theirs, with a copy in 16 bits
    const optimizer = new SGD([w], { lr: 0.1 });
    const square = (): FloatTensor => autocast(dtype, () => matmul(w, w).sum());
    square().backward();
    const retained = square();
    retained.backward({ retainGraph: true });
    optimizer.step();
    t.throws(() => retained.backward(), CHANGED('matmul', `${dtype} [2, 2] cpu`));
    t.notThrows(() => square().backward());
    optimizer.dispose();
  }
});

test('noGrad records nothing, enableGrad inside it does, and an error restores what was', (t) => {
  const x = leaf([1]);
  t.true(mul(x, 2).requiresGrad);
  noGrad(() => {
    t.false(isGradEnabled());
    t.false(mul(x, 2).requiresGrad);
    t.true(enableGrad(() => mul(x, 2)).requiresGrad);
  });
  t.throws(() => noGrad(() => matmul(x, ones([2, 3]))), { instanceOf: TensorError });
  t.true(isGradEnabled());
  for (const [name, mode] of Object.entries({ noGrad, enableGrad, inferenceMode })) {
    t.throws(() => mode(async () => Promise.resolve()), {
      message: `${name}: expected a synchronous function, got a promise`,
    });
  }
});

test.serial('inferenceMode records nothing and frees what it does not return', async (t) => {
  const x = leaf([1, 2]);
  const before = memoryStats().tensors;
  const y = inferenceMode(() => mul(add(x, 1), 2));
  t.is(memoryStats().tensors, before + 1);
  t.false(y.requiresGrad);
  await close(t, y, [4, 6]);
  y.dispose();
});

test('a chain of thousands of ops runs backward without recursion', async (t) => {
  const x = leaf([1]);
  const y = scope(() => {
    let y = mul(x, 1);
    for (let i = 0; i < 5000; i++) y = add(y, x);
    return y;
  });
  y.backward();
  await close(t, x.grad, [5001]);
});

test('disposing of every handle on the way leaves the gradient whole', async (t) => {
  const x = leaf([1, 2]);
  const w = leaf([3, 4]);
  const loss = scope(() => mul(exp(mul(x, w)), w).sum()); // frees all but the loss
  w.dispose();
  loss.backward();
  await close(t, x.grad, [3 * 3 * Math.exp(3), 4 * 4 * Math.exp(8)], 1e-2);
});

test.serial('disposing of a result that nothing else needs frees what it saved for backward', (t) => {
  const x = leaf([1, 2]);
  const before = memoryStats().tensors;
  const loss = scope(() => mul(exp(mul(x, 3)), x).sum());
  t.true(memoryStats().tensors > before + 1);
  loss.dispose();
  t.is(memoryStats().tensors, before);
});

test.serial('a chain of thousands of ops is freed without recursion', (t) => {
  const x = leaf([1]);
  const before = memoryStats().tensors;
  scope(() => {
    let y = mul(x, 1);
    for (let i = 0; i < 20_000; i++) y = mul(y, y);
  });
  t.is(memoryStats().tensors, before);
});

test.serial('a branch outlives the other results of a graph that it shares', async (t) => {
  const x = leaf([1, 2]);
  await leakCheck(async () => {
    const [left, right] = scope(() => {
      const hidden = exp(x);
      return [mul(hidden, hidden).sum(), hidden.sum()];
    });
    left.dispose();
    right.backward();
    right.dispose();
    await close(t, x.grad, [Math.E, Math.E ** 2], 1e-5);
    x.grad?.dispose();
  });
});

test.serial('an error on the way leaves no tensor behind', (t) => {
  const x = leaf([1, 2, 3]);
  const before = memoryStats().tensors;
  t.throws(() => scope(() => matmul(mul(exp(x), x).reshape([1, 3]), zeros([2, 2]))), {
    message: /inner dimensions differ/,
  });
  t.is(memoryStats().tensors, before);
});

test('the indices of topk have no gradient, its values do', async (t) => {
  const x = leaf([1, 5, 3]);
  const { values, indices } = topk(x, 2);
  t.false(indices.requiresGrad);
  values
    .mul(tensor([10, 100]))
    .sum()
    .backward();
  await close(t, x.grad, [0, 10, 100]);
});

test('the gradient of a small MLP in float64 is that of finite differences', async (t) => {
  const shapes = { x: [4, 3], w1: [5, 3], b1: [5], w2: [2, 5], b2: [2] };
  type Name = keyof typeof shapes;
  const params = Object.fromEntries(
    Object.entries(shapes).map(([name, shape]) => [name, normal(shape, { dtype: 'float64' })]),
  ) as Record<Name, FloatTensor>;
  const targets = tensor([1, 0, 0, 1, 1, 0, 0, 1], { shape: [4, 2], dtype: 'float64' });
  const loss = (p: Record<Name, FloatTensor>): FloatTensor => {
    const hidden = gelu(linear(p.x, p.w1, p.b1));
    const logits = linear(hidden, p.w2, p.b2);
    return sum(mul<'float64'>(logSoftmax(logits) as Tensor<'float64'>, targets)).mul(-0.25);
  };
  for (const parameter of Object.values(params)) setRequiresGrad(parameter);
  loss(params).backward();
  for (const name of Object.keys(shapes) as Name[]) {
    const values = (await params[name].data()) as Float64Array;
    const numeric = finiteDifferences(
      (x) => noGrad(() => loss({ ...params, [name]: x })),
      values,
      (moved) => tensor(moved, { shape: shapes[name] }),
    );
    await close(t, params[name].grad, numeric, 1e-8);
  }
});

test.serial(
  'a hook keeps the gradient that it sees by keep(), apart from what a leaf collects',
  async (t) => {
    const x = tensor([1, 2], { requiresGrad: true });
    const kept: Tensor[] = [];
    const hook = (gradient: Tensor): undefined => void kept.push(keep(gradient));
    await leakCheck(() => {
      scope(() => {
        const hidden = mul(x, 3);
        hidden.registerHook((gradient) => {
          hook(gradient);
          return mul(gradient, 10);
        });
        const view = hidden.reshape([2, 1]);
        view.registerHook(hook);
        const removers = [x.registerHook(hook), x.registerHook(hook)];
        sum(view).backward();
        for (const remove of removers) remove();
      });
      scope(() => copyInto(x.grad as FloatTensor, zeros([2])));
      t.deepEqual(
        kept.map((gradient) => Array.from(gradient.dataSync() as Float32Array)),
        [
          [1, 1],
          [1, 1],
          [30, 30],
          [30, 30],
        ],
      );
      for (const gradient of kept) gradient.dispose();
      x.grad?.dispose();
      x.grad = undefined;
    });
  },
);
