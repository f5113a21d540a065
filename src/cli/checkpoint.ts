import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';

import { fail } from '../tensor/error.js';
import { RunFolder, type TrainConfig } from '../train/index.js';

/** The model's file that `--checkpoint` names: the file itself, or the best one of a run's folder. */
export function modelFile(path: string): string {
  if (!existsSync(path))
    fail(
      '--checkpoint',
      'IO',
      `expected a run's folder or a model's file, got ${path}, which does not exist`,
    );
  if (!statSync(path).isDirectory()) return path;
  const best = join(path, 'checkpoints', 'best.safetensors');
  return existsSync(best)
    ? best
    : fail('--checkpoint', 'IO', `expected a finished epoch in the run ${path}, got none`);
}

/** How the run that `--checkpoint` names split its data; nothing when it names a file. */
export async function splitOf(path: string): Promise<Partial<Pick<TrainConfig, 'valFraction' | 'seed'>>> {
  if (!statSync(path).isDirectory()) return {};
  const { valFraction, seed } = (await RunFolder.open(path).readConfig()).config;
  return { valFraction, seed };
}
