import { arch, cpus, platform, release, totalmem } from 'node:os';

import { Command } from 'commander';

import {
  type CudaDetails,
  cpuInfo,
  cudaDetails,
  cudaInfo,
  devices,
  memoryStats,
  versions,
} from '../tensor/index.js';
import { formatBytes } from './format.js';

function describeTuning({ file, choices, reason }: CudaDetails['tuning']): string {
  return file === '' ? `off: ${reason}` : `${file}, ${choices} ${choices === 1 ? 'choice' : 'choices'} kept`;
}

/** `tenon info` */
export function infoCommand(): Command {
  return new Command('info')
    .description('devices, threads, instruction set, versions, and which backends loaded')
    .option('--json', 'print JSON')
    .action((options: { json?: boolean }) => {
      const cpu = cpuInfo();
      const cuda = cudaInfo();
      const info = {
        versions: versions(),
        system: `${platform()} ${release()} ${arch()}`,
        cpu: {
          model: cpus()[0]?.model ?? 'unknown',
          cores: cpu.cores,
          threads: cpu.threads,
          instructionSet: cpu.instructionSet,
          bfloat16: cpu.bfloat16,
        },
        memory: { systemBytes: totalmem(), tensors: memoryStats() },
        devices: devices(),
        gpus: cuda.devices,
        ...cudaDetails(),
        backends: {
          cpu: 'loaded',
          cuda: cuda.devices.length > 0 ? 'loaded' : `not loaded: ${cuda.reason}`,
        },
      };
      if (options.json === true) {
        console.log(JSON.stringify(info, null, 2));
        return;
      }
      const lines: [string, string][] = [
        ['tenon', info.versions['tenon']],
        ['node', info.versions['node']],
        ['oneDNN', info.versions['oneDNN']],
        ['system', info.system],
        [
          'cpu',
          `${info.cpu.model}, ${cpu.threads} ${cpu.threads === 1 ? 'thread' : 'threads'}, ` +
            `${cpu.instructionSet}, bfloat16 as ${cpu.bfloat16}`,
        ],
        ['memory', formatBytes(info.memory.systemBytes)],
        ['devices', info.devices.join(', ')],
        ...info.gpus.map(({ name, bytes, capability }, i): [string, string] => [
          `cuda:${i}`,
          `${name}, ${formatBytes(bytes)}, compute capability ${capability}`,
        ]),
        ...(info.libraries ?? []).map(({ name, version, file, reason }): [string, string] => [
          name,
          file === '' ? `not found: ${reason}` : `${version}, ${file}`,
        ]),
        ...(info.tuning === undefined ? [] : [['tuning', describeTuning(info.tuning)] as [string, string]]),
        ...Object.entries(info.backends).map(([name, state]): [string, string] => [`${name} backend`, state]),
      ];
      for (const [name, value] of lines) console.log(`${name.padEnd(14)}${value}`);
    });
}
