/**
 * Captured steps on an emulated GPU: the bits of the step itself, whatever happens between replays, and errors that leave
 * everything as it was.
 */
import '../helpers/emulated-cuda.js';

import test from 'ava';

import {
  AdamW,
  type CaptureResult,
  type CapturedStep,
  Ema,
  type FloatTensor,
  GradScaler,
  SGD,
  Teacher,
  type Tensor,
  Trainer,
  type TrainerOptions,
  VisionTransformer,
  autocast,
  capture,
  copyInto,
  cosineSchedule,
  crossEntropy,
  dropout,
  getRandomState,
  keep,
  manualSeed,
  memoryStats,
  normal,
  releaseCachedMemory,
  scope,
  setRandomState,
  synchronize,
  tensor,
  zeros,
} from '../../src/index.js';
import { collectGarbage } from '../helpers/garbage.js';
import { digestsOf, tinyBatches, tinyModel } from '../helpers/training.js';

// One after the other: all draw from the same random numbers.

const CUDA = { device: 'cuda' } as const;

const VIT = {
  imgSize: 8,
  patchSize: 4,
  embedDim: 16,
  depth: 2,
  numHeads: 2,
  numClasses: 3,
  dropRate: 0.1,
  projDropRate: 0.1,
  attnDropRate: 0.1,
  patchDropRate: 0.25,
  dropPathRate: 0.2,
};

/** A ViT with what trains it, and its step. */
class Training {
  readonly model = new VisionTransformer(VIT).to('cuda');
  readonly optimizer = new AdamW(this.model.parameters(), { weightDecay: 0.05 });
  readonly ema = new Ema(this.model.stateDict(), { decay: 0.9, warmup: true });
  steps = 0;

  constructor(private readonly precision: 'float32' | 'bfloat16') {}

  readonly step = (images: FloatTensor, labels: Tensor<'int64'>): { loss: Tensor; norm: Tensor } => {
    const loss = autocast(this.precision, () => crossEntropy(this.model.call(images), labels));
    loss.backward();
    const norm = this.optimizer.step({ maxNorm: 0.5 }) as Tensor;
    this.optimizer.zeroGrad();
    this.ema.update();
    return { loss, norm };
  };

  /** Losses and gradient norms of some steps on images of their own, with a learning rate of its own each. */
  async run(step: Training['step'], count: number): Promise<number[]> {
    const lrAt = cosineSchedule({ lr: 0.02, minLr: 0, warmupLr: 1e-4, warmupSteps: 2, steps: 12 });
    const found: number[] = [];
    for (let i = 0; i < count; i++) {
      const pixels = Float32Array.from({ length: 2 * 192 }, (_, at) => Math.sin(at * at + this.steps));
      using images = tensor(pixels, { shape: [2, 3, 8, 8], ...CUDA });
      using labels = tensor([this.steps % 3, 1], { dtype: 'int64', ...CUDA });
      this.optimizer.setLearningRate(lrAt(this.steps++));
      const { loss, norm } = step(images, labels);
      // What else runs between two steps takes memory and writes it.
      scope(() => normal([1000, 8], CUDA).mul(NaN));
      found.push(Number(await loss.item()), Number(await norm.item()));
      loss.dispose();
      norm.dispose();
    }
    return found;
  }

  /** Every bit that a checkpoint would hold. */
  async state(): Promise<unknown> {
    const { tensors, values } = this.optimizer.stateDict();
    return {
      weights: await digestsOf(this.model.stateDict()),
      moments: await digestsOf(tensors),
      averages: await digestsOf(this.ema.averages),
      values,
      updates: this.ema.steps,
      random: getRandomState(),
    };
  }

  dispose(): void {
    this.optimizer.dispose();
    this.ema.dispose();
    this.model.dispose();
  }
}

for (const precision of ['float32', 'bfloat16'] as const) {
  test.serial(`a captured training step in ${precision} gives the bits of the step`, async (t) => {
    const run = async (captured: boolean): Promise<unknown[]> => {
      manualSeed(3);
      const training = new Training(precision);
      const step = captured ? capture(training.step) : undefined;
      const losses = await training.run(step ?? training.step, 4);
      // As an evaluation of the averages does it.
      scope(() => {
        for (const [name, weight] of Object.entries(training.model.stateDict())) {
          copyInto(weight, training.ema.averages[name]);
        }
      });
      losses.push(...(await training.run(step ?? training.step, 2)));
      // Replays leave the host where the step itself goes on.
      step?.dispose();
      losses.push(...(await training.run(training.step, 1)));
      const state = await training.state();
      training.dispose();
      return [losses, state];
    };
    const [losses, state] = await run(false);
    t.deepEqual(await run(true), [losses, state]);
    t.is(new Set(losses as number[]).size, 14);
  });
}

