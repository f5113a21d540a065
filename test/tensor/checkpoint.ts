import test from 'ava';

import {
  Linear,
  argmax,
  checkpoint,
  copyInto,
  dropout,
  gelu,
  getRandomState,
  leakCheck,
  manualSeed,
  memoryStats,
  mul,
  noGrad,
  normal,
  resetPeakMemory,
  scope,
  sum,
  tensor,
  zeros,
  type FloatTensor,
  type Tensor,
} from '../../src/index.js';
import { close } from '../helpers/numbers.js';

const WIDTH = 32;

/** Four blocks with parameters and dropout; each either checkpointed or not. */
class Stack {
  readonly layers = Array.from({ length: 4 }, () => new Linear(WIDTH, WIDTH));

  run(x: FloatTensor, checkpointed: boolean): FloatTensor {
    const block = (layer: Linear) => (y: FloatTensor) =>
      scope(() => dropout(gelu(gelu(gelu(layer.call(y)))), 0.3).add(y));
    return this.layers.reduce(
      (y, layer) => (checkpointed ? checkpoint(block(layer), y) : block(layer)(y)),
      x,
    );
  }
}

test.serial('checkpointed blocks give the same loss and gradients, bit by bit, with dropout', async (t) => {
  manualSeed(1);
  const stack = new Stack();
  const values = normal([8, WIDTH]);
  const results: Float32Array[][] = [];
  const states: unknown[] = [];
  for (const checkpointed of [false, true]) {
    manualSeed(2);
    const x = values.clone().setRequiresGrad();
    const loss = sum(mul(stack.run(x, checkpointed) as Tensor<'float32'>, 0.5));
    loss.backward();
    const gradients = [x, ...stack.layers.flatMap(({ weight, bias }) => [weight, bias as FloatTensor])];
    results.push([await loss.data()]);
    for (const leaf of gradients) {
      results.at(-1)?.push((await leaf.grad?.data()) as Float32Array);
      leaf.grad?.dispose();
      leaf.grad = undefined;
    }
    states.push(getRandomState());
  }
  t.deepEqual(results[1], results[0]);
  t.deepEqual(states[1], states[0], 'the second run of a block leaves the random sequence where it was');
});

test('parameters that change before backward are an error, as they are without a checkpoint', async (t) => {
  const w = tensor([3, 4], { requiresGrad: true });
  const x = tensor([1, 2], { requiresGrad: true });
  const stale = checkpoint((y: FloatTensor) => y.mul(w).mul(w), x).sum();
  copyInto(w, tensor([30, 40]));
  t.throws(() => stale.backward(), {
    code: 'AUTOGRAD',
    message:
      'checkpoint: expected parameters as they were in forward, got Tensor float32 [2] cpu changed in place since; ' +
      'call backward before copyInto() or optimizer.step()',
  });
  t.is(x.grad, undefined);
  t.is(w.grad, undefined);

  const other = zeros([2]);
  const again = checkpoint((y: FloatTensor) => y.mul(w), x).sum();
  copyInto(other, w);
  again.backward();
  await close(t, x.grad, [30, 40]);
  const input = checkpoint((y: FloatTensor) => y.mul(w), x).sum();
  copyInto(x, other);
  t.throws(() => input.backward(), {
    code: 'AUTOGRAD',
    message: /^checkpoint: expected tensors as forward saved them/,
  });
});

test.serial('checkpointing lowers the peak of memory', (t) => {
  const stack = new Stack();
  const peak = (checkpointed: boolean): number => {
    const before = memoryStats().current;
    resetPeakMemory();
    scope(() => {
      const x = normal([512, WIDTH], { requiresGrad: true });
      sum(stack.run(x, checkpointed) as Tensor<'float32'>).backward();
      x.grad?.dispose();
    });
    for (const layer of stack.layers) {
      for (const parameter of layer.parameters()) {
        parameter.grad?.dispose();
        parameter.grad = undefined;
      }
    }
    t.is(memoryStats().current, before);
    return memoryStats().peak - before;
  };
  const [plain, checkpointed] = [peak(false), peak(true)];
  t.true(checkpointed < 0.7 * plain, `${checkpointed} of ${plain} bytes`);
});

test('inputs without gradients and inputs that are handed back pass through a checkpoint', async (t) => {
  const x = tensor([1, 2], { requiresGrad: true });
  const w = tensor([3, 4]);
  checkpoint((a: Tensor<'float32'>, b: Tensor<'float32'>) => mul(a, b), x, w)
    .sum()
    .backward();
  await close(t, x.grad, [3, 4]);
  checkpoint((a: Tensor<'float32'>) => a, x)
    .sum()
    .backward();
  await close(t, x.grad, [4, 5]);
  t.is(w.grad, undefined);
});

test.serial('parameters inside get their gradients where no input requires one, bit by bit', async (t) => {
  manualSeed(1);
  const stack = new Stack();
  const parameters = stack.layers.flatMap((layer) => layer.parameters());
  const x = normal([8, WIDTH]);
  const results: unknown[] = [];
  await leakCheck(async () => {
    for (const checkpointed of [false, true]) {
      manualSeed(2);
      const loss = scope(() => sum(stack.run(x, checkpointed) as Tensor<'float32'>));
      loss.backward();
      const gradients = parameters.map(({ grad }) => grad?.dataSync());
      results.push([await loss.data(), gradients, getRandomState()]);
      loss.dispose();
      for (const parameter of parameters) parameter.grad?.dispose();
      for (const parameter of parameters) parameter.grad = undefined;
    }
  });
  t.deepEqual(results[1], results[0]);
  t.is(checkpoint((v: FloatTensor) => stack.layers[0].call(v), x).requiresGrad, true);
  t.is(noGrad(() => checkpoint((v: FloatTensor) => stack.layers[0].call(v), x)).requiresGrad, false);
});

test.serial(
  'a checkpoint without a parameter that requires a gradient records nothing and keeps nothing',
  (t) => {
    const frozen = new Linear(WIDTH, WIDTH).freeze();
    const x = normal([8, WIDTH]);
    const before = memoryStats().tensors;
    const y = checkpoint((v: FloatTensor) => gelu(frozen.call(v)), x);
    t.is(y.requiresGrad, false);
    t.is(memoryStats().tensors, before + 1);
    const same = checkpoint((v: FloatTensor) => v, x);
    same.dispose();
    t.false(x.isDisposed);
  },
);

test.serial(
  'what a checkpoint of images keeps is its input, and a parameter handed back lives on',
  async (t) => {
    const w = tensor([1, 2], { requiresGrad: true });
    const x = normal([512, WIDTH]);
    const layer = new Linear(WIDTH, WIDTH);
    const before = memoryStats().tensors;
    const y = checkpoint((v: FloatTensor) => gelu(gelu(layer.call(v))), x);
    t.is(memoryStats().tensors, before + 1);
    y.dispose();
    t.is(memoryStats().tensors, before);
    checkpoint(() => w)
      .sum()
      .backward();
    t.false(w.isDisposed);
    await close(t, w.grad, [1, 1]);
  },
);

test('a result that does not depend on the inputs, or has no gradient, stops the gradient', async (t) => {
  const x = tensor([1, 2]).setRequiresGrad();
  const y = tensor([3, 4]).setRequiresGrad();
  const still = checkpoint((a) => a.detach().mul(2), x);
  still.mul(y).sum().backward();
  await close(t, y.grad, [2, 4]);
  t.is(x.grad, undefined);
  t.false(checkpoint((a) => argmax(a), x).requiresGrad);
  t.false(checkpoint((a) => a.greater(1), x).requiresGrad);
});
