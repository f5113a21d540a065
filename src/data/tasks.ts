/**
 * A pool's tasks as its threads see them.
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
  | { readonly id: number; readonly error: string; readonly op: string; readonly code: ErrorCode }
  | { readonly id: number; readonly thrown: Record<'name' | 'message' | 'stack', string | undefined> };

/** Whose threads they are: the op and the code of errors that are not a task's own. */
export interface PoolOwner {
  readonly op: string;
  readonly code: ErrorCode;
}

/**
 * In a thread of a pool: answers its tasks, one at a time or several that wait for something.
 *
 * @param owner of errors that are not Tenon's; without one they are thrown as they are
 */
export function answerTasks<Task, Result>(
  port: MessagePort | null,
  owner: PoolOwner | undefined,
  answer: (task: Task) => Result | Promise<Result>,
): void {
  if (port === null) throw new Error('expected to run as a thread of a pool');
  const answered = async ({ id, task }: Job<Task>): Promise<Answer<Result>> => {
    try {
      return { id, result: await answer(task) };
    } catch (error) {
      const { op, code } = error instanceof TensorError ? error : (owner ?? {});
      const { name, message, stack } = error instanceof Error ? error : new Error(String(error));
      if (op === undefined || code === undefined) return { id, thrown: { name, message, stack } };
      return { id, error: message, op, code };
    }
  };
  port.on('message', (job: Job<Task>) => {
    void answered(job).then((message) => port.postMessage(message));
  });
}