test.serial('replays from one state give the same bits, and go on from a loaded one', async (t) => {
  manualSeed(5);
  const training = new Training('float32');
  using step = capture(training.step);
  await training.run(step, 3);
  const random = getRandomState();
  const { tensors, values } = training.optimizer.stateDict();
  const weights = Object.entries(training.model.stateDict()).map(([, x]) => [x, keep(x.clone())] as const);
  const saved = Object.fromEntries(Object.entries(tensors).map(([name, x]) => [name, keep(x.clone())]));
  const first = await training.run(step, 2);
  const after = await training.state();
  for (const [x, copy] of weights) copyInto(x, copy);
  training.optimizer.loadStateDict({ tensors: saved, values });
  setRandomState(random);
  training.steps = 3;
  training.ema.steps = 3;
  t.deepEqual(await training.run(step, 2), first);
  const again = await training.state();
  t.deepEqual({ ...(again as object), averages: 0 }, { ...(after as object), averages: 0 });
  training.dispose();
});

/** Runs a step often enough to be recorded and replayed. */
async function thrice(step: CapturedStep<[Tensor], Tensor> | ((x: Tensor) => Tensor)): Promise<number[]> {
  const found: number[] = [];
  for (const value of [1, 2, 3]) {
    using x = tensor([value, value], CUDA);
    using y = step(x);
    found.push(...Array.from((await y.data()) as Float32Array));
  }
  return found;
}

test.serial('an optimizer that begins anew is recorded anew', async (t) => {
  const train = async (captured: boolean): Promise<number[]> => {
    const weight = tensor([0.5, -1], CUDA).setRequiresGrad();
    const optimizer = new SGD([weight], { lr: 0.1, momentum: 0.9 });
    const fresh = optimizer.stateDict().values;
    const body = (x: Tensor): Tensor => {
      (x as FloatTensor).mul(weight).pow(2).sum().backward();
      optimizer.step();
      optimizer.zeroGrad();
      return weight;
    };
    const step = captured ? capture(body) : (x: Tensor) => scope(() => body(x).clone());
    const found = await thrice(step);
    optimizer.loadStateDict({ tensors: {}, values: fresh });
    found.push(...(await thrice(step)));
    optimizer.dispose();
    return found;
  };
  t.deepEqual(await train(true), await train(false));
});

test.serial('other shapes run as they are, and replace the graph when they come twice in a row', (t) => {
  let runs = 0;
  using step = capture((x: Tensor) => {
    runs += 1;
    return (x as FloatTensor).mul(2);
  });
  const counts = [2, 2, 2, 3, 2, 3, 2, 3, 3, 3, 2].map((size) => {
    using x = zeros([size], CUDA);
    using y = step(x);
    t.deepEqual(y.shape, [size]);
    return runs;
  });
  //               2  2  2  3  2  3  2  3  3  3  2
  t.deepEqual(counts, [1, 2, 2, 3, 3, 4, 4, 5, 6, 6, 7]);
});

