import { native } from '../native.js';
import { type OptionNames, expectOptions, expectTensors } from '../tensor/arguments.js';
import { fail } from '../tensor/error.js';
import { ownOp } from '../tensor/define-op.js';
import type { FloatDType, IndexDType } from '../tensor/dtype.js';
import { isFloating } from '../tensor/dtype.js';
import { type Tensor, wrap } from '../tensor/tensor.js';

/** How targets are smoothed, and losses of rows put together. */
export interface CrossEntropyOptions {
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

const OPTIONS = {
  labelSmoothing: true,
  ignoreIndex: true,
  reduction: true,
} satisfies OptionNames<CrossEntropyOptions>;

/**
 * Cross-entropy of logits with class indices or with soft targets:
 * `-sum_c ((1 - s) t[c] + s / K) log p[c]` with label smoothing s and p = softmax(logits), where t is 1 at the label.
 *
 * Shapes: logits `[N, K]`; target `[N]` (int32 or int64) or `[N, K]` (the dtype of the logits, with a gradient of its
 * own) -> a scalar, or `[N]` for reduction 'none'. Loss and gradient are computed in one pass over the logits. When
 * every row is ignored, the mean is NaN, as in PyTorch.
 *
 * @throws TensorError SHAPE, DTYPE or VALUE; INDEX, when the loss is read, for a label outside [0, K)
 * @example
 * crossEntropy(logits, labels, { labelSmoothing: 0.1 }).backward();
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
  return crossEntropyOp(logits, soft ? undefined : t, soft ? t : undefined, {
    smoothing: options.labelSmoothing ?? 0,
    ignoreIndex: options.ignoreIndex ?? -100,
    reduction: options.reduction ?? 'mean',
  }) as unknown as Tensor<LossDType<D>>;
}
