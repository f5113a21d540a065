import test from 'ava';

import {
  TensorError,
  add,
  autocast,
  defineOp,
  exp,
  leakCheck,
  memoryStats,
  mul,
  noGrad,
  tensor,
  zeros,
  type OpContext,
  type Tensor,
} from '../../src/index.js';
import { collectTensors } from '../helpers/garbage.js';
import { close } from '../helpers/numbers.js';

type Float = Tensor<'float32'>;
const leaf = (values: number[]): Float => tensor(values, { dtype: 'float32', requiresGrad: true });

/** A weighted sum of tensors: an array argument, numbers, and a missing tensor. */
const blend = defineOp({
  name: 'blend',
  forward(ctx, tensors: readonly Float[], weights: readonly number[], shift: Float | undefined): Float {
    ctx.state = weights;
    const sum = tensors.map((x, i) => mul(x, weights[i])).reduce((a, b) => add(a, b));
    return shift === undefined ? sum : add(sum, shift);
  },
  backward({ state }, dy) {
    if (dy === undefined) return [];
    return [(state as number[]).map((weight) => mul(dy as Float, weight)), undefined, dy];
  },
});

test('arrays, plain values and missing tensors are arguments like others', async (t) => {
  const [a, b, shift] = [leaf([1, 2]), leaf([3, 4]), leaf([5, 6])];
  const y = blend([a, b], [10, 100], shift);
  await close(t, y, [315, 426]);
  y.sum().backward();
  await close(t, a.grad, [10, 10]);
  await close(t, b.grad, [100, 100]);
  await close(t, shift.grad, [1, 1]);
  blend([a, b], [10, 100], undefined).sum().backward();
  await close(t, a.grad, [20, 20]);
});

test('a TypeError in forward is an error of the arguments only where they lack what tensors have', (t) => {
  const broken = defineOp({
    name: 'broken',
    forward: (_ctx, x: Float, table?: { readonly rows: number[] }): Float => add(x, table!.rows.length),
  });
  t.throws(() => broken(zeros([2])), { instanceOf: TypeError, message: /reading 'rows'/ });
  const shaped = defineOp({ name: 'shaped', forward: (_ctx, x: Float): Float => zeros(x.shape) });
  const error = t.throws(() => shaped(null as unknown as Float), {
    instanceOf: TensorError,
    code: 'VALUE',
    message: 'shaped: expected tensors, got (null)',
  });
  t.true(error.cause instanceof TypeError);
});

test('an op with several results gets undefined for those that nothing depended on', async (t) => {
  const seen: boolean[] = [];
  const both = defineOp({
    name: 'both',
    forward: (_ctx, x: Float): [Float, Float] => [mul(x, 2), mul(x, 3)],
    backward(_ctx, first, second) {
      seen.push(first !== undefined, second !== undefined);
      return second === undefined ? [] : [mul(second as Float, 3)];
    },
  });
  const x = leaf([1]);
  both(x)[1].backward();
  t.deepEqual(seen, [false, true]);
  await close(t, x.grad, [3]);
});

test('forward knows whether it is recorded, and for which arguments', (t) => {
  const seen: [boolean, readonly boolean[]][] = [];
  const probe = defineOp({
    name: 'probe',
    forward(ctx: OpContext, a: Float, b: readonly Float[], _n: number): Float {
      seen.push([ctx.recording, ctx.needsGrad]);
      return add(a, b[0]);
    },
    backward: () => [],
  });
  probe(zeros([1]), [leaf([1])], 1);
  probe(zeros([1]), [zeros([1])], 1);
  noGrad(() => probe(leaf([1]), [leaf([1])], 1));
  t.deepEqual(seen, [
    [true, [false, true, false]],
    [false, []],
    [false, []],
  ]);
});

test('an argument that forward hands back becomes a result of its own: gradient reversal', async (t) => {
  const reverse = defineOp({
    name: 'reverse',
    forward: (_ctx, x: Float): Float => x,
    backward: (_ctx, dy) => dy && mul(dy as Float, -1),
  });
  const x = leaf([1, 2]);
  const y = reverse(x);
  t.not(y, x);
  y.mul(tensor([10, 20]))
    .sum()
    .backward();
  await close(t, x.grad, [-10, -20]);
  noGrad(() => reverse(x)).dispose();
  t.false(x.isDisposed);
});

test.serial('what forward makes and neither saves nor returns is freed at once', async (t) => {
  const expm1 = defineOp({
    name: 'expm1',
    forward(ctx, x: Float): Float {
      const e = exp(x);
      ctx.save(e);
      return add(mul(e, 1), -1);
    },
    backward: ({ saved: [e] }, dy) => dy && mul(dy as Float, e as Float),
  });
  const x = leaf([0, 1]);
  const before = memoryStats().tensors;
  const plain = noGrad(() => expm1(x));
  t.is(memoryStats().tensors, before + 1);
  const recorded = expm1(x);
  t.is(memoryStats().tensors, before + 3); // and the saved exponential
  recorded.backward({ gradient: tensor([1, 1]) });
  recorded.dispose();
  plain.dispose();
  await close(t, x.grad, [1, Math.E]);
});

test.serial('an error in forward or backward frees what was made, and autograd goes on', async (t) => {
  const broken = (where: 'forward' | 'backward'): ((x: Float) => Float) =>
    defineOp({
      name: 'broken',
      forward(ctx, x: Float): Float {
        const y = mul(x, 2);
        ctx.save(x, y);
        if (where === 'forward') throw new RangeError('forward broke');
        return y;
      },
      backward(_ctx, dy) {
        mul(dy as Float, 2);
        throw new RangeError('backward broke');
      },
    });
  const x = leaf([1, 2]);
  await leakCheck(() => {
    t.throws(() => broken('forward')(x), { message: 'forward broke' });
  });
  await leakCheck(() => {
    const y = broken('backward')(x);
    const loss = y.sum();
    t.throws(() => loss.backward(), { message: 'backward broke' });
    loss.dispose();
    y.dispose();
  });
  mul(x, 3).sum().backward();
  await close(t, x.grad, [3, 3]);
});