test.serial('what cannot be captured is an error that names it, and nothing has run', async (t) => {
  const weight = keep(tensor([1, 2], CUDA)).setRequiresGrad();
  const optimizer = new SGD([weight], { lr: 0.1, momentum: 0.9 });
  const fresh = new SGD([keep(tensor([1], CUDA)).setRequiresGrad()], { lr: 1, momentum: 0.9 });
  const scaler = new GradScaler();
  const update = (x: Tensor): FloatTensor => {
    const loss: FloatTensor = (x as FloatTensor).mul(weight).sum();
    loss.backward();
    optimizer.step();
    return loss;
  };
  scope(() => update(zeros([2], CUDA)));
  optimizer.zeroGrad();
  const kept: Tensor[] = [];
  const ignore = (f: () => unknown): void => {
    try {
      f();
    } catch {
      // the capture is an error nevertheless
    }
  };
  const cases: [what: string, step: (x: Tensor) => CaptureResult, message: RegExp][] = [
    [
      'reading',
      (x) => ((x as FloatTensor).sum().itemSync(), x),
      /^data: expected no values to be read in a captured step; return/,
    ],
    ['reading unnoticed', (x) => (ignore(() => x.dataSync()), x), /^data: expected no values to be read/],
    ['reading later', (x) => (x.data().catch(() => 0), x), /^data: expected no values to be read/],
    ['moving', (x) => x.to('cpu'), /^data: expected no values to be read in a captured step/],
    [
      'uploading',
      (x) => (x as FloatTensor).add(tensor([1, 2], CUDA)),
      /^tensor: expected no values from the host/,
    ],
    [
      'the CPU',
      (x) => (ignore(() => zeros([2]).neg()), x),
      /^capture: expected tensors of cuda:0 alone in a captured/,
    ],
    [
      'waiting',
      (x) => (void synchronize('cuda').catch(() => 0), x),
      /^synchronize: expected no waiting for the dev/,
    ],
    [
      'giving back',
      (x) => (releaseCachedMemory('cuda'), x),
      /^releaseCachedMemory: expected no waiting for the/,
    ],
    [
      'seeding',
      (x) => (manualSeed(1), x),
      /^manualSeed: expected random numbers that go on in a captured step/,
    ],
    [
      'gradients',
      (x) => update(x),
      /^capture: expected a step that leaves no tensors but what it returns, got 1 more/,
    ],
    [
      'keeping',
      (x) => (kept.push(keep((x as FloatTensor).add(1))), x),
      /^capture: expected a step that leaves no ten/,
    ],
    [
      'a scaler',
      (x) => (scaler.scale(update(x)), scaler.unscale(optimizer), x),
      /^GradScaler: expected no gradient s/,
    ],
    [
      'a first update',
      (x) => {
        fresh.groups[0].params[0]
          .mul((x as FloatTensor).sum())
          .sum()
          .backward();
        fresh.step();
        fresh.zeroGrad();
        return x;
      },
      /^SGD: expected each parameter's first update before a captured step, got one without a state$/,
    ],
    [
      'a promise',
      (x) => Promise.resolve(x) as never,
      /^capture: expected a step that returns tensors, got a promise$/,
    ],
  ];
  const random = getRandomState();
  const before = await digestsOf({ weight, ...optimizer.stateDict().tensors });
  const { steps } = optimizer.stateDict().values;
  for (const [what, body, message] of cases) {
    let recording = false;
    const step = capture((x: Tensor) => (recording ? body(x) : x));
    using x = tensor([3, 4], CUDA);
    step(x);
    recording = true;
    const count = memoryStats('cuda').blocks;
    t.throws(() => step(x), { message }, what);
    t.is(memoryStats('cuda').blocks, count, what);
    t.deepEqual(getRandomState(), random, what);
    t.is(weight.grad, undefined, what);
  }
  t.deepEqual(await digestsOf({ weight, ...optimizer.stateDict().tensors }), before);
  t.deepEqual(optimizer.stateDict().values.steps, steps);
  t.throws(() => (kept[0] as FloatTensor).neg(), { code: 'DISPOSED' });
  // From gradients of before, and with arguments that want some.
  using x = tensor([3, 4], CUDA);
  const leaving = capture((y: Tensor) => {
    optimizer.zeroGrad();
    return update(y);
  });
  leaving(x);
  t.throws(() => leaving(x), {
    message: /^zeroGrad: expected no gradient from before a captured step; call zeroGrad/,
  });
  t.truthy(weight.grad);
  optimizer.zeroGrad();
  t.throws(() => leaving(weight), {
    code: 'AUTOGRAD',
    message: /^capture: expected arguments that require no grad/,
  });
  t.deepEqual(await thrice(capture((y: Tensor) => (y as FloatTensor).add(1))), [2, 2, 3, 3, 4, 4]);
});

const reservedAfterRelease = (): number => {
  releaseCachedMemory('cuda');
  return memoryStats('cuda').reserved;
};

test.serial('what a replay writes in place is changed for a backward pass of another graph', (t) => {
  using w = tensor([1, 2], { requiresGrad: true, ...CUDA });
  using source = tensor([3, 4], CUDA);
  using step = capture((x: FloatTensor) => {
    copyInto(w, x);
    return x.sum();
  });
  const square = (): FloatTensor => w.mul(w).sum();
  for (let i = 0; i < 3; i++) {
    const before = square();
    step(source).dispose();
    t.throws(() => before.backward(), {
      code: 'AUTOGRAD',
      message: /^mul: expected tensors as forward saved them/,
    });
    square().backward();
  }
  w.grad?.dispose();
});

