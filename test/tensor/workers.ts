/**
 * Worker threads: each has its own Tenon, and leaving one at any moment harms no other.
 */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';

import test from 'ava';

import { getRandomState, manualSeed, memoryStats, ones } from '../../src/index.js';
import { collectTensors } from '../helpers/garbage.js';
import type { WorkerAnswer, WorkerTask } from '../helpers/tenon-worker.js';

const script = new URL('../helpers/tenon-worker.js', import.meta.url);
const start = (task: WorkerTask): Worker => new Worker(script, { workerData: task });

async function answer(task: WorkerTask): Promise<WorkerAnswer> {
  const worker = start(task);
  const [[message], [code]] = (await Promise.all([once(worker, 'message'), once(worker, 'exit')])) as [
    [WorkerAnswer],
    [number],
  ];
  if (code !== 0) throw new Error(`expected exit code 0, got ${code}`);
  return message;
}

test.serial('four workers at once train with a state of their own, and beside the main thread', async (t) => {
  manualSeed(99);
  const x = ones([3]);
  const tensors = await collectTensors();
  const answers = await Promise.all([1, 2, 1, 3].map((seed) => answer({ seed, does: 'train' })));
  const [first, second, again, third] = answers;
  t.deepEqual(again, first, 'the same seed gives the same numbers on every thread');
  t.notDeepEqual(second.losses, first.losses);
  t.notDeepEqual(third.losses, first.losses);
  for (const { losses, tensorsAtStart } of answers) {
    t.is(losses.length, 20);
    t.true(losses.every((loss) => loss > 0.5 && loss < 5));
    t.is(tensorsAtStart, 0);
  }
  t.deepEqual(getRandomState(), { seed: 99, offset: 0 });
  t.is(memoryStats().tensors, tensors);
  t.deepEqual([...(await x.data())], [1, 1, 1]);
});

/** Bytes of memory that the process holds. */
const residentBytes = (): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) * 1024;

test.serial('a worker that exits with work queued, or awaiting a value, frees what it held', async (t) => {
  const run = async (): Promise<void> => {
    for (const does of ['queue', 'pending'] as const) {
      const [code] = (await once(start({ seed: 1, does }), 'exit')) as [number];
      t.is(code, 7);
    }
  };
  await run();
  if (process.platform !== 'linux') return;
  const before = residentBytes();
  for (let i = 0; i < 2; i++) await run();
  // Each left 200 matrices of 256 KiB behind: 50 MiB, four times.
  t.true(residentBytes() - before < 100 * 2 ** 20, `${before} -> ${residentBytes()} bytes`);
  t.deepEqual([...(await ones([2]).data())], [1, 1]);
});

test.serial('a worker is terminated in the middle of its training', async (t) => {
  const worker = start({ seed: 1, does: 'train' });
  await once(worker, 'online');
  await worker.terminate();
  t.deepEqual([...(await ones([2]).data())], [1, 1]);
});

const run = promisify(execFile);
const index = new URL('../../src/index.js', import.meta.url).href;
const program = (body: string): Promise<{ stdout: string; stderr: string }> =>
  run(process.execPath, ['--input-type=module', '-e', `import * as tenon from '${index}';\n${body}`]);
const QUEUE = 'let x = tenon.ones([256, 256]); for (let i = 0; i < 200; i++) x = tenon.matmul(x, x);';

test.serial(
  'a program ends by itself, with work queued, at process.exit and with a value awaited',
  async (t) => {
    t.deepEqual(await program(QUEUE), { stdout: '', stderr: '' });
    t.deepEqual(await program(`${QUEUE} x.data(); process.exit(0);`), { stdout: '', stderr: '' });
    const { stdout } = await program(`${QUEUE} console.log((await x.data()).length);`);
    t.is(stdout, '65536\n');
    const error = await t.throwsAsync(program(`${QUEUE} throw new RangeError('broken');`));
    t.regex(error.message, /RangeError: broken/);
  },
);
