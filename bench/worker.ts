/**
 * The process of one JavaScript system: `node worker.js NAME`.
 */
import { readFileSync, writeSync } from 'node:fs';
import { createInterface } from 'node:readline';

import { type Round, measure } from './measure.js';
import type { LoadSystem, Prepared, Replies, Request, System } from './system.js';
import type { BenchDevice, Task, TensorTask } from './tasks.js';

/** Each system's module is imported only in its own process. */
const LOADERS: Readonly<Record<string, () => Promise<LoadSystem>>> = {
  tenon: async () => (await import('./tenon.js')).loadTenon,
  'tfjs-cpu': async () => (await import('./rivals/tfjs.js')).loadTfjsCpu,
  'tfjs-wasm': async () => (await import('./rivals/tfjs.js')).loadTfjsWasm,
  'tfjs-node': async () => (await import('./rivals/tfjs.js')).loadTfjsNode,
  onnxruntime: async () => (await import('./rivals/onnxruntime.js')).loadOnnxruntime,
};

let system: System | undefined;
let prepared: Prepared | undefined;

async function load(name: string, threads: number, device: BenchDevice): Promise<Replies['load']> {
  const loader = LOADERS[name];
  if (loader === undefined)
    throw new Error(`expected one of ${Object.keys(LOADERS).join(', ')}, got '${name}'`);
  if (device !== 'cpu' && name !== 'tenon') throw new Error(`expected a device that it has, got ${device}`);
  system = await (await loader())(threads, device);
  return { versions: system.versions, threads: system.threads };
}

function loaded(): System {
  if (system === undefined) throw new Error('expected a loaded system, got none');
  return system;
}

async function prepare(task: Task): Promise<Replies['prepare']> {
  const result = await loaded().prepare(task);
  if ('unsupported' in result) return result;
  prepared = result;
  await prepared.run();
  const started = performance.now();
  await prepared.run();
  const seconds = (performance.now() - started) / 1000;
  const portion = result.portion ?? 1;
  return { seconds: seconds / portion, portion };
}

async function measureRound(round: Round): Promise<Replies['measure']> {
  if (prepared === undefined) throw new Error('expected a prepared task, got none');
  const { run, portion = 1 } = prepared;
  return { seconds: (await measure(run, round)) / portion };
}

async function release(): Promise<Replies['release']> {
  await prepared?.dispose?.();
  prepared = undefined;
  return {};
}

/** The most memory that was resident in this process. */
function peakBytes(): number {
  if (process.platform !== 'linux') return process.resourceUsage().maxRSS * 1024;
  // getrusage's maximum survives exec and so may be the parent's; VmHWM belongs to this program alone.
  const line = /^VmHWM:\s*(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'));
  return Number(line?.[1] ?? Number.NaN) * 1024;
}

function profile(task: TensorTask): Replies['profile'] {
  const { profile: run } = loaded();
  if (run === undefined) throw new Error('expected a system with a profiler, got one without');
  return { rows: run(task) };
}

function answer(request: Request, name: string): Promise<Replies[Request['do']]> | Replies[Request['do']] {
  switch (request.do) {
    case 'load':
      return load(name, request.threads, request.device);
    case 'prepare':
      return prepare(request.task);
    case 'measure':
      return measureRound(request.round);
    case 'profile':
      return profile(request.task);
    case 'release':
      return release();
    case 'memory':
      return { peakBytes: loaded().peakBytes?.() ?? peakBytes() };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  let reply: unknown;
  try {
    reply = await answer(JSON.parse(line) as Request, process.argv[2]);
  } catch (error) {
    reply = { error: error instanceof Error ? error.message : String(error) };
  }
  writeSync(3, `${JSON.stringify(reply)}\n`);
}
process.exit(0); // thread pools of some libraries would keep the process alive
