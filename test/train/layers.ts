import test from 'ava';

import {
  type FloatTensor,
  Linear,
  type Model,
  Module,
  Teacher,
  type Tensor,
  TensorError,
  Trainer,
  type TrainerOptions,
  createModel,
  inferenceMode,
  manualSeed,
  readTrainingState,
  saveTrainingState,
  tensor,
} from '../../src/index.js';
import { digestsOf, temporaryFolder, tinyBatches, tinyImages, tinyModel } from '../helpers/training.js';

// One after the other: every trainer of a process draws from the same random numbers.

const DROPPING = { dropPathRate: 0.5, projDropRate: 0.5, posDropRate: 0.5, patchDropRate: 0.5 };
const RATES: TrainerOptions = { epochs: 2, lr: 1e-2, clipGrad: 1, seed: 3 };

/** The names of the tensors that a run has changed. */
async function changed(
  model: Model,
  options: TrainerOptions,
  look: (trainer: Trainer) => void | Promise<void> = () => undefined,
): Promise<string[]> {
  const before = await digestsOf(model.stateDict());
  const trainer = new Trainer(model, options);
  await trainer.run(tinyBatches(12, 4), { classes: 3, val: tinyBatches(6, 3) });
  await look(trainer);
  const after = await digestsOf(model.stateDict());
  trainer.dispose();
  return Object.keys(after).filter((name) => after[name] !== before[name]);
}

const isFirst = (name: string): boolean => /^(cls_token|pos_embed|patch_embed|blocks\.[01]\.)/.test(name);

test.serial('frozen layers keep their bits and have no gradient, no state and no backward', async (t) => {
  const model = tinyModel({ depth: 3 });
  const wants: boolean[] = [];
  const heard = [...model.blocks].map((block) =>
    block.registerForwardHook((_, y) => {
      if (model.training) wants.push(y.requiresGrad);
      return undefined;
    }),
  );
  const moved = await changed(model, { ...RATES, freezeLayers: 3 }, (trainer) => {
    t.true(model.namedParameters().every(([name, p]) => p.requiresGrad !== isFirst(name)));
    const trained = model.namedParameters().filter(([name]) => !isFirst(name));
    const { tensors, values } = trainer.optimizer.stateDict();
    t.is(values.steps.length, trained.length);
    t.is(Object.keys(tensors).length, 2 * trained.length);
    t.true(model.parameters().every(({ grad }) => grad === undefined));
  });
  for (const remove of heard) remove();
  t.deepEqual(
    moved,
    Object.keys(model.stateDict()).filter((name) => !isFirst(name)),
  );
  // What the first blocks give wants no gradient, so that none is computed.
  t.deepEqual(
    wants,
    Array.from({ length: 18 }, (_, i) => i % 3 === 2),
  );
});

test.serial('all but the head: a linear probe of what the model gives in evaluation', async (t) => {
  const model = tinyModel({ depth: 2, ...DROPPING });
  const images = tensor(tinyImages(4).images, { shape: [4, 3, 8, 8] });
  const labels = [...tinyImages(4).labels];
  const rows = (await inferenceMode(() => model.eval().call(images)).toArray()) as number[][];
  const losses = rows.map((row, i) => Math.log(row.reduce((s, x) => s + Math.exp(x), 0)) - row[labels[i]]);
  const expected = losses.reduce((a, b) => a + b, 0) / 4;

  const trainer = new Trainer(model, { epochs: 2, lr: 0.1, freezeLayers: 'all' });
  const before = await digestsOf(model.stateDict());
  const seen: number[] = [];
  await trainer.run(tinyBatches(4, 4), {
    classes: 3,
    val: tinyBatches(6, 3),
    onStep: ({ loss }) => {
      seen.push(loss);
      t.false(model.norm!.training || model.blocks.at(-1)!.dropPath2.training);
      t.true(model.head!.training && model.headDrop.training && model.training);
    },
    onEpoch: () => void model.train(), // as a hook of one's own might
  });
  t.true(Math.abs(seen[0] - expected) < 1e-5, `${seen[0]} for ${expected}`);
  t.true(seen[1] < seen[0]);
  const after = await digestsOf(model.stateDict());
  const moved = Object.keys(after).filter((name) => after[name] !== before[name]);
  t.deepEqual(moved, ['head.weight', 'head.bias']);
  trainer.dispose();
});

