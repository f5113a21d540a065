/**
 * The loss of logits and labels: cross-entropy, or binary cross-entropy of each class for itself.
 *
 * Source of the latter: timm's `BinaryCrossEntropy`, Wightman et al., "ResNet strikes back", 2021, and Touvron et al.,
 * "DeiT III", 2022.
 */
import type { FloatTensor } from '../nn/index.js';
import { binaryCrossEntropy, crossEntropy, oneHot } from '../ops/index.js';
import { fail } from '../tensor/error.js';
import type { Tensor } from '../tensor/index.js';

/** Labels `[B]`, or soft targets `[B, classes]`. */
export type Target = Tensor<'int32'> | Tensor<'float32'>;

/** Which loss, and what becomes of the labels before it. */
export interface LabelLoss {
  readonly smoothing: number;
  readonly bceLoss: boolean;
  readonly bceTargetThresh?: number | undefined;
}

/**
 * The loss of logits `[B, classes]`, a scalar; with `weight`, `[classes]`, each class's share of a target counts so many times.
 *
 * It is divided by the images, not by their weights, as PyTorch's cross-entropy of labels is: batches of the common classes
 * alone would weigh as much as those with a rare one. So it does not depend on whether images are mixed, and batches whose
 * gradients accumulate are one large batch.
 */
export function labelLoss(
  logits: FloatTensor,
  target: Target,
  options: LabelLoss,
  weight?: Tensor<'float32'>,
): FloatTensor {
  const { smoothing, bceLoss, bceTargetThresh } = options;
  if (!bceLoss) {
    if (weight === undefined) return crossEntropy(logits, target, { labelSmoothing: smoothing });
    const loss = crossEntropy(logits, target, { labelSmoothing: smoothing, weight, reduction: 'sum' });
    return loss.div(logits.shape[0]);
  }
  const wide = logits.dtype === 'float64' ? 'float64' : 'float32';
  const shares = target.dtype === 'float32' ? target : oneHot(target, logits.shape[1]);
  const { off } = ends(smoothing, logits.shape[1]);
  const smooth = smoothing === 0 ? shares : shares.mul(1 - smoothing).add(off);
  const targets = bceTargetThresh === undefined ? smooth : smooth.greater(bceTargetThresh);
  return binaryCrossEntropy(logits.to(wide) as FloatTensor, targets.to(wide), { posWeight: weight });
}

/** What smoothing makes of 0 and of 1. */
function ends(smoothing: number, classes: number): { off: number; on: number } {
  const off = smoothing / classes;
  return { off, on: 1 - smoothing + off };
}

/** @throws TensorError VALUE for a threshold that would make every class of an image a target, or none */
export function expectThreshold(op: string, name: string, options: LabelLoss, classes: number): void {
  const { smoothing, bceLoss, bceTargetThresh } = options;
  if (!bceLoss || bceTargetThresh === undefined) return;
  const { off, on } = ends(smoothing, classes);
  const thresh = Math.fround(bceTargetThresh); // as targets are compared with it
  if ((thresh > Math.fround(off) || smoothing === 0) && thresh < Math.fround(on)) return;
  const [low, high] = [off, on].map((x) => +x.toPrecision(3));
  fail(
    op,
    'VALUE',
    `expected ${name} between ${low} and ${high}, which smoothing makes of the targets 0 and 1, got ${bceTargetThresh}`,
  );
}
