/**
 * The folder of a run: config.json, metrics.jsonl, summary.json, report.html, samples/ and checkpoints/.
 */
import { appendFile, mkdir, readFile, readdir, rm } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { isAbsolute, join, relative, resolve } from 'node:path';

import type { SkippedImage } from '../data/index.js';
import { writeFileAtomic } from '../io/index.js';
import { fail } from '../tensor/error.js';
import type { Precision } from '../inference/index.js';
import { type TrainConfig, parseSettings } from './config.js';
import type { EvalMetric } from './eval-metric.js';
import type { EpochMetrics } from './progress.js';

/** What `summary.json` holds. */
export interface Summary {
  readonly name: string;
  readonly model: string;
  readonly parameters: number;
  /** How many of them train: fewer with `freezeLayers`. */
  readonly trainedParameters: number;
  readonly precision: Precision;
  readonly classes: number;
  readonly trainImages: number;
  readonly valImages: number;
  /** Epochs done. */
  readonly epochs: number;
  /** Epochs of the settings: more than were done where the run was stopped, or its `patience` ended it. */
  readonly plannedEpochs: number;
  /** What the best epoch is best in. */
  readonly evalMetric: EvalMetric;
  /** The best epoch's accuracy on the validation images, in [0, 1], and that epoch, from 1. */
  readonly valAccuracy: number | null;
  readonly bestEpoch: number | null;
  /** The same epoch's balanced accuracy, the mean of the classes' accuracies, and loss. */
  readonly valBalancedAccuracy: number | null;
  readonly valLoss: number | null;
  readonly valTop5: number | null;
  readonly trainLoss: number;
  /** Of training, with waiting for data and without evaluation. */
  readonly imagesPerSecond: number;
  readonly dataWaitShare: number;
  /** Of training, with evaluation. */
  readonly seconds: number;
  /** The most memory that the process has held. */
  readonly peakMemoryBytes: number;
  /** The most that tensors have held. */
  readonly peakTensorBytes: number;
  /** Damaged images that were left out. */
  readonly skippedImages: readonly SkippedImage[];
  readonly versions: Readonly<Record<string, string>>;
}

/** What of a run is fixed once it has begun, to notice on resuming that the data has changed. */
export interface StoredConfig {
  readonly config: TrainConfig;
  readonly classes: readonly string[];
  readonly trainImages: number;
  readonly valImages: number;
  /** A digest of the images; runs of earlier versions have none. */
  readonly images?: string;
  /** The folder that relative paths of the settings are from; runs of earlier versions do not say it. */
  readonly cwd?: string;
  /** A digest of the teacher's weights. */
  readonly teacher?: string;
}

