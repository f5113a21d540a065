import { readdir, truncate } from 'node:fs/promises';
import { join } from 'node:path';

import test from 'ava';

import {
  type BatchSource,
  type DType,
  DistilledVisionTransformer,
  type FloatTensor,
  LogitCache,
  Teacher,
  Trainer,
  type TrainerOptions,
  argmax,
  autocast,
  crossEntropy,
  distillationLoss,
  inferenceMode,
  manualSeed,
  noGrad,
  normal,
  readTrainingState,
  saveTrainingState,
  tensor,
  zeros,
} from '../../src/index.js';
import * as distillation from '../../src/train/distillation.js';
import { asTensor, goldenPath, readGolden, relativeError, sharedTest } from '../helpers/golden.js';
import { type Nd, random, values } from '../helpers/nd.js';
import { opCases } from '../helpers/op-case.js';
import { digestsOf, temporaryFolder, tinyBatches, tinyImages, tinyModel } from '../helpers/training.js';

for (const type of ['hard', 'soft'] as const) {
  const path = `ops/distill-${type}.safetensors`;
  sharedTest(`${type} distillation and its gradient are DeiT's`, goldenPath(path), async (t) => {
    const { tensors: io } = readGolden(path);
    const student = tensor(io['in.s'].data as Float32Array, { shape: io['in.s'].shape, requiresGrad: true });
    const teacher = asTensor(io['in.t']) as FloatTensor;
    const loss = distillationLoss(student, teacher, { type, tau: type === 'soft' ? 3 : 1 });
    t.true(relativeError([await loss.item()], io['out.0'].data) < 1e-5);
    loss.mul(Number(io['cot.0'].data[0])).backward();
    t.true(relativeError(await student.grad!.data(), io['grad.s'].data) < 1e-4);
  });
}

/** The formulas in plain loops. */
function reference(student: Nd, teacher: Nd, { type, tau = 1 }: distillation.DistillationLoss): Nd {
  const [rows, classes] = student.shape;
  const logP = (x: Nd, row: number, by: number): number[] => {
    const line = Array.from({ length: classes }, (_, c) => x.at([row, c]) / by);
    const shift = Math.max(...line);
    const lse = shift + Math.log(line.reduce((total, v) => total + Math.exp(v - shift), 0));
    return line.map((v) => v - lse);
  };
  let total = 0;
  for (let row = 0; row < rows; row++) {
    const [ls, lt] = [logP(student, row, tau), logP(teacher, row, tau)];
    if (type === 'hard') total -= logP(student, row, 1)[lt.indexOf(Math.max(...lt))] / rows;
    else
      for (let c = 0; c < classes; c++)
        total += (Math.exp(lt[c]) * (lt[c] - ls[c]) * tau ** 2) / (rows * classes);
  }
  return values([total], []);
}

// A teacher of whole numbers has no gradient for the table to look for.
const TAUGHT = values([2, -1, 0, 3, 0, 1, -2, 4, 1, 0, -3, 2], [3, 4], 'int32');

opCases(
  { distillationLoss },
  {
    distillationLoss: {
      reference,
      samples: [
        [random([3, 4]), TAUGHT, { type: 'hard' }],
        [random([3, 4]), TAUGHT, { type: 'soft' }],
        [random([3, 4]), TAUGHT, { type: 'soft', tau: 3 }],
      ],
      dtypes: ['float32', 'float64', 'bfloat16'],
      resultDType: (dtype: DType): DType => (dtype === 'float64' ? dtype : 'float32'),
      errors: [
        [
          () => distillationLoss(zeros([2, 3]), zeros([2, 3]), { type: 'soft', tau: 0 }),
          'VALUE',
          'distillationLoss: expected a tau above 0, got 0',
        ],
        [
          () => distillationLoss(zeros([2, 3]), zeros([2, 4]), { type: 'hard' }),
          'SHAPE',
          'distillationLoss: expected logits of one shape, got [2, 3] and [2, 4]',
        ],
      ],
    },
  },
);

/** Tiny batches whose teacher is a tiny ViT of other weights. */
const teacherModel = (seed = 9): ReturnType<typeof tinyModel> => tinyModel({ dropRate: 0.5 }, seed);

function distilledModel(): DistilledVisionTransformer {
  manualSeed(1);
  const config = { imgSize: 8, patchSize: 4, embedDim: 16, depth: 1, numHeads: 2, numClasses: 3 } as const;
  return new DistilledVisionTransformer({ ...config, dropPathRate: 0.2 });
}

