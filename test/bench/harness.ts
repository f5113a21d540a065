import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import test from 'ava';

import { Harness } from '../../bench/harness.js';
import { systemCommand } from '../../bench/process.js';
import type { Case } from '../../bench/tasks.js';

test('a case runs in a process of its own, and a system that is missing is named with its reason', async (t) => {
  const lines: string[] = [];
  const harness = new Harness(1, 2, 'cpu', (line) => lines.push(line));
  const item: Case = {
    suite: 'kernels',
    name: 'tiny',
    task: { kind: 'softmax', rows: 4, features: 8, backward: true },
    memory: true,
  };
  try {
    await harness.load([systemCommand('tenon', ''), systemCommand('pytorch', 'no-such-python')]);
    t.deepEqual(harness.absent, { pytorch: 'its program was not found' });
    t.deepEqual(
      harness.systems.map(({ command, about }) => [command.name, about.threads]),
      [['tenon', 1]],
    );
    const results = await harness.run(item);
    t.deepEqual(
      results.map(({ suite, case: name, system, metric, unit }) => [suite, name, system, metric, unit]),
      [
        ['limits', 'copy of 80 floats', 'tenon', 'bandwidth', 'GB/s'],
        ['kernels', 'tiny', 'tenon', 'bandwidth', 'GB/s'],
        ['kernels', 'tiny', 'tenon', 'share of limit', '%'],
        ['kernels', 'tiny', 'tenon', 'peak memory', 'MiB'],
      ],
    );
    t.true(results.every(({ value }) => value > 0 && Number.isFinite(value)));
    t.true(results[3].value > 30 && results[3].value < 500); // Node and the addon
    t.deepEqual(lines, []);
  } finally {
    await harness.end();
  }
});

test('a loader is measured by its images a second', async (t) => {
  const lines: string[] = [];
  const harness = new Harness(1, 1, 'cpu', (line) => lines.push(line));
  const item: Case = {
    suite: 'data',
    name: 'tiny',
    task: { kind: 'load', transform: 'cifar', batch: 4, batchesPerWorker: 2 },
    memory: false,
  };
  try {
    await harness.load([systemCommand('tenon', '')]);
    const [result, ...others] = await harness.run(item);
    t.deepEqual([result.metric, result.unit, others], ['throughput', 'images/s', []]);
    t.true(result.value > 10 && Number.isFinite(result.value), `${result.value} images/s`);
    await harness.profile(item);
    t.deepEqual(lines, ["data/tiny: workers make the batches, out of a profiler's sight"]);
  } finally {
    await harness.end();
  }
});

const main = fileURLToPath(new URL('../../bench/main.js', import.meta.url));

async function bench(...args: string[]): Promise<{ code: number; stderr: string }> {
  const error: unknown = await promisify(execFile)(process.execPath, [main, ...args]).catch(
    (e: unknown) => e,
  );
  return error as { code: number; stderr: string };
}

const mistakes: [args: string[], message: string][] = [
  [['resnext'], "bench: expected a part of a case's name, got 'resnext'; --list shows the names\n"],
  [
    ['--rounds', '0'],
    "error: option '--rounds <n>' argument '0' is invalid. Expected a whole number of at least 1.\n",
  ],
  [
    ['--systems', 'tenon,jax'],
    "error: option '--systems <list>' argument 'tenon,jax' is invalid. Expected some of tenon, pytorch, " +
      'pytorch-compile, pytorch-timm, onnxruntime, tfjs-node, tfjs-wasm, tfjs-cpu.\n',
  ],
];
for (const [args, message] of mistakes) {
  test(`"bench ${args.join(' ')}" is an error of one sentence`, async (t) => {
    const { code, stderr } = await bench(...args);
    t.is(stderr, message);
    t.is(code, 1);
  });
}
