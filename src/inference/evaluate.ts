/**
 * Running a model over a data set: loss, accuracy and what it confuses.
 */
import type { FloatTensor, Module } from '../nn/index.js';
import { evaluating } from '../nn/module.js';
import { crossEntropy, softmax, tensor, topk } from '../ops/index.js';
import { type OptionNames, expectOptions, expectWhole } from '../tensor/arguments.js';
import { fail } from '../tensor/error.js';
import { type Device, inferenceMode, type Tensor } from '../tensor/index.js';
import type { Batch, BatchSource } from '../data/index.js';
import { type ClassMetrics, balancedAccuracy, classMetrics } from './class-metrics.js';
import { expectOutputs } from './outputs.js';
import { type Precision, inPrecision } from './precision.js';
import { settled } from './settle.js';

/** Any model from images to logits. */
export type ImageModel = Module<[images: FloatTensor], FloatTensor>;

/** One prediction: the most probable classes first. */
export interface Prediction {
  /** Position in the data set. */
  readonly index: number;
  /** The true class, -1 when unknown. */
  readonly label: number;
  readonly top: readonly { readonly label: number; readonly probability: number }[];
}

/** How well a model does on a data set. */
export interface Evaluation {
  /** Mean cross-entropy, in nats. */
  readonly loss: number;
  /** Share of images whose most probable class is the true one, in [0, 1]. */
  readonly accuracy: number;
  /** Mean accuracy of the classes that have images, each counting alike however many it has, in [0, 1]. */
  readonly balancedAccuracy: number;
  /** Share of images whose true class is among the five most probable. */
  readonly top5: number;
  readonly images: number;
  /** Rows are true classes, columns predicted ones. */
  readonly confusion: number[][];
  /** Precision, recall and F1 of each class. */
  readonly perClass: readonly ClassMetrics[];
  readonly imagesPerSecond: number;
}

/** The number of classes, and who watches. */
export interface EvaluateOptions {
  readonly classes: number;
  /** Default 'float32'. */
  readonly precision?: Precision;
  /** Ends the evaluation early: it then rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
  /** Sees each prediction. */
  readonly onPrediction?: (prediction: Prediction) => void;
  /** Sees the number of images done. */
  readonly onProgress?: (images: number) => void;
}

const OPTIONS = {
  classes: true,
  precision: true,
  signal: true,
  onPrediction: true,
  onProgress: true,
} satisfies OptionNames<EvaluateOptions>;

/** Values on their way from the device. */
interface Pending {
  readonly labels: Int32Array;
  readonly indices: Int32Array;
  readonly loss: Tensor;
  readonly values: Tensor;
  readonly classes: Tensor<'int64'>;
}

/** Images of a batch as a tensor `[B, 3, H, W]`. */
export function imagesOf(batch: Batch, device: Device): Tensor<'float32'> {
  const { images, size, shape } = batch;
  return tensor(images, { shape: [size, ...shape], device });
}

/** What the loss of a batch compares with: labels `[B]`, or soft targets `[B, classes]` where images are mixed. */
export function targetOf(
  { labels, targets, size }: Batch,
  device: Device,
): Tensor<'int32'> | Tensor<'float32'> {
  if (targets === undefined) return tensor(Int32Array.from(labels), { device });
  return tensor(targets, { shape: [size, targets.length / size], device });
}

/**
 * Runs the model in evaluation mode over every batch, and puts each of its modules back into the mode it was in.
 *
 * @throws TensorError VALUE when there is no image, or the model's outputs are not `classes`; the signal's reason when it stops the
 *   evaluation
 * @example
 * const { accuracy, balancedAccuracy, perClass } = await evaluate(model, loader, { classes: 10 });
 */
export async function evaluate(
  model: ImageModel,
  source: BatchSource,
  options: EvaluateOptions,
): Promise<Evaluation> {
  expectOptions('evaluate', options, OPTIONS);
  expectWhole('evaluate', 'classes', options.classes, 1);
  return settled(model.device, () => evaluateAll(model, source, options));
}

async function evaluateAll(
  model: ImageModel,
  source: BatchSource,
  options: EvaluateOptions,
): Promise<Evaluation> {
  const { classes, precision = 'float32' } = options;
  const confusion = Array.from({ length: classes }, () => new Array<number>(classes).fill(0));
  let images = 0;
  let correct = 0;
  let inTop5 = 0;
  let loss = 0;
  const finish = async (pending: Pending): Promise<void> => {
    const { labels, indices } = pending;
    const [sum, values, found] = await Promise.all([
      pending.loss.item(),
      pending.values.data(),
      pending.classes.data(),
    ]);
    for (const done of [pending.loss, pending.values, pending.classes]) done.dispose();
    const k = values.length / labels.length;
    labels.forEach((label, i) => {
      const top = Array.from({ length: k }, (_, j) => ({
        label: found[i * k + j],
        probability: values[i * k + j],
      }));
      confusion[label][top[0].label] += 1;
      if (top[0].label === label) correct += 1;
      if (top.some((guess) => guess.label === label)) inTop5 += 1;
      options.onPrediction?.({ index: indices[i], label, top });
    });
    loss += sum as number;
    images += labels.length;
    options.onProgress?.(images);
  };

  const restore = evaluating(model);
  const started = performance.now();
  try {
    let before: Pending | undefined;
    for await (const batch of source.epoch(0)) {
      options.signal?.throwIfAborted();
      const pending = run(model, batch, classes, precision);
      // The values of one batch are read while the next one is computed.
      if (before !== undefined) await finish(before);
      before = pending;
    }
    if (before !== undefined) await finish(before);
  } finally {
    restore();
  }
  if (images === 0) fail('evaluate', 'VALUE', 'expected at least one image that can be read, got none');
  const seconds = (performance.now() - started) / 1000;
  const perClass = classMetrics(confusion);
  return {
    loss: loss / images,
    accuracy: correct / images,
    balancedAccuracy: balancedAccuracy(perClass),
    top5: inTop5 / images,
    images,
    confusion,
    perClass,
    imagesPerSecond: images / seconds,
  };
}

function run(model: ImageModel, batch: Batch, classes: number, precision: Precision): Pending {
  const labels = Int32Array.from(batch.labels);
  const indices = Int32Array.from(batch.indices);
  const result = inferenceMode(() =>
    inPrecision(precision, () => {
      const { device } = model;
      const images = imagesOf(batch, device);
      batch.release();
      const logits = model.call(images);
      expectOutputs('evaluate', logits.shape, classes);
      const loss = crossEntropy(logits, tensor(labels, { device }), { reduction: 'sum' });
      const { values, indices } = topk(softmax(logits), Math.min(5, classes));
      return { loss, values, classes: indices };
    }),
  );
  return { labels, indices, ...result };
}
