import { native } from '../native.js';
import { type OptionNames, expectOptions, expectTensors, optionalId } from '../tensor/arguments.js';
import { fail, named, shown } from '../tensor/error.js';
import { ownOp } from '../tensor/define-op.js';
import type { FloatDType, IndexDType } from '../tensor/dtype.js';
import { isFloating } from '../tensor/dtype.js';
import { type Tensor, wrap } from '../tensor/tensor.js';
import { add, div, mul } from './arithmetic.js';
import { notEqual } from './comparison.js';
import { to } from './creation.js';
import { indexSelect } from './indexing.js';
import { sum } from './reduce.js';
import { expand } from './shape.js';
import { where } from './where.js';

/** How targets are smoothed and weighted, and losses of rows put together. */
export interface CrossEntropyOptions {
  /**
   * `[K]`, of any floating-point dtype, with a gradient of its own: each class's factor in the target. The mean of labels is
   * then divided by the sum of their weights, not by their number. Default: all 1.
   */
  readonly weight?: Tensor<FloatDType> | undefined;
  /** Share of the target spread evenly over all classes, in [0, 1). Default 0. */
  readonly labelSmoothing?: number;
  /** Rows with this label count for nothing. Default -100. */
  readonly ignoreIndex?: number;
  /** 'mean' (default) divides by the rows that count; 'none' gives one loss for each row. */
  readonly reduction?: 'none' | 'mean' | 'sum';
}

/** The loss of 16-bit logits is float32. */
export type LossDType<D extends FloatDType> = D extends 'float64' ? D : 'float32';

interface Settings {
  readonly smoothing: number;
  readonly ignoreIndex: number;
  readonly reduction: 'none' | 'mean' | 'sum';
}

const crossEntropyOp = ownOp({
  name: 'crossEntropy',
  autocast: 'float32',
  forward(ctx, logits: Tensor, labels: Tensor | undefined, targets: Tensor | undefined, s: Settings): Tensor {
    const [loss, gradient] = native.crossEntropy(
      logits.id,
      labels?.id,
      targets?.id,
      s.smoothing,
      s.ignoreIndex,
      s.reduction,
      ctx.needsGrad[0] === true,
    );
    const dlogits = (gradient as unknown) === undefined ? undefined : wrap(gradient);
    ctx.save(dlogits, ctx.needsGrad[2] === true ? logits : undefined);
    ctx.state = s;
    dlogits?.dispose();
    return wrap(loss);
  },
  backward({ saved: [dlogits, logits], needsGrad, state }, dy) {
    if (dy === undefined) return [];
    const { reduction, smoothing } = state as Settings;
    // One upstream gradient for each row, or one for all; 16-bit logits have a float32 loss.
    const reference = (dlogits as Tensor | undefined) ?? logits;
    const own = wrap(native.to(dy.id, dtypeOf(reference)));
    const upstream = reduction === 'none' ? wrap(native.unsqueeze(own.id, 1)) : own;
    const gradient = needsGrad[0] ? wrap(native.mul(dlogits.id, upstream.id, 0)) : undefined;
    if (!needsGrad[2]) return [gradient];
    // d/dtarget of -(1 - smoothing) sum target * log p.
    const rows = reduction === 'mean' ? logits.shape[0] : 1;
    const logp = wrap(native.softmax(logits.id, 1, true));
    const scaled = wrap(native.mul(logp.id, undefined, (smoothing - 1) / rows));
    return [gradient, undefined, wrap(native.mul(scaled.id, upstream.id, 0))];
  },
});

function dtypeOf(x: Tensor): number {
  native.describe(x.id);
  return native.mailbox[0];
}

/** In the dtype of the loss: 16 bits are too few for the sums. */
function wide(x: Tensor<FloatDType>): Tensor<FloatDType> {
  return x.dtype === 'float64' ? x : to(x, 'float32');
}

/** What the kernel is not told. */
function expectWeighted(logits: Tensor, weight: Tensor, { smoothing, reduction }: Settings): void {
  const op = 'crossEntropy';
  if (!(smoothing >= 0 && smoothing < 1)) {
    fail(op, 'VALUE', `expected a label smoothing in [0, 1), got ${shown(smoothing)}`);
  }
  if (!['none', 'mean', 'sum'].includes(reduction)) {
    fail(op, 'VALUE', `expected a reduction of none, mean or sum, got ${shown(reduction)}`);
  }
  optionalId(op, 'weight', weight);
  if (!isFloating(weight.dtype)) fail(op, 'DTYPE', `expected a floating-point weight, got ${weight.dtype}`);
  const classes = logits.shape.slice(1);
  if (logits.ndim !== 2 || weight.shape.join() === classes.join()) return;
  fail(
    op,
    'SHAPE',
    `expected a weight [${classes.join()}], one for each class, got [${weight.shape.join(', ')}]`,
  );
}

