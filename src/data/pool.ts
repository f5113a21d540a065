/**
 * The loader's worker threads.
 */
import { Worker } from 'node:worker_threads';

import { TensorError } from '../tensor/error.js';
import type { Failure } from './assemble.js';
import type { Answer, Job, Task, WorkerStart } from './worker.js';

/** Threads, and what was asked of them. */
export class WorkerPool {
  private readonly threads: Worker[];
  private readonly waiting = new Map<
    number,
    { readonly resolve: (failures: Failure[]) => void; readonly reject: (error: Error) => void }
  >();
  private nextId = 0;
  private failure: Error | undefined;

  constructor(count: number, start: WorkerStart) {
    this.threads = Array.from({ length: count }, () => {
      const thread = new Worker(new URL('./worker.js', import.meta.url), { workerData: start });
      thread.unref();
      thread.on('message', (answer: Answer) => this.settle(answer));
      thread.on('error', (error: Error) =>
        this.fail(`expected its worker threads to live, got ${error.message}`),
      );
      thread.on('exit', (code) => this.fail(`expected its worker threads to live, got exit code ${code}`));
      return thread;
    });
  }

  run(thread: number, task: Task): Promise<Failure[]> {
    if (this.failure !== undefined) return Promise.reject(this.failure);
    const id = this.nextId++;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.threads[thread].postMessage({ id, ...task } satisfies Job);
    });
  }

  private settle(answer: Answer): void {
    const job = this.waiting.get(answer.id);
    this.waiting.delete(answer.id);
    if ('error' in answer) job?.reject(new TensorError(answer.error, answer.op, answer.code));
    else job?.resolve([...answer.failures]);
  }

  private fail(reason: string): void {
    this.failure ??= new TensorError(`DataLoader: ${reason}`, 'DataLoader', 'IO');
    for (const { reject } of this.waiting.values()) reject(this.failure);
    this.waiting.clear();
  }

  /** Keeps the process alive while batches are awaited. */
  hold(): void {
    for (const thread of this.threads) thread.ref();
  }

  letGo(): void {
    for (const thread of this.threads) thread.unref();
  }

  async close(): Promise<void> {
    this.fail('expected to stay open until its epoch ends, got closed');
    await Promise.all(this.threads.map((thread) => thread.terminate()));
  }
}
