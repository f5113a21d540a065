/**
 * One training of the experiment: the same subset, order and augmentation for every model of a share and a seed.
 */
import {
  DataLoader,
  type DatasetSpec,
  type Device,
  type Distillation,
  type EpochMetrics,
  IMAGENET_MEAN,
  IMAGENET_STD,
  type InputSpec,
  Trainer,
  type Transform,
  createModel,
  findData,
  inputTransform,
  manualSeed,
  openDataset,
  openTeacher,
  saveModel,
  subsetData,
} from '../../../src/index.js';
import type { OutputFolder, RunResult, RunSettings } from './folder.js';
import { type Run, type Scale, epochsOf, isTaught } from './plan.js';
import { stratifiedSubset } from './subset.js';

const SIZE = [32, 32] as const;
const INPUT: InputSpec = {
  size: SIZE,
  mean: IMAGENET_MEAN,
  std: IMAGENET_STD,
  interpolation: 'bicubic',
  cropPct: 1,
};
const EVALUATION = inputTransform(INPUT);
const TRAINING: Transform = {
  ...EVALUATION,
  steps: [
    { kind: 'resize', size: SIZE },
    { kind: 'randomCrop', size: SIZE, padding: 4 },
    { kind: 'horizontalFlip', p: 0.5 },
  ],
};
/** Images of a batch in evaluation. */
const EVALUATION_BATCH = 250;

/** DeiT's settings. */
const DISTILLATION = {
  'deit-soft': { type: 'soft', alpha: 0.1, tau: 3 },
  'deit-hard': { type: 'hard', alpha: 0.5 },
} as const;

/** The images of all runs. */
export interface ExperimentData {
  readonly train: DatasetSpec;
  /** Of each training image. */
  readonly labels: readonly number[];
  readonly classes: readonly string[];
  readonly test: DataLoader;
}

/** @throws TensorError IO for images that cannot be used */
export async function openData(path: string): Promise<ExperimentData> {
  const { train, val } = await findData(path);
  const whole = await openDataset(train);
  const labels = Array.from({ length: whole.length }, (_, i) => whole.label(i));
  await whole.close();
  const test = new DataLoader(await openDataset(val), { batchSize: EVALUATION_BATCH, transform: EVALUATION });
  return { train, labels, classes: whole.classes, test };
}

/** What a run's result follows from. */
export function settingsOf({ kind }: Run, { models, recipe }: Scale, data: ExperimentData): RunSettings {
  return {
    model: models[kind],
    ...(isTaught(kind) && { teacher: models.cnn }),
    recipe,
    data: {
      trainImages: data.labels.length,
      testImages: data.test.dataset.length,
      classes: data.classes.length,
    },
  };
}

/** Where and with what a run is done. */
export interface RunContext {
  readonly scale: Scale;
  readonly data: ExperimentData;
  readonly folder: OutputFolder;
  readonly device: Device;
}

/** Trains a model and evaluates it once, at the end. A taught one needs the weights of its subset's CNN in the folder. */
export async function trainRun(run: Run, { scale, data, folder, device }: RunContext): Promise<RunResult> {
  const { kind, share, seed } = run;
  const { recipe } = scale;
  const started = performance.now();
  const subset = await openDataset(subsetData(data.train, stratifiedSubset(data.labels, share, seed)));
  const loader = new DataLoader(subset, {
    batchSize: recipe.batchSize,
    transform: TRAINING,
    shuffle: true,
    seed,
    dropLast: true,
  });
  const epochs = epochsOf(recipe, subset.length);
  const distillation = isTaught(kind)
    ? await distillationOf(kind, folder.teacherFile(run), data.classes, device)
    : undefined;
  manualSeed(seed); // of the first weights
  const { name } = scale.models[kind];
  const options = { ...scale.models[kind].options, numClasses: data.classes.length };
  const model = createModel(name, options).to(device);
  const { weightDecay, clipGrad, precision } = recipe;
  const trainer = new Trainer(model, {
    weightDecay,
    clipGrad,
    precision,
    lr: kind === 'cnn' ? recipe.lr.cnn : recipe.lr.transformer,
    epochs,
    warmupEpochs: recipe.warmup * epochs,
    seed,
    distillation,
  });
  try {
    let last: EpochMetrics | undefined;
    await trainer.run(loader, { classes: data.classes.length, onEpoch: (metrics) => void (last = metrics) });
    const { accuracy } = await trainer.evaluate(data.test, { classes: data.classes.length });
    if (kind === 'cnn') {
      await saveModel(folder.teacherFile(run), trainer.weights, {
        name,
        options,
        classes: data.classes,
        input: INPUT,
      });
    }
    return {
      ...run,
      settings: settingsOf(run, scale, data),
      images: subset.length,
      epochs,
      testAccuracy: accuracy,
      trainAccuracy: last?.trainAccuracy ?? NaN,
      seconds: (performance.now() - started) / 1000,
    };
  } finally {
    await loader.close();
    await subset.close();
    await distillation?.teacher.close();
    trainer.dispose();
    model.dispose();
  }
}

async function distillationOf(
  kind: keyof typeof DISTILLATION,
  weights: string,
  classes: readonly string[],
  device: Device,
): Promise<Distillation> {
  const { teacher } = await openTeacher(weights, { classes, input: INPUT, device, precision: 'float32' });
  return { ...DISTILLATION[kind], teacher };
}