/** Losses of rows of labels, and what the mean divides them by: the weights of the labels. */
function weightedLabels(
  logits: Tensor<FloatDType>,
  labels: Tensor<IndexDType>,
  weight: Tensor<FloatDType>,
  { smoothing, ignoreIndex }: Settings,
): { losses: Tensor<FloatDType>; divisor: Tensor<FloatDType> } {
  const each = { smoothing: 0, ignoreIndex, reduction: 'none' } as const;
  const own = crossEntropyOp(logits, labels, undefined, each) as Tensor<FloatDType>;
  const counts = notEqual(labels, ignoreIndex);
  const weights = where(counts, indexSelect(weight, 0, where(counts, labels, 0)), 0);
  const divisor = sum(weights);
  if (smoothing === 0) return { losses: mul(own, weights), divisor };
  const targets = expand(weight, logits.shape);
  const all = crossEntropyOp(logits, undefined, targets, each) as Tensor<FloatDType>;
  const even = mul(where(counts, all, 0), smoothing / logits.shape[1]);
  return { losses: add(mul(mul(own, weights), 1 - smoothing), even), divisor };
}

/** The loss with a weight for each class: a composite, whose work beside the passes over the logits is small. */
function weighted(
  logits: Tensor<FloatDType>,
  target: Tensor,
  weight: Tensor<FloatDType>,
  settings: Settings,
): Tensor<FloatDType> {
  const { smoothing, reduction } = settings;
  const x = wide(logits);
  if (isFloating(target.dtype)) {
    const [wanted, got] = [logits, target].map(({ shape }) => `[${shape.join(', ')}]`);
    if (got !== wanted) fail('crossEntropy', 'SHAPE', `expected targets ${wanted}, got ${got}`);
    const shares = wide(target as Tensor<FloatDType>);
    const smooth = smoothing === 0 ? shares : add(mul(shares, 1 - smoothing), smoothing / logits.shape[1]);
    const targets = named('crossEntropy', 'mul', () => mul(smooth, to(weight, shares.dtype)));
    return crossEntropyOp(x, undefined, targets, { ...settings, smoothing: 0 }) as Tensor<FloatDType>;
  }
  const w = to(weight, x.dtype);
  const { losses, divisor } = weightedLabels(x, target as Tensor<IndexDType>, w, settings);
  if (reduction === 'none') return losses;
  return reduction === 'sum' ? sum(losses) : div(sum(losses), divisor);
}

const OPTIONS = {
  weight: true,
  labelSmoothing: true,
  ignoreIndex: true,
  reduction: true,
} satisfies OptionNames<CrossEntropyOptions>;

/**
 * Cross-entropy of logits with class indices or with soft targets:
 * `-sum_c w[c] ((1 - s) t[c] + s / K) log p[c]` with label smoothing s, weights w (1, unless given) and p = softmax(logits),
 * where t is 1 at the label.
 *
 * Shapes: logits `[N, K]`; target `[N]` (int32 or int64) or `[N, K]` (the dtype of the logits, with a gradient of its
 * own) -> a scalar, or `[N]` for reduction 'none'. Without weights, loss and gradient are computed in one pass over the
 * logits. With them, the mean of labels is divided by the sum of the weights of the labels that count, and that of soft
 * targets by N, as in PyTorch. When every row is ignored, the mean is NaN, as in PyTorch.
 *
 * @throws TensorError SHAPE, DTYPE or VALUE; INDEX, when the loss is read, for a label outside [0, K)
 * @example
 * crossEntropy(logits, labels, { labelSmoothing: 0.1 }).backward();
 * @example
 * crossEntropy(logits, labels, { weight: tensor([0.5, 0.5, 5]) }).backward(); // the third class is rare
 */
export function crossEntropy<D extends FloatDType>(
  logits: Tensor<D>,
  target: Tensor<IndexDType> | Tensor<'int32'> | Tensor<'int64'> | Tensor<NoInfer<D>>,
  options: CrossEntropyOptions = {},
): Tensor<LossDType<D>> {
  expectTensors('crossEntropy', logits, target);
  expectOptions('crossEntropy', options, OPTIONS);
  const t = target as unknown as Tensor;
  const soft = isFloating(t.dtype);
  if (soft && t.ndim === 1 && logits.ndim === 2) {
    fail(
      'crossEntropy',
      'DTYPE',
      `expected labels of int32 or int64, or probabilities [${logits.shape.join(', ')}], got ${t.dtype} [${t.shape.join(', ')}]; ` +
        "convert labels with to('int64')",
    );
  }
  const settings: Settings = {
    smoothing: options.labelSmoothing ?? 0,
    ignoreIndex: options.ignoreIndex ?? -100,
    reduction: options.reduction ?? 'mean',
  };
  const { weight } = options;
  if (weight !== undefined) {
    expectWeighted(logits, weight, settings);
    return weighted(logits, t, weight, settings) as Tensor<LossDType<D>>;
  }
  const [labels, shares] = soft ? [undefined, t] : [t, undefined];
  return crossEntropyOp(logits, labels, shares, settings) as unknown as Tensor<LossDType<D>>;
}