test.serial('backward can take what has come of a gradient, and returns the sum', async (t) => {
  const taken: (string | undefined)[] = [];
  /** The sum of its second argument's halves; the first is there to be counted. */
  const halve = defineOp({
    name: 'halve',
    forward: (_ctx, _others: readonly Float[], x: Float): Float => mul(x, 0.5),
    backward(ctx, dy) {
      taken.push(ctx.takeGradient(1, 'float64')?.dtype, ctx.takeGradient(0, 'float32')?.dtype);
      const before = ctx.takeGradient(1, 'float32') as Float | undefined;
      taken.push(before?.dtype, ctx.takeGradient(1, 'float32')?.dtype);
      const dx = mul(dy as Float, 0.5);
      return [[undefined, undefined], before === undefined ? dx : add(dx, before)];
    },
  });
  const [other, x] = [leaf([1, 1]), leaf([3, 4])];
  const held = await collectTensors();
  {
    // Backward takes the last first: the gradient of `last` waits for halve, that of `first` comes after it.
    using first = mul(x, 3);
    using half = halve([other, other], x);
    using last = mul(x, 10);
    using both = add(first, half);
    using all = add(both, last);
    using sum = all.sum();
    sum.backward();
  }
  await close(t, x.grad, [13.5, 13.5]);
  t.is(other.grad, undefined);
  t.deepEqual(taken, [undefined, undefined, 'float32', undefined]);
  x.grad?.dispose();
  x.grad = undefined;
  t.is(memoryStats().tensors, held);
  using alone = halve([], x);
  using sum = alone.sum();
  sum.backward();
  t.deepEqual(taken.slice(4), [undefined, undefined, undefined, undefined]);
});

test('gradients of the wrong number or shape are errors that name the op', (t) => {
  const wrong = (gradients: (dy: Float) => Float[]): ((xs: readonly Float[]) => Float) =>
    defineOp({
      name: 'wrong',
      forward: (_ctx, xs: readonly Float[]): Float => add(xs[0], xs[1]),
      backward: (_ctx, dy) => [gradients(dy as Float)],
    });
  const run = (gradients: (dy: Float) => Float[]) => () =>
    wrong(gradients)([leaf([1]), leaf([2])]).backward();
  t.throws(
    run((dy) => [dy]),
    {
      instanceOf: TensorError,
      message: 'wrong: expected 2 gradients for argument 0, got 1',
    },
  );
  t.throws(
    run((dy) => [dy, zeros([3])]),
    {
      instanceOf: TensorError,
      message: 'wrong: expected a gradient [1], got [3]',
    },
  );
});

test('what backward returns is one gradient for each argument, like it, or an error that names the op', async (t) => {
  const [x, w, fixed] = [leaf([1, 2]), leaf([3, 4]), tensor([5, 6])];
  const run =
    (backward: (dy: Float) => unknown, second = w) =>
    () => {
      const op = defineOp({
        name: 'scale',
        forward: (_ctx, a: Float, b: Float, _n: number): Float => mul(a, b),
        backward: (_ctx, dy) => backward(dy as Float) as Tensor[],
      });
      op(x, second, 2).backward({ gradient: tensor([1, 1]) });
    };
  const count = (n: number): string => `expected 3 gradients from backward, one for each argument, got ${n}`;
  const entry = 'expected a tensor or undefined for the gradient of argument';
  for (const [backward, code, message] of [
    [(dy) => dy, 'AUTOGRAD', count(1)],
    [(dy) => [dy], 'AUTOGRAD', count(1)],
    [(dy) => [dy, dy, undefined, dy], 'AUTOGRAD', count(4)],
    [(dy) => [dy, zeros([1])], 'SHAPE', 'expected a gradient [2], got [1]'],
    [(dy) => [dy, dy.to('float64')], 'DTYPE', 'expected a gradient of float32, got float64'],
    [(dy) => [dy, 3], 'VALUE', `${entry} 1, got 3`],
    [(dy) => [[dy], dy], 'VALUE', `${entry} 0, got an array`],
    [(dy) => [null, dy], 'VALUE', `${entry} 0, got null`],
  ] as [(dy: Float) => unknown, string, string][]) {
    t.throws(run(backward), { instanceOf: TensorError, code, message: `scale: ${message}` });
  }
  t.is(x.grad, undefined);
  run((dy) => [dy, undefined, undefined])();
  run((dy) => [dy, dy])();
  run((dy) => [dy], fixed)();
  run((dy) => [dy, zeros([1])], fixed)(); // nobody wants it
  run(() => [])();
  run(() => undefined)();
  await close(t, x.grad, [4, 4]);
  await close(t, w.grad, [1, 1]);
});

test('under autocast a gradient may have the dtype that forward saw', async (t) => {
  const x = leaf([1, 2]);
  const seen: string[] = [];
  const double = defineOp({
    name: 'double',
    autocast: 'lower',
    forward: (_ctx, a: Float): Float => mul(a, 2),
    backward: (_ctx, dy) => {
      seen.push(dy?.dtype ?? 'none');
      return [mul(dy as Float, 2)];
    },
  });
  autocast('bfloat16', () => double(x))
    .sum()
    .backward();
  t.deepEqual(seen, ['bfloat16']);
  await close(t, x.grad, [2, 2]);
});
