import test from 'ava';

import {
  AdamW,
  GradScaler,
  SGD,
  TensorError,
  autocast,
  keep,
  leakCheck,
  mul,
  scope,
  sum,
  tensor,
  type Tensor,
} from '../../src/index.js';
import { close } from '../helpers/numbers.js';

const leaf = (values: number[]): Tensor<'float32'> => keep(tensor(values, { requiresGrad: true }));

/** Backward of `sum(p * slope)`, scaled. */
function lossOf(scaler: GradScaler, p: Tensor<'float32'>, slope: number): void {
  scope(() => {
    scaler.scale(sum(mul(p, slope))).backward();
  });
}

test('the scale halves at an overflow, whose update is left out, and doubles after an interval', async (t) => {
  const scaler = new GradScaler({ growthInterval: 3 });
  const p = leaf([0, 0]);
  const optimizer = new SGD([p], { lr: 1 });
  const scales: number[] = [];
  const taken: boolean[] = [];
  // Gradients of 1, and where it is infinite or NaN those.
  for (const slope of [1, Infinity, 1, 1, NaN, 1, 1, 1, 1]) {
    lossOf(scaler, p, slope);
    taken.push(await scaler.step(optimizer));
    scaler.update();
    optimizer.zeroGrad();
    scales.push(scaler.getScale());
  }
  t.deepEqual(taken, [true, false, true, true, false, true, true, true, true]);
  t.deepEqual(scales, [65536, 32768, 32768, 32768, 16384, 16384, 16384, 32768, 32768]);
  t.deepEqual(scaler.stateDict(), { scale: 32768, growthTracker: 1 });
  await close(t, p, [-7, -7]);
});

test('gradients whose norm float32 cannot hold are finite all the same', async (t) => {
  const scaler = new GradScaler({ initScale: 1 });
  const p = leaf([0, 0]);
  lossOf(scaler, p, 3e38);
  t.true(await scaler.step(new SGD([p], { lr: 1 })));
  await close(
    t,
    (await p.data()).map((x) => x / 3e38),
    [-1, -1],
  );
});

test('float64 gradients whose squares are infinite are finite all the same', async (t) => {
  const scaler = new GradScaler({ initScale: 1 });
  const p = keep(tensor([0, 0], { dtype: 'float64', requiresGrad: true }));
  const optimizer = new SGD([p], { lr: 1 });
  p.grad = tensor([1e200, -1.5e308], { dtype: 'float64' });
  t.true(await scaler.step(optimizer));
  t.deepEqual([...(await p.data())], [-1e200, 1.5e308]);
  scaler.update();
  p.grad = tensor([1, Infinity], { dtype: 'float64' });
  t.false(await scaler.step(optimizer));
});

test('a gradient that float16 cannot hold survives by the scale', async (t) => {
  const gradient = async (scaler: GradScaler): Promise<number> => {
    const [x, w] = [leaf([1]), leaf([1])];
    const loss = autocast('float16', () =>
      mul(
        x
          .reshape([1, 1])
          .matmul(w.reshape([1, 1]))
          .sum(),
        1e-9,
      ),
    );
    scaler.scale(loss).backward();
    scaler.unscale(new SGD([w], { lr: 1 }));
    return (w.grad as Tensor<'float32'>).item();
  };
  t.is(await gradient(new GradScaler({ initScale: 1 })), 0);
  t.true(Math.abs((await gradient(new GradScaler())) / 1e-9 - 1) < 1e-2);
});

test('clipping sees unscaled gradients, and a skipped update leaves no trace in the state', async (t) => {
  const scaler = new GradScaler();
  const p = leaf([0, 0]);
  const optimizer = new AdamW([p], { lr: 0.1, weightDecay: 0 });
  lossOf(scaler, p, NaN);
  t.false(await scaler.step(optimizer, { maxNorm: 1 }));
  scaler.update();
  optimizer.zeroGrad();
  t.deepEqual(optimizer.stateDict().tensors, {});
  t.deepEqual(optimizer.stateDict().values.steps, [0]);

  lossOf(scaler, p, 3);
  scaler.unscale(optimizer);
  await close(t, p.grad, [3, 3]);
  t.true(await scaler.step(optimizer, { maxNorm: 1 }));
  const { tensors } = optimizer.stateDict();
  await close(t, tensors['m.0'], [0.1 / Math.SQRT2, 0.1 / Math.SQRT2], 1e-6);
});

