/**
 * A pool's tasks as its threads see them. The addon is not loaded for it.
 */
import type { MessagePort } from 'node:worker_threads';

import { type ErrorCode, TensorError } from '../tensor/error.js';

/** A task on its way, and its answer. */
export interface Job<Task> {
  readonly id: number;
  readonly task: Task;
}
export type Answer<Result> =
  | { readonly id: number; readonly result: Result }
  | { readonly id: number; readonly error: string; readonly op: string; readonly code: ErrorCode };

/** Whose threads they are: the op and the code of errors that are not a task's own. */
export interface PoolOwner {
  readonly op: string;
  readonly code: ErrorCode;
}

/** In a thread of a pool: answers its tasks, one at a time or several that wait for something. */
export function answerTasks<Task, Result>(
  port: MessagePort | null,
  owner: PoolOwner,
  answer: (task: Task) => Result | Promise<Result>,
): void {
  if (port === null) throw new Error(`${owner.op}: expected to run as a thread of its pool`);
  const answered = async ({ id, task }: Job<Task>): Promise<Answer<Result>> => {
    try {
      return { id, result: await answer(task) };
    } catch (error) {
      const { op, code } = error instanceof TensorError ? error : owner;
      return { id, error: (error as Error).message, op, code };
    }
  };
  port.on('message', (job: Job<Task>) => {
    void answered(job).then((message) => port.postMessage(message));
  });
}
