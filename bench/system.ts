/**
 * What a measured library must offer, and the messages that its process exchanges with the harness.
 *
 * Every system runs in a process of its own, so that peak memory is its own and a crash ends nothing else. Messages are
 * lines of JSON: requests on standard input, replies on file descriptor 3, because libraries print on standard output.
 */
import type { Round } from './measure.js';
import type { BenchDevice, Task, TensorTask } from './tasks.js';

/** A task made ready: `run` returns, or resolves, when the result has been computed. */
export interface Prepared {
  readonly run: () => unknown;
  /** How much of the task one run does: a share, where a system is too slow for the whole; or several in a row. */
  readonly portion?: number;
  readonly dispose?: () => void | Promise<void>;
}

/** Why a system does not take a task. */
export interface Unsupported {
  readonly unsupported: string;
}

/** One row of a profile: an op with its time per step. */
export interface ProfileRow {
  readonly op: string;
  readonly calls: number;
  readonly milliseconds: number;
}

export interface System {
  /** Library versions, by the name of the library. */
  readonly versions: Readonly<Record<string, string>>;
  /** Threads that it computes with. */
  readonly threads: number;
  readonly prepare: (task: Task) => Prepared | Unsupported | Promise<Prepared | Unsupported>;
  /** The time of each op in one run of the task. */
  readonly profile?: (task: TensorTask) => ProfileRow[];
  /** The most memory that it has taken, where that is not the process's. */
  readonly peakBytes?: () => number;
}

/** Loads a library with so many threads. Throws, in one sentence, where that is impossible. */
export type LoadSystem = (threads: number, device: BenchDevice) => System | Promise<System>;

export type Request =
  | { readonly do: 'load'; readonly threads: number; readonly device: BenchDevice }
  | { readonly do: 'prepare'; readonly task: Task }
  | { readonly do: 'measure'; readonly round: Round }
  | { readonly do: 'profile'; readonly task: TensorTask }
  | { readonly do: 'release' }
  | { readonly do: 'memory' };

export interface Replies {
  load: { readonly versions: Record<string, string>; readonly threads: number };
  /** `seconds`: of the whole task, from the second of two runs. */
  prepare: { readonly seconds: number; readonly portion: number } | Unsupported;
  measure: { readonly seconds: number };
  profile: { readonly rows: ProfileRow[] };
  release: Record<string, never>;
  memory: { readonly peakBytes: number };
}

export type Reply<R extends Request = Request> = Replies[R['do']] | { readonly error: string };
