/**
 * A whole training run from settings: data, model, trainer, checkpoints, metrics and report. What `tenon train` does.
 */
import { DataLoader } from '../data/index.js';
import {
  type ModelInfo,
  type PretrainedReport,
  type PretrainedWeights,
  applyPretrained,
  readPretrained,
  readPretrainedInfo,
  saveModel,
} from '../models/index.js';
import { modelPath } from '../models/source.js';
import { type OptionNames, expectOptions } from '../tensor/arguments.js';
import { fail } from '../tensor/error.js';
import { manualSeed, memoryStats, versions } from '../tensor/index.js';
import { inputTransform } from '../inference/index.js';
import { mixing } from './augmentation.js';
import { readTrainingState, saveTrainingState } from './checkpoint.js';
import { checkClasses, imagesOfClasses } from './classes.js';
import { type TrainConfig, type TrainSettings, expectSettings, resolveConfig } from './config.js';
import { judge } from './judge.js';
import { expectThreshold } from './label-loss.js';
import {
  type RunData,
  closeRunData,
  expectSameData,
  digestOfRunData,
  firstImage,
  nameOf,
  openRunData,
} from './run-data.js';
import { withLock } from './run-lock.js';
import { RunFolder, type Summary, configFromHere } from './run-folder.js';
import { inputOf, modelOf, trainerOptionsOf, trainingTransform } from './setup.js';
import { openTeacher } from './teacher.js';
import type { EpochMetrics, StepEvent } from './progress.js';
import { Trainer } from './trainer.js';

/** What a run is about to do. */
export interface RunStart {
  readonly folder: string;
  readonly config: TrainConfig;
  readonly parameters: number;
  /** How many of them train: fewer with `freezeLayers`. */
  readonly trained: number;
  readonly classes: readonly string[];
  readonly trainImages: number;
  readonly valImages: number;
  /** Training images of each class. */
  readonly classImages: readonly number[];
  /** What an image of each class counts; undefined where all count alike. */
  readonly classWeights?: readonly number[] | undefined;
  readonly workers: number;
  /** How the weights of a pretrained model were made to fit. */
  readonly pretrained?: PretrainedReport | undefined;
  /** Epoch to begin with, from 0; above 0 when resumed. */
  readonly epoch: number;
  /** A resumed run that has nothing left to train: its report is written again. */
  readonly complete: boolean;
}

/** Sees a run. */
export interface RunEvents {
  /** Before the first step. */
  readonly onStart?: (start: RunStart) => void;
  /** After each batch. */
  readonly onStep?: (event: StepEvent) => void;
  /** Images of the validation set done. */
  readonly onEvaluated?: (images: number) => void;
  /** After each epoch and its evaluation; `best` when it is the best so far. */
  readonly onEpoch?: (metrics: EpochMetrics, best: boolean) => void;
}

export interface TrainRunOptions extends RunEvents {
  /** Stops the run after the current step, with its state saved. */
  readonly signal?: AbortSignal | undefined;
}

export interface ResumeOptions extends TrainRunOptions {
  /** Where the data is now, if it has moved since the run began. */
  readonly data?: string | undefined;
}

const RUN_OPTIONS = {
  onStart: true,
  onStep: true,
  onEvaluated: true,
  onEpoch: true,
  signal: true,
} satisfies OptionNames<TrainRunOptions>;

const RESUME_OPTIONS = { ...RUN_OPTIONS, data: true } satisfies OptionNames<ResumeOptions>;

/** How a run ended. */
export interface RunResult {
  readonly folder: string;
  /** False when the signal stopped it; true also where its `patience` did, before the last epoch. */
  readonly finished: boolean;
  /** Absent when it was stopped before its first epoch was done. */
  readonly summary: Summary | undefined;
  readonly report: string | undefined;
  /** The folder of the report's sample images: files to try the model on. Absent as long as the run is not finished. */
  readonly samples: string | undefined;
}

/**
 * Trains a model on data, from the beginning.
 *
 * @param data 'shapes', or a path: a folder of images by class, tar shards, CIFAR or MNIST files
 * @throws TensorError IO for data or folders that cannot be used; VALUE for settings that make no sense, or a loss
 *   that is not finite
 * @example
 * const { summary } = await train('shapes', { epochs: 5 }, { onEpoch: (m) => console.log(m.valAccuracy) });
 */