test.serial('dropout of layers that train is at work', async (t) => {
  const firstLoss = async (freezeLayers: number, seed: number): Promise<number> => {
    const model = tinyModel({ depth: 2, projDropRate: 0.5 });
    const trainer = new Trainer(model, { epochs: 1, freezeLayers, seed });
    let first = 0;
    await trainer.run(tinyBatches(4, 4), { classes: 3, onStep: ({ loss }) => void (first = loss) });
    return first;
  };
  t.not(await firstLoss(2, 1), await firstLoss(2, 2));
  t.is(await firstLoss(3, 1), await firstLoss(3, 2));
});

test.serial('batch norms of frozen layers keep their running statistics', async (t) => {
  manualSeed(1);
  const model = createModel('resnet18', {
    stem: '3x3',
    stemWidth: 4,
    layers: [1, 1],
    channels: [4, 8],
    numClasses: 3,
  });
  const moved = await changed(model, { ...RATES, modelEmaDecay: 0.5, freezeLayers: 2 }, async (trainer) => {
    const [own, averages] = [await digestsOf(model.stateDict()), await digestsOf(trainer.weights)];
    for (const name of Object.keys(own)) {
      if (!/^layer2|^fc/.test(name)) t.is(averages[name], own[name], name);
    }
  });
  t.true(moved.includes('layer2.0.bn1.running_mean') && moved.includes('layer2.0.bn1.num_batches_tracked'));
  t.deepEqual(
    moved.filter((name) => !/^layer2|^fc/.test(name)),
    [],
  );
});

test.serial("a DeiT's probe trains both heads, in bfloat16 too", async (t) => {
  const model = createModel('deit_tiny_distilled_patch16_224', {
    imgSize: 8,
    patchSize: 4,
    embedDim: 16,
    depth: 1,
    numHeads: 2,
    numClasses: 3,
  });
  const teacher = new Teacher(tinyModel());
  const distillation = { type: 'hard', teacher } as const;
  t.deepEqual(await changed(model, { ...RATES, precision: 'bf16', freezeLayers: 'all', distillation }), [
    'head.weight',
    'head.bias',
    'head_dist.weight',
    'head_dist.bias',
  ]);
});

test.serial('a stopped run with frozen layers continues bit for bit', async (t) => {
  const path = `${await temporaryFolder(t)}/last.safetensors`;
  const options: TrainerOptions = { ...RATES, freezeLayers: 1, layerDecay: 0.5, modelEmaDecay: 0.9 };
  const model = (seed?: number): Model => tinyModel({ depth: 2, dropPathRate: 0.3 }, seed);
  const source = tinyBatches(12, 4);
  const whole = new Trainer(model(), options);
  t.true(await whole.run(source, { classes: 3, val: source }));
  const stop = new AbortController();
  const first = new Trainer(model(), options);
  let steps = 0;
  await first.run(source, {
    classes: 3,
    val: source,
    signal: stop.signal,
    onStep: () => {
      if (++steps === 4) stop.abort();
    },
    onSave: () => saveTrainingState(path, first.state()),
  });
  const second = new Trainer(model(9), options);
  second.loadState(await readTrainingState(path));
  t.true(await second.run(source, { classes: 3, val: source }));
  t.deepEqual(await digestsOf(second.state().tensors), await digestsOf(whole.state().tensors));
  // Other layers have another state.
  const other = new Trainer(model(), { ...options, freezeLayers: 2 });
  const state = await readTrainingState(path);
  t.regex(t.throws(() => other.loadState(state)).message, /^AdamW: expected the state of \d+ parameters/);
});

test.serial('a trainer that is disposed of leaves a model that trains whole', (t) => {
  const model = tinyModel();
  model.patchEmbed.freeze();
  const wanted = (): string[] => model.namedParameters().flatMap(([name, p]) => (p.requiresGrad ? name : []));
  const all = wanted();
  const trainer = new Trainer(model, { epochs: 1, freezeLayers: 'all' });
  t.deepEqual(wanted(), ['head.weight', 'head.bias']);
  trainer.dispose();
  t.deepEqual(wanted(), all);
  t.false(model.patchEmbed.proj.weight.requiresGrad); // as it was
  t.throws(() => new Trainer(model, { epochs: 1, lr: -1, freezeLayers: 'all' }), {
    message: /learning rate/,
  });
  t.deepEqual(wanted(), all);
});

