import { existsSync } from 'node:fs';
import { join } from 'node:path';

import { RunFolder, type TrainConfig } from '../train/index.js';

/** How the run that `--checkpoint` names split its data; nothing when it names a model. */
export async function splitOf(path: string): Promise<Partial<Pick<TrainConfig, 'valFraction' | 'seed'>>> {
  if (!existsSync(join(path, 'checkpoints'))) return {};
  const { valFraction, seed } = (await RunFolder.open(path).readConfig()).config;
  return { valFraction, seed };
}
