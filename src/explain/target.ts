/**
 * What is explained, and what comes of it.
 */
import type { FloatTensor } from '../nn/index.js';
import { argmax, full, gather } from '../ops/index.js';
import { fail } from '../tensor/error.js';
import { type Tensor, grad, setRequiresGrad } from '../tensor/index.js';

/** Which classes to explain: one for all images, or one for each, int64 `[B]`. Default: the most probable of each. */
export type ClassTarget = number | Tensor<'int64'>;

/** Maps and what they explain. */
export interface Explanation {
  /** `[B, rows, columns]` of patches or of the last map; larger is more. Compare within an image. */
  readonly map: Tensor<'float32'>;
  /** int64 `[B]` */
  readonly targets: Tensor<'int64'>;
  /** `[B, classes]` */
  readonly logits: FloatTensor;
}

/** @internal The classes to explain, int64 `[B]`. */
export function targetsOf(logits: FloatTensor, target: ClassTarget | undefined): Tensor<'int64'> {
  const [batch, classes] = logits.shape;
  if (target === undefined) return argmax(logits, { dim: 1 });
  if (typeof target === 'number') {
    if (!(Number.isInteger(target) && target >= 0 && target < classes)) {
      fail('explain', 'VALUE', `expected a class from 0 to ${classes - 1}, got ${target}`);
    }
    return full([batch], target, { dtype: 'int64', device: logits.device });
  }
  if (target.ndim !== 1 || target.shape[0] !== batch) {
    fail(
      'explain',
      'SHAPE',
      `expected a class for each of ${batch} images, got [${target.shape.join(', ')}]`,
    );
  }
  return target.clone();
}

/** @internal Images from which a model is recorded, whether or not its parameters want gradients. */
export function recordedImages(images: FloatTensor): FloatTensor {
  return setRequiresGrad(images.detach().clone());
}

/** @internal The slopes of each image's own logit by what it was made of; undefined for what it was not. */
export function slopesOf(
  logits: FloatTensor,
  targets: Tensor<'int64'>,
  of: readonly FloatTensor[],
): (FloatTensor | undefined)[] {
  return grad(gather(logits, 1, targets.unsqueeze(1)).sum(), of);
}