/** @throws TensorError IO for a line that something else has written */
function parseMetrics(line: string, where: string): EpochMetrics {
  try {
    const metrics = JSON.parse(line) as Partial<EpochMetrics> | null;
    if (typeof metrics?.epoch === 'number') return metrics as EpochMetrics;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  return fail('resume', 'IO', `expected the metrics of an epoch in ${where}, got '${line.slice(0, 40)}'`);
}

/** The settings with the paths that they have for this process: what the run began with, wherever this one was started. */
export function configFromHere({ config, cwd = '.' }: StoredConfig, data?: string): TrainConfig {
  const found = (path: string): string => {
    const there = isAbsolute(path) ? path : relative('.', resolve(cwd, path)) || '.';
    return existsSync(there) ? there : path; // a project may have moved with its data and its runs
  };
  const { pretrained, teacher, teacherCache } = config;
  return {
    ...config,
    data: data ?? found(config.data),
    pretrained: pretrained && found(pretrained),
    teacher: teacher && found(teacher),
    teacherCache: teacherCache && found(teacherCache),
  };
}

export class RunFolder {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  /** Makes a new folder: `output/name`, or `output/name-2` and so on where that exists. */
  static async create(output: string, name: string): Promise<RunFolder> {
    for (let i = 1; ; i++) {
      const path = join(output, i === 1 ? name : `${name}-${i}`);
      try {
        await mkdir(output, { recursive: true });
        await mkdir(path);
        await mkdir(join(path, 'checkpoints'));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'EEXIST' && existsSync(path)) continue;
        fail('train', 'IO', `expected to make the folder ${path}, got ${(error as Error).message}`);
      }
      return new RunFolder(path);
    }
  }

  /** Opens the folder of an earlier run. @throws TensorError IO */
  static open(path: string): RunFolder {
    if (!existsSync(join(path, 'config.json'))) {
      fail('resume', 'IO', `expected the folder of a run, with a config.json, got ${path}`);
    }
    return new RunFolder(path);
  }

  get last(): string {
    return join(this.path, 'checkpoints', 'last.safetensors');
  }

  /** Whether the run has come so far as to save its state. */
  get hasCheckpoint(): boolean {
    return existsSync(this.last);
  }

  get best(): string {
    return join(this.path, 'checkpoints', 'best.safetensors');
  }

  get report(): string {
    return join(this.path, 'report.html');
  }

  get samples(): string {
    return join(this.path, 'samples');
  }

  async writeConfig(stored: StoredConfig): Promise<void> {
    await writeFileAtomic(join(this.path, 'config.json'), `${JSON.stringify(stored, null, 2)}\n`);
  }

  async readConfig(): Promise<StoredConfig> {
    const path = join(this.path, 'config.json');
    let stored: Partial<StoredConfig>;
    try {
      stored = JSON.parse(await readFile(path, 'utf8')) as Partial<StoredConfig>;
    } catch (error) {
      return fail('resume', 'IO', `expected JSON in ${path}, got ${(error as Error).message}`);
    }
    const { config, classes } = stored;
    if (typeof config?.data !== 'string' || !Array.isArray(classes)) {
      return fail(
        'resume',
        'IO',
        `expected a run's config and classes in ${path}, got a file that lacks them`,
      );
    }
    const { data, ...settings } = config;
    parseSettings(settings, path);
    return { ...(stored as StoredConfig), config: { ...config, data } };
  }

  async appendMetrics(metrics: EpochMetrics): Promise<void> {
    const path = join(this.path, 'metrics.jsonl');
    try {
      await appendFile(path, `${JSON.stringify(metrics)}\n`);
    } catch (error) {
      fail('train', 'IO', `expected to write ${path}, got ${(error as Error).message}`);
    }
  }

  /** Removes temporary files that a kill left behind. Under the run's lock: those of a living process are no leftovers. */
  async removeLeftovers(): Promise<void> {
    for (const folder of [this.path, join(this.path, 'checkpoints')]) {
      const names = existsSync(folder) ? await readdir(folder) : [];
      for (const name of names.filter((name) => /^\..*\.tmp$/.test(name))) await rm(join(folder, name));
    }
  }

  /** The metrics of every finished epoch. A last line that a kill cut off does not count. */
  async readMetrics(): Promise<EpochMetrics[]> {
    const path = join(this.path, 'metrics.jsonl');
    if (!existsSync(path)) return [];
    return (await readFile(path, 'utf8'))
      .split('\n')
      .slice(0, -1)
      .map((line, i) => parseMetrics(line, `line ${i + 1} of ${path}`));
  }

  /** Drops the metrics of epochs from `epoch` on: a resumed run writes them anew. */
  async keepMetricsBefore(epoch: number): Promise<void> {
    const kept = (await this.readMetrics()).filter((metrics) => metrics.epoch < epoch);
    const text = kept.map((metrics) => `${JSON.stringify(metrics)}\n`).join('');
    await writeFileAtomic(join(this.path, 'metrics.jsonl'), text);
  }

  /** What an earlier process has written; undefined where none has, or something else is there: it is written anew. */
  async readSummary(): Promise<Partial<Summary> | undefined> {
    try {
      const text = await readFile(join(this.path, 'summary.json'), 'utf8');
      return (JSON.parse(text) as Partial<Summary> | null) ?? undefined;
    } catch {
      return undefined;
    }
  }

  async writeSummary(summary: Summary): Promise<void> {
    await writeFileAtomic(join(this.path, 'summary.json'), `${JSON.stringify(summary, null, 2)}\n`);
  }

  /** Writes the images of the report's samples, `01-class.png` and so on, instead of those of an earlier report. */
  async writeSamples(
    samples: readonly { readonly png: Uint8Array; readonly truth?: string | undefined }[],
  ): Promise<void> {
    try {
      await rm(this.samples, { recursive: true, force: true });
      if (samples.length > 0) await mkdir(this.samples);
    } catch (error) {
      fail('train', 'IO', `expected to make the folder ${this.samples}, got ${(error as Error).message}`);
    }
    for (const [i, { png, truth }] of samples.entries()) {
      const number = `${i + 1}`.padStart(2, '0');
      const name = truth === undefined ? number : `${number}-${truth.replace(/[^\p{L}\p{N}]+/gu, '-')}`;
      await writeFileAtomic(join(this.samples, `${name}.png`), png);
    }
  }
}
