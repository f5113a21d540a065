/**
 * The output folder: a file for each finished run, and the teachers' weights. What is there is not run again.
 */
import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import type { ModelChoice, Recipe, Run } from './plan.js';

/** Everything that a run's result follows from, besides the code. */
export interface RunSettings {
  readonly model: ModelChoice;
  /** Where there is one. */
  readonly teacher?: ModelChoice | undefined;
  readonly recipe: Recipe;
  readonly data: { readonly trainImages: number; readonly testImages: number; readonly classes: number };
}

/** A finished run. */
export interface RunResult extends Run {
  readonly settings: RunSettings;
  /** Different training images, and how often each was seen. */
  readonly images: number;
  readonly epochs: number;
  /** Shares of the test images, and of those of the last epoch as they were augmented. */
  readonly testAccuracy: number;
  readonly trainAccuracy: number;
  readonly seconds: number;
}

export class OutputFolder {
  constructor(readonly path: string) {}

  /** @throws RangeError when it cannot be made */
  async create(): Promise<void> {
    try {
      await mkdir(join(this.path, 'runs'), { recursive: true });
    } catch (error) {
      const { message } = error as Error;
      throw new RangeError(`experiment: expected a folder at ${this.path}, got ${message}`, { cause: error });
    }
  }

  /** The weights of a subset's teacher. */
  teacherFile({ share, seed }: Run): string {
    return join(this.path, 'runs', `${nameOf({ kind: 'cnn', share, seed })}.safetensors`);
  }

  private resultFile(run: Run): string {
    return join(this.path, 'runs', `${nameOf(run)}.json`);
  }

  /**
   * The result of a run that is finished; undefined for others.
   * @throws RangeError when it was made with other settings
   */
  async read(run: Run, settings: RunSettings): Promise<RunResult | undefined> {
    const file = this.resultFile(run);
    if (!existsSync(file)) return undefined;
    const result = JSON.parse(await readFile(file, 'utf8')) as RunResult;
    if (JSON.stringify(result.settings) === JSON.stringify(settings)) return result;
    throw new RangeError(
      `experiment: expected ${file} to be of the same data, models and recipe, got another's; name another folder with --out`,
    );
  }

  async write(result: RunResult): Promise<void> {
    await this.writeFile(this.resultFile(result), json(result));
  }

  /** Writes a file beside the runs, by its name. */
  async writeReport(name: string, text: string): Promise<void> {
    await this.writeFile(join(this.path, name), text);
  }

  /** In one step, so that an interrupted experiment leaves no half of a file. */
  private async writeFile(file: string, text: string): Promise<void> {
    await writeFile(`${file}.tmp`, text);
    await rename(`${file}.tmp`, file);
  }
}

/** JSON as it lies in files. */
export const json = (value: unknown): string => `${JSON.stringify(value, null, 1)}\n`;

const nameOf = ({ kind, share, seed }: Run): string => `${share}-${kind}-${seed}`;