test.serial('the loss is both heads, each with its target, in their shares', async (t) => {
  const { images, labels } = tinyImages(6);
  const x = tensor(images, { shape: [6, 3, 8, 8] });
  const student = distilledModel().eval();
  const teacher = new Teacher(teacherModel());
  t.false(teacher.model.training);
  const taught = teacher.call(x);
  t.false(taught.requiresGrad);
  const [y, yDist] = noGrad(() => student.heads(x));
  const base = (logits: FloatTensor): FloatTensor =>
    crossEntropy(logits, tensor(labels), { labelSmoothing: 0.1 });
  for (const type of ['hard', 'soft'] as const) {
    const { loss, logits } = distillation.distilledLoss(student, x, taught, base, {
      type,
      teacher,
      alpha: 0.3,
      tau: 2,
    });
    const distance = await distillationLoss(yDist, taught, { type, tau: 2 }).item();
    const expected = 0.7 * (await base(y).item()) + 0.3 * distance;
    t.true(Math.abs((await loss.item()) / expected - 1) < 1e-6, type);
    loss.backward();
    t.not(student.headDist?.weight.grad, undefined);
    t.true(teacher.model.parameters().every(({ grad }) => grad === undefined));
    const wanted = await noGrad(() => argmax(student.call(x), { dim: 1 })).data();
    t.deepEqual(await argmax(logits, { dim: 1 }).data(), wanted);
  }
});

test.serial('a student with one head learns from labels and teacher with it', async (t) => {
  const { images, labels } = tinyImages(6);
  const x = tensor(images, { shape: [6, 3, 8, 8] });
  const student = tinyModel().eval();
  const teacher = new Teacher(teacherModel());
  const taught = teacher.call(x);
  const base = (logits: FloatTensor): FloatTensor => crossEntropy(logits, tensor(labels));
  const { loss } = distillation.distilledLoss(student, x, taught, base, { type: 'hard', teacher });
  const y = noGrad(() => student.call(x));
  const hard = await crossEntropy(y, argmax(taught, { dim: 1 })).item();
  t.true(Math.abs((await loss.item()) / (0.5 * (await base(y).item()) + 0.5 * hard) - 1) < 1e-6);
});

test.serial('a teacher of another normalisation sees the images that it knows', async (t) => {
  const student = { mean: [0.5, 0.5, 0.5], std: [0.5, 0.25, 0.5] };
  const other = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
  const model = teacherModel();
  manualSeed(3);
  const raw = normal([2, 3, 8, 8]);
  const as = ({ mean, std }: typeof student): FloatTensor =>
    raw.sub(tensor(mean, { shape: [3, 1, 1] })).div(tensor(std, { shape: [3, 1, 1] }));
  const teacher = new Teacher(model, { normalization: { student, teacher: other } });
  const wanted = await inferenceMode(() => model.call(as(other))).data();
  t.true(relativeError(await teacher.call(as(student)).data(), wanted) < 1e-5);
});

test.serial('a teacher computes in its precision, and answers in float32', async (t) => {
  const model = teacherModel().eval();
  manualSeed(3);
  const x = normal([2, 3, 8, 8]);
  const narrow = await autocast('bfloat16', () => inferenceMode(() => model.call(x))).data();
  const logits = new Teacher(model, { precision: 'bf16' }).call(x);
  t.is(logits.dtype, 'float32');
  t.deepEqual(await logits.data(), narrow);
  const wide = await new Teacher(model).call(x).data();
  t.notDeepEqual(wide, narrow);
  t.true(relativeError(narrow, wide) < 2e-2);
  t.throws(() => new Teacher(model, { precision: 'half' as 'fp16' }), {
    message: "Teacher: expected a precision of float32, bf16, fp16, got 'half'",
  });
  t.throws(() => new Teacher(model, { dtype: 'bf16' } as object), {
    message: "Teacher: expected options { normalization, precision, cache }, got one named 'dtype'",
  });
});

const OPTIONS: TrainerOptions = { epochs: 3, lr: 1e-2, smoothing: 0.1, modelEmaDecay: 0.9, seed: 5 };
const DIGEST = 'ab'.repeat(32);

interface Attempt {
  readonly cache?: LogitCache;
  readonly source?: BatchSource;
  readonly seed?: number;
}

