/**
 * Learning from a teacher: the loss of a student that is compared with the labels and with another model's logits on the
 * same images.
 *
 *   total = (1 - alpha) base(y, labels) + alpha loss(y_d, teacher)
 *
 * y and y_d are the logits of a distilled DeiT's two heads; a model with one head has y_d = y.
 *
 * Source: Touvron et al., "Training data-efficient image transformers & distillation through attention", 2021, equations
 * 2 and 3, as DeiT's code has them; Hinton et al., "Distilling the knowledge in a neural network", 2015.
 */
import { DistilledVisionTransformer } from '../models/index.js';
import type { FloatTensor } from '../nn/index.js';
import { argmax, crossEntropy, logSoftmax } from '../ops/index.js';
import { type OptionNames, expectOptions, expectTensors } from '../tensor/arguments.js';
import { fail } from '../tensor/error.js';
import type { FloatDType } from '../tensor/dtype.js';
import { detach, noGrad } from '../tensor/index.js';
import type { ImageModel } from '../inference/index.js';
import type { Teacher } from './teacher.js';

/** How a student is compared with its teacher. */
export interface DistillationLoss {
  /** 'hard': with the class that the teacher finds most probable; 'soft': with all of its probabilities. */
  readonly type: 'soft' | 'hard';
  /** Temperature: logits are divided by it, for 'soft'. Default 1. */
  readonly tau?: number;
}

/** How a student learns from a teacher. */
export interface Distillation extends DistillationLoss {
  readonly teacher: Teacher;
  /** Share of the teacher in the loss, in [0, 1]. Default 0.5. */
  readonly alpha?: number;
}

const LOSS_OPTIONS = { type: true, tau: true } satisfies OptionNames<DistillationLoss>;

/**
 * The distance of a student's logits y from a teacher's t, both `[B, K]`; the teacher gets no gradient.
 *
 * - hard: `crossEntropy(y, argmax_c t)`
 * - soft: `tau^2 / (B K) sum_{b,c} p_t (log p_t - log p_y)` with p = softmax(logits / tau). DeiT divides by B K, not by B.
 *
 * @throws TensorError VALUE for a temperature that is not above 0; SHAPE when the logits differ in shape
 * @example
 * distillationLoss(distLogits, teacherLogits, { type: 'soft', tau: 3 }).backward();
 */
export function distillationLoss(
  student: FloatTensor,
  teacher: FloatTensor,
  options: DistillationLoss,
): FloatTensor {
  expectTensors('distillationLoss', student, teacher);
  expectOptions('distillationLoss', options, LOSS_OPTIONS);
  const { type, tau = 1 } = options;
  if (!(tau > 0)) fail('distillationLoss', 'VALUE', `expected a tau above 0, got ${tau}`);
  if (student.shape.join() !== teacher.shape.join()) {
    const shapes = [student, teacher].map(({ shape }) => `[${shape.join(', ')}]`).join(' and ');
    fail('distillationLoss', 'SHAPE', `expected logits of one shape, got ${shapes}`);
  }
  // 16-bit probabilities would lose the small ones, which soft distillation is about.
  const wide: FloatDType = student.dtype === 'float64' ? 'float64' : 'float32';
  const y: FloatTensor = student.to(wide);
  const t: FloatTensor = detach(teacher).to(wide);
  if (type === 'hard')
    return crossEntropy(
      y,
      noGrad(() => argmax(t, { dim: 1 })),
    );
  const [p, negativeEntropy] = noGrad(() => {
    const logP = logSoftmax(t.div(tau));
    return [logP.exp(), logP.exp().mul(logP).sum()];
  });
  const cross: FloatTensor = crossEntropy(y.div(tau), p, { reduction: 'sum' });
  return cross.add(negativeEntropy).mul(tau ** 2 / student.size);
}

/**
 * What a student says of images, and its loss: `base` compares the first head's logits with the labels.
 *
 * @returns the loss, and logits to count hits with: the prediction, without a gradient
 */
export function distilledLoss(
  model: ImageModel,
  images: FloatTensor,
  taught: FloatTensor,
  base: (logits: FloatTensor) => FloatTensor,
  { alpha = 0.5, type, tau = 1 }: Distillation,
): { loss: FloatTensor; logits: FloatTensor } {
  const [logits, distLogits] = headsOf(model, images);
  const distance = distillationLoss(distLogits, taught, { type, tau });
  const loss = base(logits)
    .mul(1 - alpha)
    .add(distance.mul(alpha));
  return { loss, logits: detach(logits).add(detach(distLogits)) };
}

function headsOf(model: ImageModel, images: FloatTensor): [FloatTensor, FloatTensor] {
  if (model instanceof DistilledVisionTransformer) return model.heads(images);
  const logits = model.call(images);
  return [logits, logits];
}
