import { native } from '../native.js';
import { expectNumber, expectTensors } from '../tensor/arguments.js';
import { ownOp } from '../tensor/define-op.js';
import { deviceIndex } from '../tensor/device.js';
import { dtypeCode, isFloating, type FloatDType } from '../tensor/dtype.js';
import { fail } from '../tensor/error.js';
import { type RandomState, getRandomState, takeRandom } from '../tensor/random.js';
import { type Tensor, wrap } from '../tensor/tensor.js';

const dropoutOp = ownOp({
  name: 'dropout',
  forward(ctx, x: Tensor, p: number): Tensor {
    const random = getRandomState();
    ctx.state = { p, random };
    const y = wrap(native.dropout(x.id, p, random.seed, random.offset));
    takeRandom(x.size); // an error leaves the sequence where it was
    return y;
  },
  backward({ state }, dy) {
    if (dy === undefined) return [];
    const { p, random } = state as { p: number; random: RandomState };
    return [wrap(native.dropout(dy.id, p, random.seed, random.offset))]; // the same mask, drawn again
  },
});

/**
 * Zeroes each element with probability p and divides the others by 1 - p; the mask is not stored but drawn again for
 * backward. p = 0 gives x itself.
 *
 * Source: Srivastava et al., "Dropout", 2014.
 *
 * @throws TensorError VALUE unless p is in [0, 1); DTYPE unless x is floating-point
 * @example
 * const y = dropout(x, 0.1);
 */
export function dropout<D extends FloatDType>(x: Tensor<D>, p: number): Tensor<D> {
  expectTensors('dropout', x);
  if (p === 0) return x;
  return dropoutOp(x, p) as unknown as Tensor<D>;
}

const dropPathOp = ownOp({
  name: 'dropPath',
  forward(ctx, x: Tensor, p: number): Tensor {
    const keep = 1 - p;
    const shape = x.shape.map((n, dim) => (dim === 0 ? n : 1));
    const { seed, offset } = takeRandom(shape[0]);
    const device = deviceIndex(x.device);
    const draws = wrap(
      native.random(device, shape, 'bernoulli', keep, 0, 0, 0, seed, offset, dtypeCode(x.dtype)),
    );
    const mask = wrap(native.mul(draws.id, undefined, 1 / keep));
    ctx.save(mask);
    const y = wrap(native.mul(x.id, mask.id, 0));
    draws.dispose();
    mask.dispose();
    return y;
  },
  backward({ saved: [mask] }, dy) {
    return dy === undefined ? [] : [wrap(native.mul(dy.id, mask.id, 0))];
  },
});

/** @internal Which of n samples `dropPath` would keep at its next call, whose random numbers this takes. */
export function takeKept(n: number, p: number): readonly number[] {
  const { seed, offset } = takeRandom(n);
  return native.drawnOnes(n, 1 - p, seed, offset);
}

/**
 * Stochastic depth: zeroes whole samples (the first dimension) with probability p and divides the others by 1 - p.
 * p = 0 gives x itself.
 *
 * Source: Huang et al., "Deep networks with stochastic depth", 2016.
 *
 * @throws TensorError VALUE unless p is in [0, 1); SHAPE for a scalar; DTYPE unless x is floating-point
 * @example
 * const y = add(x, dropPath(block, 0.1));
 */
export function dropPath<D extends FloatDType>(x: Tensor<D>, p: number): Tensor<D> {
  expectTensors('dropPath', x);
  if (!isFloating(x.dtype)) {
    fail('dropPath', 'DTYPE', `expected a floating-point x, got ${String((x as Tensor).dtype)}`);
  }
  expectNumber('dropPath', 'p', p);
  if (!(p >= 0 && p < 1)) fail('dropPath', 'VALUE', `expected a probability in [0, 1), got ${p}`);
  if (x.ndim === 0) fail('dropPath', 'SHAPE', 'expected at least one dimension, got a scalar');
  if (p === 0) return x;
  return dropPathOp(x, p) as unknown as Tensor<D>;
}