export async function train(
  data: string,
  settings: TrainSettings = {},
  options: TrainRunOptions = {},
): Promise<RunResult> {
  expectOptions('train', options, RUN_OPTIONS);
  const { config, opened } = await open('train', data, settings);
  // Before the folder: settings that make no sense leave none behind.
  const run = await Run.create(config, opened, true);
  try {
    const folder = await RunFolder.create(config.output, config.name);
    return await withLock('train', folder.path, () => run.start(folder, options, false));
  } finally {
    await run.close();
  }
}

/** The data, and the settings with nothing left open. */
async function open(
  op: string,
  data: string,
  settings: TrainSettings,
): Promise<{ config: TrainConfig; opened: RunData }> {
  expectSettings(op, settings);
  const opened = await openRunData(data, {
    ...(settings.valFraction !== undefined && { valFraction: settings.valFraction }),
    ...(settings.seed !== undefined && { seed: settings.seed }),
  });
  const { trainSet } = opened;
  try {
    checkClasses(trainSet);
    const first = await firstImage(trainSet);
    const { pretrained, model } = settings;
    const info =
      pretrained === undefined
        ? undefined
        : await readPretrainedInfo(modelPath('--pretrained', pretrained), model);
    if (info !== undefined && model !== undefined && model !== info.name) {
      fail(
        'train',
        'VALUE',
        `expected no model beside --pretrained, whose model is ${info.name}, got ${model}`,
      );
    }
    const facts = { kind: opened.specs.train.kind, name: nameOf(data), ...first };
    const config = resolveConfig(data, settings, facts, info);
    return { config, opened };
  } catch (error) {
    await closeRunData(opened);
    throw error;
  }
}

/**
 * The settings that `train` would use: what was given, and what follows from the recipe, the data and the defaults.
 *
 * @throws TensorError IO for data that cannot be used
 * @example
 * const { lr, epochs } = await resolveSettings('shapes', { recipe: 'deit' });
 */
export async function resolveSettings(data: string, settings: TrainSettings = {}): Promise<TrainConfig> {
  const { config, opened } = await open('resolveSettings', data, settings);
  await closeRunData(opened);
  return config;
}

/**
 * Continues a run that was stopped or killed, from its last checkpoint (from the beginning, where it had none yet),
 * exactly as if it had never stopped.
 *
 * @throws TensorError IO when the folder holds no run, one that is being trained, or a damaged checkpoint; VALUE when the data has changed since
 * @example
 * await resume('runs/shapes');
 */
export async function resume(path: string, options: ResumeOptions = {}): Promise<RunResult> {
  expectOptions('resume', options, RESUME_OPTIONS);
  const folder = RunFolder.open(path);
  return withLock('resume', folder.path, () => goOn(folder, options));
}

async function goOn(folder: RunFolder, options: ResumeOptions): Promise<RunResult> {
  const stored = await folder.readConfig();
  const config = configFromHere(stored, options.data);
  const opened = await openRunData(config.data, { valFraction: config.valFraction, seed: config.seed });
  try {
    await expectSameData(stored, opened, config.data);
  } catch (error) {
    await closeRunData(opened);
    throw error;
  }
  const run = await Run.create(config, opened, !folder.hasCheckpoint);
  try {
    if (run.teacher?.digest !== stored.teacher)
      fail('resume', 'VALUE', `expected the teacher of the run in ${config.teacher}, got other weights`);
    return await run.start(folder, options, true);
  } finally {
    await run.close();
  }
}

/** What a run begins with, besides settings and data. */
interface Beginning {
  readonly pretrained: PretrainedWeights | undefined;
  readonly teacher: Awaited<ReturnType<typeof openTeacher>> | undefined;
}

class Run {
  readonly teacher: Beginning['teacher'];
  private readonly trainer: Trainer;
  private readonly info: ModelInfo;
  private readonly pretrained: PretrainedReport | undefined;
  private readonly trainLoader: DataLoader;
  private readonly valLoader: DataLoader;
  private readonly classImages: readonly number[];
  private secondsBefore = 0;
  /** What an earlier process has written of the run. */
  private before: Partial<Summary> = {};
  private readonly started = performance.now();