test('one scale serves two optimizers, and one of them may overflow', async (t) => {
  const scaler = new GradScaler();
  const [p, q] = [leaf([0]), leaf([0])];
  const [first, second] = [new SGD([p], { lr: 1 }), new SGD([q], { lr: 1 })];
  lossOf(scaler, p, 1);
  lossOf(scaler, q, Infinity);
  t.deepEqual([await scaler.step(first), await scaler.step(second)], [true, false]);
  scaler.update();
  t.is(scaler.getScale(), 32768);
  await close(t, p, [-1]);
  await close(t, q, [0]);
});

test('a stored state continues the scale', async (t) => {
  const first = new GradScaler({ initScale: 8, growthInterval: 2 });
  const p = leaf([0]);
  const optimizer = new SGD([p], { lr: 1 });
  const step = async (scaler: GradScaler): Promise<number> => {
    lossOf(scaler, p, 1);
    await scaler.step(optimizer);
    scaler.update();
    optimizer.zeroGrad();
    return scaler.getScale();
  };
  t.is(await step(first), 8);
  const second = new GradScaler({ growthInterval: 2 });
  second.loadStateDict(first.stateDict());
  t.is(await step(second), 16);
  // Growth ends where float32 does.
  const largest = new GradScaler({ initScale: 2 ** 127, growthInterval: 1 });
  p.grad = tensor([0]);
  await largest.step(optimizer);
  largest.update();
  t.is(largest.getScale(), 2 ** 127);
});

test.serial('a step leaves no tensor behind', async (t) => {
  const scaler = new GradScaler();
  const p = leaf([0]);
  const optimizer = new SGD([p], { lr: 1 });
  for (const slope of [1, Infinity]) {
    await leakCheck(async () => {
      lossOf(scaler, p, slope);
      await scaler.step(optimizer, { maxNorm: 1 });
      scaler.update();
      optimizer.zeroGrad();
    });
  }
  t.is(scaler.getScale(), 32768);
});

test('calls out of order and settings that make no sense are errors', async (t) => {
  const message = (run: () => unknown): string => t.throws(run, { instanceOf: TensorError }).message;
  t.is(
    message(() => new GradScaler({ initScale: 0 })),
    'GradScaler: expected initScale above 0, got 0',
  );
  t.is(
    message(() => new GradScaler({ growthFactor: 1 })),
    'GradScaler: expected growthFactor above 1, got 1',
  );
  t.is(
    message(() => new GradScaler({ backoffFactor: 1 })),
    'GradScaler: expected backoffFactor in (0, 1), got 1',
  );
  t.is(
    message(() => new GradScaler({ growthInterval: 0.5 })),
    'GradScaler: expected growthInterval to be a whole number above 0, got 0.5',
  );
  const scaler = new GradScaler();
  const p = leaf([0]);
  const optimizer = new SGD([p], { lr: 1 });
  const early = 'GradScaler: expected a step of each optimizer before update';
  t.is(
    message(() => {
      scaler.update();
    }),
    early,
  );
  await t.throwsAsync(scaler.step(optimizer), {
    message: 'GradScaler: expected at least one gradient, got none',
  });
  lossOf(scaler, p, 1);
  scaler.unscale(optimizer);
  t.is(
    message(() => {
      scaler.unscale(optimizer);
    }),
    'GradScaler: expected one unscale of an optimizer before update, got a second',
  );
  t.is(
    message(() => {
      scaler.update();
    }),
    early,
  );
  await scaler.step(optimizer);
  await t.throwsAsync(scaler.step(optimizer), {
    message: 'GradScaler: expected one step of an optimizer before update, got a second',
  });
  const half = keep(tensor([1], { dtype: 'float16', requiresGrad: true }));
  half.sum().backward();
  t.is(
    message(() => {
      new GradScaler().unscale(new SGD([half], { lr: 1 }));
    }),
    'GradScaler: expected gradients of float32 parameters under autocast, got float16',
  );
});

test('a step of an optimizer whose parameters were disposed of is an error that says so', async (t) => {
  const p = leaf([1, 2]);
  void p.shape;
  const optimizer = new SGD([p], { lr: 1 });
  p.dispose();
  await t.throwsAsync(new GradScaler().step(optimizer), {
    instanceOf: TensorError,
    code: 'DISPOSED',
    message: /^GradScaler: expected live parameters, got Tensor \(disposed \(float32 \[2\]\)\)/,
  });
});