/** Trains a student; without a `seed`, its teacher must not be asked. */
function trainerWith({ cache, seed }: Attempt): Trainer {
  const model = teacherModel(seed);
  if (seed === undefined)
    model.registerForwardHook(() => {
      throw new Error('expected kept logits');
    });
  const teacher = new Teacher(model, { cache });
  return new Trainer(distilledModel(), { ...OPTIONS, distillation: { type: 'soft', tau: 3, teacher } });
}

async function trained(attempt: Attempt): Promise<Record<string, string>> {
  const trainer = trainerWith(attempt);
  try {
    await trainer.run(attempt.source ?? tinyBatches(10, 4), { classes: 3 });
    return await digestsOf(trainer.state().tensors);
  } finally {
    await attempt.cache?.close();
  }
}

test.serial('kept logits give the same bits as the teacher, which is not asked again', async (t) => {
  const folder = join(await temporaryFolder(t), 'logits');
  const expected = await trained({ seed: 9 });
  t.notDeepEqual(await trained({ seed: 10 }), expected, 'the teacher matters');
  t.deepEqual(await trained({ seed: 9, cache: new LogitCache(folder, DIGEST, 3) }), expected);
  t.deepEqual((await readdir(folder)).sort(), [
    'epoch-0001.logits',
    'epoch-0002.logits',
    'epoch-0003.logits',
  ]);
  t.deepEqual(await trained({ cache: new LogitCache(folder, DIGEST, 3) }), expected);
});

test.serial(
  'a run stopped within an epoch continues bit for bit, with kept logits and without',
  async (t) => {
    const folder = await temporaryFolder(t);
    const expected = await trained({ seed: 9 });
    for (const [i, cached] of [false, true, true].entries()) {
      const attempt = {
        seed: 9,
        ...(cached && { cache: new LogitCache(join(folder, 'logits'), DIGEST, 3) }),
      };
      const path = join(folder, `${i}.safetensors`);
      const stop = new AbortController();
      const stopped = trainerWith(attempt);
      const finished = await stopped.run(tinyBatches(10, 4), {
        classes: 3,
        signal: stop.signal,
        onStep: ({ step }) => void (step === 4 && stop.abort()),
        onSave: () => saveTrainingState(path, stopped.state()),
      });
      t.false(finished);
      await attempt.cache?.close();
      const resumed = trainerWith(attempt);
      resumed.loadState(await readTrainingState(path));
      t.true(await resumed.run(tinyBatches(10, 4), { classes: 3 }));
      t.deepEqual(await digestsOf(resumed.state().tensors), expected);
    }
    // The epoch that was stopped in the middle was kept by neither run.
    const kept = (await readdir(join(folder, 'logits'))).sort();
    t.deepEqual(kept, ['epoch-0001.logits', 'epoch-0003.logits']);
  },
);

test.serial(
  'a cache of other images, of another teacher or cut short is an error that names its file',
  async (t) => {
    const folder = join(await temporaryFolder(t), 'logits');
    await trained({ seed: 9, cache: new LogitCache(folder, DIGEST, 3) });
    const file = join(folder, 'epoch-0001.logits');
    const fails = async (what: string, attempt: Attempt): Promise<void> => {
      const message = `teacher cache: expected ${what} in ${file}, got others; remove it, or name another folder`;
      await t.throwsAsync(trained(attempt), { message });
    };
    const cache = (digest = DIGEST, classes = 3): LogitCache => new LogitCache(folder, digest, classes);
    const images = tinyImages(10).images.map((x, i) => (i % 192 === 0 ? x + 0.01 : x));
    await fails('logits for these images', { cache: cache(), source: tinyBatches(10, 4, images) });
    await fails('logits for these images', { cache: cache(), source: tinyBatches(10, 5) });
    await fails('the logits of this teacher in its precision', { cache: cache('cd'.repeat(32)) });
    await fails('the logits of this teacher in its precision', { cache: cache(DIGEST, 4) });
    await truncate(file, 150);
    await fails('the logits of a whole epoch', { cache: cache() });
  },
);

test.serial('a share of the teacher outside [0, 1] is an error', (t) => {
  const distilled = { type: 'hard', alpha: 1.5, teacher: new Teacher(teacherModel()) } as const;
  t.throws(() => new Trainer(tinyModel(), { epochs: 1, distillation: distilled }), {
    message: 'Trainer: expected a distillation alpha in [0, 1], got 1.5',
  });
});
