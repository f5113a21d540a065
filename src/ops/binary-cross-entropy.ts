/**
 * Binary cross-entropy of logits, element by element: a composite of elementwise kernels.
 */
import { native } from '../native.js';
import { type OptionNames, expectOptions, expectTensors, optionalId } from '../tensor/arguments.js';
import { ownOp } from '../tensor/define-op.js';
import { type FloatDType, dtypeCode, isFloating } from '../tensor/dtype.js';
import { fail, named, shown } from '../tensor/error.js';
import { type Tensor, wrap } from '../tensor/tensor.js';
import { add, mul, sub } from './arithmetic.js';
import { onesLike, to, zerosLike } from './creation.js';
import type { LossDType } from './cross-entropy.js';
import { mean, sum } from './reduce.js';
import { minus, negative, over, plus, times } from './operand.js';

/** How losses of elements are weighted and put together. */
export interface BinaryCrossEntropyOptions {
  /**
   * `[K]`, a factor of `t` for each class of the last dimension, of any floating-point dtype, with a gradient of its own: above 1,
   * what is missed costs more than a false alarm. Default: all 1.
   */
  readonly posWeight?: Tensor<FloatDType> | undefined;
  /** 'mean' (default) over all elements; 'none' gives one loss for each. */
  readonly reduction?: 'none' | 'mean' | 'sum';
}

const OPTIONS = { posWeight: true, reduction: true } satisfies OptionNames<BinaryCrossEntropyOptions>;

/** In the dtype of the loss: 16 bits are too few for it. */
function wide(x: Tensor): Tensor {
  return wrap(native.to(x.id, dtypeCode(x.dtype === 'float64' ? 'float64' : 'float32')));
}

/**
 * `ln(1 + e)` for e in [0, 1]: the logarithm of the rounded sum, and what the rounding lost, to first order. Where e is
 * small, the sum alone would lose all of it.
 */
function log1p(e: Tensor): Tensor {
  const sum = plus(e, 1);
  return plus(wrap(native.log(sum.id)), over(minus(e, minus(sum, 1)), sum));
}

function expectAlike(logits: Tensor, targets: Tensor): void {
  const op = 'binaryCrossEntropy';
  if (!isFloating(logits.dtype)) fail(op, 'DTYPE', `expected floating-point logits, got ${logits.dtype}`);
  if (!isFloating(targets.dtype)) {
    fail(
      op,
      'DTYPE',
      `expected probabilities for targets, got ${targets.dtype} [${targets.shape.join(', ')}]; oneHot() makes them of labels`,
    );
  }
  if (targets.shape.join() !== logits.shape.join()) {
    fail(op, 'SHAPE', `expected targets [${logits.shape.join(', ')}], got [${targets.shape.join(', ')}]`);
  }
  if (targets.dtype === logits.dtype) return;
  fail(
    op,
    'DTYPE',
    `dtypes differ: logits is ${logits.dtype}, targets is ${targets.dtype}; convert one with to()`,
  );
}

type Reduction = 'none' | 'mean' | 'sum';

const binaryCrossEntropyOp = ownOp({
  name: 'binaryCrossEntropy',
  autocast: 'float32',
  forward(ctx, logits: Tensor, targets: Tensor, reduction: Reduction): Tensor {
    expectAlike(logits, targets);
    const [x, t] = [wide(logits), wide(targets)];
    const e = wrap(native.exp(negative(wrap(native.abs(x.id))).id));
    const product = named('binaryCrossEntropy', 'mul', () => times(x, t)); // complains of two devices
    const losses = plus(minus(wrap(native.relu(x.id)), product), log1p(e));
    ctx.save(logits, targets);
    ctx.state = reduction;
    return reduction === 'none' ? losses : wrap(native[reduction](losses.id, [], false));
  },
  backward({ saved: [logits, targets], needsGrad, state }, dy) {
    if (dy === undefined) return [];
    const x = wide(logits);
    const upstream = state === 'mean' ? over(dy, logits.size) : dy;
    const own = dtypeCode(logits.dtype);
    const gradient = (slope: Tensor): Tensor => wrap(native.to(times(slope, upstream).id, own));
    return [
      needsGrad[0] ? gradient(minus(wrap(native.sigmoid(x.id)), wide(targets))) : undefined,
      needsGrad[1] ? gradient(negative(x)) : undefined,
    ];
  },
});

