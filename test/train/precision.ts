import test from 'ava';

import {
  TensorError,
  Trainer,
  type Precision,
  type TrainerOptions,
  readTrainingState,
  saveTrainingState,
} from '../../src/index.js';
import { digestsOf, temporaryFolder, tinyBatches, tinyImages, tinyModel } from '../helpers/training.js';

// One after the other: every trainer of a process draws from the same random numbers.

const OPTIONS: TrainerOptions = { epochs: 4, lr: 3e-2, smoothing: 0.1, clipGrad: 1, gradAccumSteps: 2 };

test.serial('training in 16 bits follows the losses of float32, with float32 weights', async (t) => {
  const losses = async (precision: Precision): Promise<number[]> => {
    const trainer = new Trainer(tinyModel(), { ...OPTIONS, precision });
    const seen: number[] = [];
    await trainer.run(tinyBatches(16, 4), { classes: 3, onStep: ({ loss }) => void seen.push(loss) });
    t.deepEqual(
      new Set(Object.values(trainer.state().tensors).map(({ dtype }) => dtype)),
      new Set(['float32']),
    );
    const { loss } = await trainer.evaluate(tinyBatches(9, 4), { classes: 3 });
    return [...seen, loss];
  };
  const exact = await losses('float32');
  t.true(exact[0] - exact[15] > 0.3, exact.join());
  for (const precision of ['bf16', 'fp16'] as const) {
    const found = await losses(precision);
    const furthest = Math.max(...found.map((loss, i) => Math.abs(loss - exact[i])));
    t.true(furthest > 0 && furthest < (precision === 'bf16' ? 0.06 : 0.03), `${precision}: ${furthest}`);
  }
});

test.serial('a stopped run in 16 bits continues from its file, bit for bit', async (t) => {
  const folder = await temporaryFolder(t);
  const source = tinyBatches(20, 4);
  for (const precision of ['bf16', 'fp16'] as const) {
    const path = `${folder}/${precision}.safetensors`;
    const options: TrainerOptions = { ...OPTIONS, precision, modelEmaDecay: 0.9 };
    const whole = new Trainer(tinyModel({ dropRate: 0.3 }), options);
    await whole.run(source, { classes: 3, val: source });

    const stop = new AbortController();
    const first = new Trainer(tinyModel({ dropRate: 0.3 }), options);
    await first.run(source, {
      classes: 3,
      val: source,
      signal: stop.signal,
      onStep: ({ step }) => {
        if (step === 5) stop.abort();
      },
      onSave: () => saveTrainingState(path, first.state()),
    });
    const second = new Trainer(tinyModel({ dropRate: 0.3 }, 99), options);
    const state = await readTrainingState(path);
    t.deepEqual(state.values.scaler, precision === 'fp16' ? { scale: 65536, growthTracker: 6 } : undefined);
    second.loadState(state);
    await second.run(source, { classes: 3, val: source });
    t.deepEqual(
      await digestsOf(second.state().tensors),
      await digestsOf(whole.state().tensors),
      `${precision}`,
    );
  }
});

test.serial('float16 without a stored scale, or with gradients that never fit, is an error', async (t) => {
  const trainer = new Trainer(tinyModel(), { ...OPTIONS, precision: 'fp16' });
  const { tensors, values } = new Trainer(tinyModel(), OPTIONS).state();
  t.throws(
    () => {
      trainer.loadState({ tensors, values });
    },
    { message: 'Trainer: expected the state of a gradient scaler, got none' },
  );
  // A finite loss whose gradient is not: the root of 0.
  const images = tinyImages(160).images;
  const model = tinyModel();
  model.registerForwardHook((_, logits) => logits.mul(0).sqrt().add(logits));
  const broken = new Trainer(model, { epochs: 5, lr: 1e-3, precision: 'fp16' });
  await t.throwsAsync(broken.run(tinyBatches(16, 4, images), { classes: 3 }), {
    message:
      'Trainer: expected finite gradients, got overflow without a loss scale; try a lower learning rate, a longer ' +
      'warm-up or gradient clipping, or bf16',
  });
  t.is(broken.progress.step, 16); // 65536 is 2^16
});

test('a precision that does not exist is an error', (t) => {
  t.throws(() => new Trainer(tinyModel(), { epochs: 1, precision: 'bfloat16' as 'bf16' }), {
    instanceOf: TensorError,
    message: "Trainer: expected a precision of float32, bf16, fp16, got 'bfloat16'",
  });
});
