/**
 * What Tenon runs on.
 */
import { readFileSync } from 'node:fs';

import { type CpuInfo, native } from '../native.js';

export type { CpuInfo } from '../native.js';

/** Cores, threads, instruction set and library of the CPU backend. */
export function cpuInfo(): CpuInfo {
  return native.cpuInfo();
}

/** Versions of Tenon, Node and the libraries that compute. */
export function versions(): Record<string, string> {
  const path = new URL('../../../package.json', import.meta.url); // from dist/src/tensor/
  const { version } = JSON.parse(readFileSync(path, 'utf8')) as { version: string };
  return { tenon: version, node: process.versions.node, oneDNN: native.cpuInfo().oneDNN };
}