test.serial('a trainer with nothing left to train says so', (t) => {
  const message = (model: Module<[images: FloatTensor], FloatTensor>, freezeLayers?: 'all'): string =>
    t.throws(() => new Trainer(model, { epochs: 1, ...(freezeLayers && { freezeLayers }) }), {
      instanceOf: TensorError,
      code: 'VALUE',
    }).message;
  const headless = tinyModel({ numClasses: 0 });
  const expected = 'Trainer: expected at least one parameter to train, got';
  t.is(message(headless, 'all'), `${expected} none beside those of freezeLayers 'all'`);
  t.true(headless.parameters().every(({ requiresGrad }) => requiresGrad));
  const own = new Own();
  own.freeze();
  t.is(message(own), `${expected} none: all 2 are frozen`);
  t.is(message(new Empty()), `${expected} a model without parameters`);
});

test.serial("layers of a model of one's own are arrays of names, each name in one of them", (t) => {
  const message = (layerNames: unknown, options: Partial<TrainerOptions>): string =>
    t.throws(() => new Trainer(Object.assign(new Two(), { layerNames }) as Two, { epochs: 1, ...options }), {
      instanceOf: TensorError,
      code: 'VALUE',
    }).message;
  for (const [layerNames, expected] of [
    ['embed', "layerNames to be an array of arrays of names, got 'embed'"],
    [[], 'at least one layer in layerNames, got none'],
    [['embed', 'head'], "an array of names for layer 0 of layerNames, got 'embed'"],
    [[['embed'], [1]], 'an array of names for layer 1 of layerNames, got 1 in it'],
    [[['embed'], ['embed', 'head']], 'each name in one of layerNames, got embed in layers 0 and 1'],
    [[['embed'], ['embed.bias', 'head']], 'each name in one of layerNames, got embed.bias in layers 0 and 1'],
    [[['embde'], ['head']], 'parameters in each of layerNames, got none in layer 0: embde'],
    [[[], ['head']], 'parameters in each of layerNames, got none in layer 0, which has no names'],
  ] as const) {
    for (const options of [{ freezeLayers: 1 }, { freezeLayers: 'all' }, { layerDecay: 0.5 }] as const)
      t.is(message(layerNames, options), `Trainer: expected ${expected}`);
  }
  const two = Object.assign(new Two(), { layerNames: [['embed.bias'], ['embed'], ['head']] });
  const trainer = new Trainer(two, { epochs: 1, freezeLayers: 1 }); // the more exact name is the first
  t.deepEqual(
    two.namedParameters().flatMap(([name, p]) => (p.requiresGrad ? [] : name)),
    ['embed.bias'],
  );
  trainer.dispose();
});

class Own extends Module<[images: FloatTensor], FloatTensor> {
  readonly head = new Linear(192, 3);
  override forward(x: Tensor<'float32'>): FloatTensor {
    return this.head.call(x.reshape([-1, 192]));
  }
}

class Two extends Module<[images: FloatTensor], FloatTensor> {
  readonly embed = new Linear(192, 4);
  readonly head = new Linear(4, 3);
  override forward(x: Tensor<'float32'>): FloatTensor {
    return this.head.call(this.embed.call(x.reshape([-1, 192])));
  }
}

class Empty extends Module<[images: FloatTensor], FloatTensor> {
  override forward(x: FloatTensor): FloatTensor {
    return x;
  }
}

test('layers that a model does not have are errors', (t) => {
  const message = (freezeLayers: unknown, model: ConstructorParameters<typeof Trainer>[0] = tinyModel()) =>
    t.throws(() => new Trainer(model, { epochs: 1, freezeLayers: freezeLayers as number }), {
      instanceOf: TensorError,
      code: 'VALUE',
    }).message;
  t.is(message(3), "Trainer: expected freezeLayers up to 2 of the model's 3 layers, got 3");
  for (const [value, shown] of [
    [-1, '-1'],
    [1.5, '1.5'],
    [NaN, 'NaN'],
    ['head', "'head'"],
    [true, 'true'],
  ] as const) {
    t.is(
      message(value),
      `Trainer: expected freezeLayers to be a whole number of at least 0, or 'all', got ${shown}`,
    );
  }
  t.is(
    message('all', new Own()),
    'Trainer: expected a model with layerNames for freezeLayers, got an Own without',
  );
});