  /**
   * Prepares a run; with `begins`, from the weights of the pretrained model, where there is one. The data sets are the
   * run's from here on: they are closed with it, and when it cannot be made.
   */
  static async create(config: TrainConfig, data: RunData, begins: boolean): Promise<Run> {
    const { pretrained: path, model, distillation, teacher, teacherModel, teacherCache } = config;
    let pretrained: PretrainedWeights | undefined;
    let opened: Beginning['teacher'];
    try {
      if (distillation !== 'none' && teacher === undefined) {
        fail('train', 'VALUE', `expected a teacher for ${distillation} distillation, got none`);
      }
      expectThreshold('train', '--bce-target-thresh', config, data.trainSet.classes.length);
      if (path !== undefined && begins)
        pretrained = await readPretrained(modelPath('--pretrained', path), model);
      if (distillation !== 'none' && teacher !== undefined) {
        opened = await openTeacher(modelPath('--teacher', teacher), {
          model: teacherModel,
          cache: teacherCache,
          classes: data.trainSet.classes,
          input: inputOf(config),
          device: config.device,
          precision: config.precision,
        });
      }
      return new Run(config, data, { pretrained, teacher: opened });
    } catch (error) {
      await opened?.teacher.close();
      await closeRunData(data);
      throw error;
    } finally {
      for (const tensor of Object.values(pretrained?.tensors ?? {})) tensor.dispose();
    }
  }

  private constructor(
    private readonly config: TrainConfig,
    private readonly data: RunData,
    { pretrained, teacher }: Beginning,
  ) {
    const { trainSet, valSet } = data;
    const classes = trainSet.classes;
    this.teacher = teacher;
    this.classImages = imagesOfClasses(trainSet);
    const { batchSize, seed, workers, onCorrupt, device } = config;
    const common = { batchSize, seed, onCorrupt, ...(workers !== undefined && { workers }) };
    this.trainLoader = new DataLoader(trainSet, {
      ...common,
      transform: trainingTransform(config),
      shuffle: true,
      repeats: config.noAug ? 1 : Math.max(1, config.augRepeats),
      mix: mixing(config),
      dropLast: trainSet.length > batchSize,
    });
    this.valLoader = new DataLoader(valSet, { ...common, transform: inputTransform(inputOf(config)) });
    // The weights' first values are the seed's.
    manualSeed(seed);
    const { model, name, options } = modelOf(config, classes.length);
    this.info = { name, options, classes, input: inputOf(config) };
    try {
      this.pretrained = pretrained && applyPretrained(model, pretrained);
      model.to(device);
      this.trainer = new Trainer(model, trainerOptionsOf(config, teacher?.teacher, this.classImages));
    } catch (error) {
      model.dispose();
      throw error;
    }
  }

  private get trainedParameters(): number {
    const { groups } = this.trainer.optimizer;
    return groups.flatMap(({ params }) => params).reduce((sum, { size }) => sum + size, 0);
  }

  /** Frees all that the run holds. */
  async close(): Promise<void> {
    const { trainer } = this;
    await Promise.all([this.trainLoader.close(), this.valLoader.close()]);
    await closeRunData(this.data);
    await this.teacher?.teacher.close();
    trainer.dispose();
    trainer.model.dispose();
  }

  async start(folder: RunFolder, options: TrainRunOptions, resumed: boolean): Promise<RunResult> {
    const { config, trainer } = this;
    const save = (): Promise<void> => saveTrainingState(folder.last, trainer.state());
    if (resumed) await this.restore(folder);
    else {
      await folder.writeConfig({
        config,
        classes: this.info.classes,
        trainImages: this.data.trainSet.length,
        valImages: this.data.valSet.length,
        images: await digestOfRunData(this.data),
        cwd: process.cwd(),
        ...(this.teacher && { teacher: this.teacher.digest }),
      });
    }
    options.onStart?.({
      folder: folder.path,
      config,
      parameters: trainer.model.parameterCount,
      trained: this.trainedParameters,
      classes: this.info.classes,
      trainImages: this.data.trainSet.length,
      valImages: this.data.valSet.length,
      classImages: this.classImages,
      classWeights: trainer.options.classWeights,
      workers: this.trainLoader.workers,
      pretrained: this.pretrained,
      epoch: trainer.progress.epoch,
      complete: trainer.isComplete,
    });
    const trains = !trainer.isComplete;
    const finished = await trainer.run(this.trainLoader, {
      classes: this.info.classes.length,
      val: this.valLoader,
      signal: options.signal,
      saveEvery: config.recoveryInterval === 0 ? undefined : config.recoveryInterval,
      ...(options.onStep && { onStep: options.onStep }),
      ...(options.onEvaluated && { onEvaluated: options.onEvaluated }),
      onSave: save,
      onEpoch: async (metrics, best) => {
        await folder.appendMetrics(metrics);
        if (best) await saveModel(folder.best, trainer.weights, this.info);
        await save();
        options.onEpoch?.(metrics, best);
      },
    });
    return { folder: folder.path, finished, ...(await this.finish(folder, finished, trains)) };
  }

