/**
 * A model that others learn from: in evaluation mode, without gradients, its logits kept on the disk where that is
 * wanted.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';

import type { Batch } from '../data/index.js';
import { type InputSpec, loadPretrained } from '../models/index.js';
import { findSource } from '../models/source.js';
import type { FloatTensor } from '../nn/index.js';
import { tensor } from '../ops/index.js';
import { type OptionNames, expectOptions } from '../tensor/arguments.js';
import { fail } from '../tensor/error.js';
import { type Device, inferenceMode } from '../tensor/index.js';
import type { ImageModel, Precision } from '../inference/index.js';
import { expectPrecision, inPrecision } from '../inference/precision.js';
import { describeClasses } from './classes.js';
import { LogitCache } from './logit-cache.js';

/** Mean and deviation of a model's images. */
export type Normalization = Pick<InputSpec, 'mean' | 'std'>;

/** What a teacher is shown, and where its answers are kept. */
export interface TeacherOptions {
  /** How the student's images are normalised, and the teacher's, where they differ. */
  readonly normalization?: { readonly student: Normalization; readonly teacher: Normalization } | undefined;
  /** What it computes in; its logits are float32. Default 'float32'. */
  readonly precision?: Precision;
  /** Its logits, from a run with the same images. */
  readonly cache?: LogitCache | undefined;
}

const OPTIONS = { normalization: true, precision: true, cache: true } satisfies OptionNames<TeacherOptions>;

/**
 * A teacher for `Distillation`.
 *
 * @example
 * const { model } = await loadPretrained('resnet-on-my-photos');
 * const trainer = new Trainer(student, { epochs: 10, distillation: { type: 'hard', teacher: new Teacher(model) } });
 */
export class Teacher {
  readonly model: ImageModel;
  readonly cache: LogitCache | undefined;
  private readonly normalization: TeacherOptions['normalization'];
  private readonly precision: Precision;

  /** @throws TensorError VALUE for a precision that there is not */
  constructor(model: ImageModel, options: TeacherOptions = {}) {
    expectOptions('Teacher', options, OPTIONS);
    this.precision = expectPrecision('Teacher', options.precision ?? 'float32');
    this.model = model.eval();
    this.cache = options.cache;
    this.normalization = options.normalization;
  }

  /** The kept logits of a batch `[B, classes]`; undefined where they are still to be computed. @throws TensorError VALUE */
  async recall(batch: Batch): Promise<FloatTensor | undefined> {
    const values = await this.cache?.read(batch);
    return (
      values && tensor(values, { shape: [batch.size, values.length / batch.size], device: this.model.device })
    );
  }

  /** Logits `[B, classes]` of images as the student sees them. */
  call(images: FloatTensor): FloatTensor {
    return inferenceMode(() =>
      inPrecision(this.precision, () => this.model.call(this.renormalize(images))).to('float32'),
    );
  }

  private renormalize(images: FloatTensor): FloatTensor {
    if (this.normalization === undefined) return images;
    const { student, teacher } = this.normalization;
    const column = (values: readonly number[]): FloatTensor =>
      tensor(Float32Array.from(values), { shape: [values.length, 1, 1], device: images.device });
    return images
      .mul(column(student.std.map((std, i) => std / teacher.std[i])))
      .add(column(student.mean.map((mean, i) => (mean - teacher.mean[i]) / teacher.std[i])));
  }

  /** Frees the model, and lets go of the cache. */
  async close(): Promise<void> {
    await this.cache?.close();
    this.model.dispose();
  }
}

/** Which teacher, for which student. */
export interface TeacherSettings {
  /** Its registered name, for weights that do not say it. */
  readonly model?: string | undefined;
  /** A folder for its logits. */
  readonly cache?: string | undefined;
  readonly classes: readonly string[];
  /** The student's. */
  readonly input: InputSpec;
  /** The student's. */
  readonly device: Device;
  /** The student's. */
  readonly precision: Precision;
}

/**
 * Loads a teacher that knows the student's classes.
 *
 * @returns the teacher, and a digest of its weights
 * @throws TensorError IO for files that cannot be read; VALUE for other classes
 */
export async function openTeacher(
  path: string,
  { model: name, cache, classes, input, device, precision }: TeacherSettings,
): Promise<{ teacher: Teacher; digest: string }> {
  const { info, files } = await findSource(path, name);
  if (info.classes.join('\n') !== classes.join('\n')) {
    fail(
      'train',
      'VALUE',
      `expected a teacher of ${describeClasses(classes)}, got one of ${describeClasses(info.classes)} in ${path}`,
    );
  }
  const sameSize = info.input.size.join() === input.size.join();
  const { model } = await loadPretrained(path, {
    model: name,
    device,
    ...(!sameSize && { settings: { imgSize: input.size } }),
  });
  const digest = await digestOf(files);
  const normalized = ({ mean, std }: InputSpec): string => [...mean, ...std].join();
  return {
    teacher: new Teacher(model, {
      precision,
      ...(cache !== undefined && {
        cache: new LogitCache(cache, digestOfLogits(digest, precision), classes.length),
      }),
      ...(normalized(info.input) !== normalized(input) && {
        normalization: { student: input, teacher: info.input },
      }),
    }),
    digest,
  };
}

/** What tells a teacher's logits from others: its weights, and what it computes in. */
function digestOfLogits(weights: string, precision: Precision): string {
  if (precision === 'float32') return weights;
  return createHash('sha256').update(`${weights} ${precision}`).digest('hex');
}

/** A digest of files, in 64 hexadecimal digits. */
async function digestOf(files: readonly string[]): Promise<string> {
  const hash = createHash('sha256');
  for (const file of files)
    for await (const chunk of createReadStream(file)) hash.update(chunk as Uint8Array);
  return hash.digest('hex');
}