function expectPosWeight(logits: Tensor, weight: Tensor): void {
  const op = 'binaryCrossEntropy';
  optionalId(op, 'posWeight', weight);
  if (!isFloating(weight.dtype)) {
    fail(op, 'DTYPE', `expected a floating-point posWeight, got ${weight.dtype}`);
  }
  const classes = logits.shape.slice(-1);
  if (classes.length === 1 && weight.shape.join() === classes.join()) return;
  fail(
    op,
    'SHAPE',
    `expected a posWeight [K], one for each class of logits [..., K], got [${weight.shape.join(', ')}] for [${logits.shape.join(', ')}]`,
  );
}

/** With w for each class: `-w t ln p - (1 - t) ln(1 - p)`, whose logarithms are the losses of targets 1 and 0. */
function weighted(
  logits: Tensor,
  targets: Tensor,
  weight: Tensor<FloatDType>,
  reduction: Reduction,
): Tensor<FloatDType> {
  expectAlike(logits, targets);
  const each = (t: Tensor): Tensor<FloatDType> =>
    binaryCrossEntropyOp(logits, t, 'none') as Tensor<FloatDType>;
  const [hit, miss] = [each(onesLike(logits)), each(zerosLike(logits))];
  const t = to(targets, hit.dtype);
  const losses = named('binaryCrossEntropy', 'mul', () =>
    add(mul(mul(hit, t), to(weight, hit.dtype)), mul(miss, sub(1, t))),
  );
  return reduction === 'none' ? losses : reduction === 'sum' ? sum(losses) : mean(losses);
}

/**
 * Binary cross-entropy of logits x with probabilities t, each class for itself: `-t ln p - (1 - t) ln(1 - p)` with
 * p = sigmoid(x), computed as `max(x, 0) - x t + ln(1 + e^-|x|)`, which neither overflows nor loses small losses. Its
 * gradient is `sigmoid(x) - t`. With `posWeight` w it is `-w t ln p - (1 - t) ln(1 - p)`.
 *
 * Shapes: logits and targets alike, of any shape and one dtype -> a scalar, or their shape for reduction 'none'; both get a
 * gradient. The loss of 16-bit logits is float32. The mean is over all elements, also with weights, as PyTorch's
 * `binary_cross_entropy_with_logits`.
 *
 * @throws TensorError SHAPE, DTYPE or VALUE
 * @example
 * binaryCrossEntropy(logits, oneHot(labels, 10)).backward();
 */
export function binaryCrossEntropy<D extends FloatDType>(
  logits: Tensor<D>,
  targets: Tensor<NoInfer<D>>,
  options: BinaryCrossEntropyOptions = {},
): Tensor<LossDType<D>> {
  expectTensors('binaryCrossEntropy', logits, targets);
  expectOptions('binaryCrossEntropy', options, OPTIONS);
  const { posWeight, reduction = 'mean' } = options;
  if (!['none', 'mean', 'sum'].includes(reduction)) {
    fail('binaryCrossEntropy', 'VALUE', `expected a reduction of none, mean or sum, got ${shown(reduction)}`);
  }
  if (posWeight !== undefined) {
    expectPosWeight(logits, posWeight);
    return weighted(logits, targets, posWeight, reduction) as Tensor<LossDType<D>>;
  }
  return binaryCrossEntropyOp(logits, targets, reduction) as unknown as Tensor<LossDType<D>>;
}
