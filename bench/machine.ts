/**
 * What a results file says about where it was made: nothing that names the machine or its paths.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { arch, availableParallelism, cpus, totalmem, type } from 'node:os';
import { fileURLToPath } from 'node:url';

import { cudaInfo } from '../src/index.js';
import type { BenchDevice } from './tasks.js';

export interface Machine {
  readonly cpu: string;
  /** Cores that this process may use. */
  readonly cores: number;
  readonly memoryBytes: number;
  readonly os: string;
  /** Its name and its driver's version, where it computed. */
  readonly gpu?: string;
}

/** The GPU and its driver, as NVIDIA's tool names them. */
function describeGpu(): string {
  const query = ['--query-gpu=name,driver_version', '--format=csv,noheader', '--id=0'];
  try {
    return execFileSync('nvidia-smi', query, { encoding: 'utf8' }).trim();
  } catch {
    return cudaInfo().devices[0]?.name ?? 'unknown';
  }
}

export function describeMachine(device: BenchDevice = 'cpu'): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    os: `${type()} ${arch()}`,
    ...(device === 'cuda' ? { gpu: describeGpu() } : {}),
  };
}

const root = fileURLToPath(new URL('../../', import.meta.url)); // from dist/bench/

export function tenonVersion(): string {
  return (JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as { version: string }).version;
}

/**
 * The commit, with a "+" where the library's sources differ from it; undefined for a package without history. A bundle for
 * GPU machines says it in TENON_COMMIT.
 */
export function commit(): string | undefined {
  const git = (...args: string[]): string =>
    execFileSync('git', ['-C', root, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  try {
    const changed = git('status', '--porcelain', '--', 'native', 'src') !== '';
    return git('rev-parse', '--short', 'HEAD').trim() + (changed ? '+' : '');
  } catch {
    return process.env['TENON_COMMIT'];
  }
}
