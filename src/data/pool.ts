/**
 * Threads that answer tasks.
 */
import { Worker } from 'node:worker_threads';

import { TensorError } from '../tensor/error.js';
import { cpuInfo } from '../tensor/versions.js';
import type { Answer, Job, PoolOwner } from './tasks.js';

/** Threads for decoding where nobody has said how many: one less than the cores, from 1 to 8. */
export const defaultWorkers = (): number => Math.max(1, Math.min(8, cpuInfo().cores - 1));

/** Threads, and what was asked of them. */
export class WorkerPool<Task, Result> {
  private readonly owner: PoolOwner;
  private readonly threads: Worker[];
  private readonly waiting = new Map<
    number,
    { readonly resolve: (result: Result) => void; readonly reject: (error: Error) => void }
  >();
  private nextId = 0;
  private failure: Error | undefined;

  constructor(owner: PoolOwner, script: URL, count: number, workerData: unknown) {
    this.owner = owner;
    this.threads = Array.from({ length: count }, () => {
      const thread = new Worker(script, { workerData });
      thread.unref();
      thread.on('message', (answer: Answer<Result>) => this.settle(answer));
      thread.on('error', (error: Error) =>
        this.fail(`expected its worker threads to live, got ${error.message}`),
      );
      thread.on('exit', (code) => this.fail(`expected its worker threads to live, got exit code ${code}`));
      return thread;
    });
  }

  /** @param transfer memory that the thread takes over; see `Worker.postMessage` */
  run(thread: number, task: Task, transfer: readonly ArrayBuffer[] = []): Promise<Result> {
    if (this.failure !== undefined) return Promise.reject(this.failure);
    const id = this.nextId++;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.threads[thread].postMessage({ id, task } satisfies Job<Task>, [...transfer]);
    });
  }

  private settle(answer: Answer<Result>): void {
    const job = this.waiting.get(answer.id);
    this.waiting.delete(answer.id);
    if ('error' in answer) job?.reject(new TensorError(answer.error, answer.op, answer.code));
    else if ('thrown' in answer) job?.reject(Object.assign(new Error(), answer.thrown));
    else job?.resolve(answer.result);
  }

  private fail(reason: string): void {
    const { op, code } = this.owner;
    this.failure ??= new TensorError(`${op}: ${reason}`, op, code);
    for (const { reject } of this.waiting.values()) reject(this.failure);
    this.waiting.clear();
  }

  /** Keeps the process alive while answers are awaited. */
  hold(): void {
    for (const thread of this.threads) thread.ref();
  }

  letGo(): void {
    for (const thread of this.threads) thread.unref();
  }

  /** Ends the threads. @param reason what is said to whom still waits */
  async close(reason: string): Promise<void> {
    this.fail(reason);
    await Promise.all(this.threads.map((thread) => thread.terminate()));
  }
}