  private async restore(folder: RunFolder): Promise<void> {
    await folder.removeLeftovers();
    if (folder.hasCheckpoint) {
      const state = await readTrainingState(folder.last);
      try {
        this.trainer.loadState(state);
      } finally {
        for (const tensor of Object.values(state.tensors)) tensor.dispose();
      }
    }
    await folder.keepMetricsBefore(this.trainer.progress.epoch);
    this.secondsBefore = (await folder.readMetrics()).reduce((sum, { seconds }) => sum + seconds, 0);
    this.before = (await folder.readSummary()) ?? {};
  }

  /**
   * Writes the summary and the report of the epochs so far; what a finished run confuses is part of its report. A process
   * that `trains` nothing adds no time of its own.
   */
  private async finish(
    folder: RunFolder,
    finished: boolean,
    trains: boolean,
  ): Promise<Pick<RunResult, 'summary' | 'report' | 'samples'>> {
    const { config, trainer, before } = this;
    const epochs = await folder.readMetrics();
    const last = epochs.at(-1);
    if (last === undefined) return { summary: undefined, report: undefined, samples: undefined };
    const best = epochs.find(({ epoch }) => epoch === trainer.progress.bestEpoch);
    const seconds = epochs.reduce((sum, epoch) => sum + epoch.seconds, 0);
    const images = epochs.reduce((sum, epoch) => sum + epoch.seconds * epoch.imagesPerSecond, 0);
    const waited = epochs.reduce((sum, epoch) => sum + epoch.seconds * epoch.dataWaitShare, 0);
    const kept = !trains && before.epochs === epochs.length ? before : {};
    const here = trains ? (performance.now() - this.started) / 1000 : 0;
    const summary: Summary = {
      name: folder.path,
      model: config.model,
      parameters: trainer.model.parameterCount,
      trainedParameters: this.trainedParameters,
      precision: trainer.options.precision,
      classes: this.info.classes.length,
      trainImages: this.data.trainSet.length,
      valImages: this.data.valSet.length,
      epochs: epochs.length,
      plannedEpochs: config.epochs,
      evalMetric: trainer.options.evalMetric,
      valAccuracy: best?.valAccuracy ?? null,
      bestEpoch: best === undefined ? null : best.epoch + 1,
      valBalancedAccuracy: best?.valBalancedAccuracy ?? null,
      valLoss: best?.valLoss ?? null,
      valTop5: best?.valTop5 ?? null,
      trainLoss: last.trainLoss,
      imagesPerSecond: images / seconds,
      dataWaitShare: waited / seconds,
      seconds: kept.seconds ?? this.secondsBefore + here,
      peakMemoryBytes: Math.max(before.peakMemoryBytes ?? 0, process.resourceUsage().maxRSS * 1024),
      peakTensorBytes: Math.max(before.peakTensorBytes ?? 0, memoryStats(config.device).peak),
      skippedImages: kept.skippedImages ?? [
        ...this.trainLoader.stats.skipped,
        ...this.valLoader.stats.skipped,
      ],
      versions: versions(),
    };
    await folder.writeSummary(summary);
    const judged = finished
      ? await judge(folder.best, {
          images: this.data.valSet,
          batches: this.valLoader,
          precision: trainer.options.precision,
          device: config.device,
          batchSize: config.batchSize,
        })
      : { samples: [] };
    await folder.writeSamples(judged.samples);
    const { writeReport } = await import('./report.js'); // its charts take half a second to load
    await writeReport(folder.report, {
      name: folder.path,
      config: { ...config },
      classes: [...this.info.classes],
      epochs: epochs.map((epoch) => ({ ...epoch, epoch: epoch.epoch + 1 })),
      ...judged,
      summary,
      versions: summary.versions,
    });
    return {
      summary,
      report: folder.report,
      samples: judged.samples.length > 0 ? folder.samples : undefined,
    };
  }
}
