/**
 * The harness's end of a system's process.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';

import type { Replies, Request } from './system.js';
import type { BenchDevice } from './tasks.js';

/** A system by name, and the program that runs it. */
export interface SystemCommand {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
}

/** Tenon first: the others are compared with it. */
export const SYSTEMS = [
  'tenon',
  'pytorch',
  'pytorch-compile',
  'pytorch-timm',
  'onnxruntime',
  'tfjs-node',
  'tfjs-wasm',
  'tfjs-cpu',
] as const;

/** How `rivals/pytorch.py` is asked to build its models otherwise than in plain torch. */
const PYTORCH_OPTIONS: Readonly<Record<string, string>> = {
  'pytorch-compile': '--compile',
  'pytorch-timm': '--timm',
};

/** The systems that are measured where none are named; on a CPU, compiling takes minutes, and timm is much as plain torch. */
export const DEFAULT_SYSTEMS: Readonly<Record<BenchDevice, readonly (typeof SYSTEMS)[number][]>> = {
  cpu: SYSTEMS.filter((name) => !(name in PYTORCH_OPTIONS)),
  cuda: ['tenon', 'pytorch', 'pytorch-compile'],
};

/** Whether a system is a Python program. */
export function isPython(name: string): boolean {
  return name.startsWith('pytorch');
}

/** The program of a system. `python` runs PyTorch. */
export function systemCommand(name: string, python: string): SystemCommand {
  if (isPython(name)) {
    const script = fileURLToPath(new URL('../../bench/rivals/pytorch.py', import.meta.url)); // from dist/bench/
    const option = PYTORCH_OPTIONS[name];
    return { name, command: python, args: option === undefined ? [script] : [script, option] };
  }
  const worker = fileURLToPath(new URL('worker.js', import.meta.url));
  return { name, command: process.execPath, args: [worker, name] };
}

export class SystemProcess {
  private readonly child: ChildProcess;
  private readonly replies: AsyncIterator<string, undefined>;
  private errorOutput = '';
  private failure: string | undefined;

  constructor(
    readonly system: SystemCommand,
    threads: number,
  ) {
    const count = String(threads);
    this.child = spawn(system.command, system.args, {
      stdio: ['pipe', 'ignore', 'pipe', 'pipe'],
      env: {
        ...process.env,
        TENON_NUM_THREADS: count,
        OMP_NUM_THREADS: count,
        MKL_NUM_THREADS: count,
        TF_NUM_INTRAOP_THREADS: count,
      },
    });
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.errorOutput = (this.errorOutput + text).slice(-4000);
    });
    this.child.on('error', (error: NodeJS.ErrnoException) => {
      this.failure = error.code === 'ENOENT' ? 'its program was not found' : error.message;
    });
    this.child.stdin?.on('error', () => undefined); // a dead process is noticed by its missing reply
    const lines = createInterface({ input: this.child.stdio[3] as Readable });
    this.replies = lines[Symbol.asyncIterator]();
  }

  /** Sends a request and waits for its reply. @throws Error with the system's own message, or its last output when it died */
  async ask<R extends Request>(request: R): Promise<Replies[R['do']]> {
    this.child.stdin?.write(`${JSON.stringify(request)}\n`);
    const reply = await this.replies.next();
    if (reply.done === true) {
      const last = this.errorOutput.trim().split('\n').at(-1) ?? '';
      throw new Error(this.failure ?? `its process ended: ${last === '' ? 'no message' : last}`);
    }
    const answer = JSON.parse(reply.value) as Replies[R['do']] | { error: string };
    if ('error' in answer) throw new Error(answer.error);
    return answer;
  }

  async end(): Promise<void> {
    const { pid, exitCode, signalCode } = this.child;
    if (pid === undefined || exitCode !== null || signalCode !== null) return;
    const exit = once(this.child, 'exit');
    this.child.stdin?.end();
    await exit;
  }
}