test.serial('a graph keeps what it works on, and gives its memory back', async (t) => {
  await synchronize('cuda');
  await collectGarbage(() => memoryStats('cuda').current);
  releaseCachedMemory('cuda');
  const before = memoryStats('cuda');
  {
    const factor = keep(tensor([3, 3], CUDA));
    using step = capture((x: Tensor) => {
      const big = zeros([2 ** 22], CUDA);
      return (x as FloatTensor).mul(factor).add(big.sum());
    });
    t.deepEqual(await thrice(step), [3, 3, 6, 6, 9, 9]);
    const reserved = memoryStats('cuda').reserved;
    releaseCachedMemory('cuda');
    t.true(memoryStats('cuda').reserved >= 2 ** 24, `${reserved}`);
    factor.dispose();
    const others = Array.from({ length: 8 }, () => tensor([7, 7], CUDA));
    t.deepEqual(await thrice(step), [3, 3, 6, 6, 9, 9]);
    for (const other of others) {
      t.deepEqual(await other.data(), Float32Array.of(7, 7));
      other.dispose();
    }
  }
  releaseCachedMemory('cuda');
  const after = memoryStats('cuda');
  t.is(after.current, before.current);
  t.true(after.reserved <= before.reserved);
});

test.serial('the garbage collector frees a graph that nobody holds', async (t) => {
  await synchronize('cuda');
  const before = await collectGarbage(reservedAfterRelease);
  t.deepEqual(
    await thrice(capture((x) => (x as FloatTensor).add(zeros([2 ** 22], CUDA).sum()))),
    [1, 1, 2, 2, 3, 3],
  );
  t.true(reservedAfterRelease() >= before + 2 ** 24);
  t.true((await collectGarbage(reservedAfterRelease)) <= before);
});

test.serial('on the CPU a captured step runs as it is', async (t) => {
  let runs = 0;
  using step = capture((x: FloatTensor) => {
    runs += 1;
    return [x.add(1), dropout(x, 0.5)];
  });
  using x = tensor([1, 2]);
  for (let i = 0; i < 3; i++) {
    const [y, z] = step(x);
    t.deepEqual(await y.data(), Float32Array.of(2, 3));
    y.dispose();
    z.dispose();
  }
  t.is(runs, 3);
});

test.serial('the Trainer runs its steps as a graph, to the same bits', async (t) => {
  const run = async (options: Partial<TrainerOptions>): Promise<unknown[]> => {
    const model = tinyModel({ dropRate: 0.3, dropPathRate: 0.2 }).to('cuda');
    const teacher = new Teacher(tinyModel({}, 2).to('cuda'));
    const distillation = { type: 'soft', teacher } as const;
    const trainer = new Trainer(model, {
      epochs: 2,
      lr: 1e-2,
      warmupEpochs: 1,
      clipGrad: 1,
      modelEmaDecay: 0.9,
      modelEmaWarmup: true,
      distillation,
      ...options,
    });
    const losses: number[] = [];
    // The last of three batches is smaller, and evaluation changes the weights for a while.
    await trainer.run(tinyBatches(5, 2), {
      classes: 3,
      val: tinyBatches(2, 2),
      onStep: ({ loss }) => void losses.push(loss),
    });
    const { tensors, values } = trainer.state();
    const state = [await digestsOf(tensors), { ...values, progress: trainer.progress.step }];
    trainer.dispose();
    model.dispose();
    await teacher.close();
    return [losses, ...state];
  };
  const graph = await run({ precision: 'bf16' });
  t.deepEqual(await run({ precision: 'bf16', noGraph: true }), graph);
  const tuned = { layerDecay: 0.5, freezeLayers: 1, bceLoss: true, smoothing: 0.1 } as const;
  t.deepEqual(await run({ ...tuned, noGraph: true }), await run(tuned));
  // Without a graph: a scaler, and gradients of several batches.
  await t.notThrowsAsync(run({ precision: 'fp16', epochs: 1 }));
  await t.notThrowsAsync(run({ gradAccumSteps: 2, epochs: 1 }));
});
