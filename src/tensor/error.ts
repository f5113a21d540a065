import type { Tensor } from './tensor.js';

/** What an error is about; stable, for programs to test. */
export type ErrorCode =
  | 'SHAPE'
  | 'DTYPE'
  | 'DEVICE'
  | 'VALUE'
  | 'INDEX'
  | 'DISPOSED'
  | 'MEMORY'
  | 'KERNEL'
  | 'AUTOGRAD'
  | 'IO'
  | 'BUSY';

/**
 * The error of every op: one sentence with the op, what was expected and what came.
 *
 * @example
 * try { matmul(a, b) } catch (e) { if (e instanceof TensorError && e.code === 'SHAPE') … }
 */
export class TensorError extends Error {
  override readonly name = 'TensorError';
  /** The op that complained, by its TypeScript name. */
  readonly op: string;
  readonly code: ErrorCode;

  constructor(message: string, op: string, code: ErrorCode) {
    super(message);
    this.op = op;
    this.code = code;
  }
}

/**
 * @internal Waits for a device. Its errors come from a thread of its own and know nobody: they get the stack of whoever
 * waits.
 */
export async function awaited<T>(promise: Promise<T>): Promise<T> {
  try {
    return await promise;
  } catch (error) {
    if (error instanceof Error) Error.captureStackTrace(error, awaited);
    throw error;
  }
}

/** Throws a TensorError whose message starts with the op's name. */
export function fail(op: string, code: ErrorCode, message: string): never {
  throw new TensorError(`${op}: ${message}`, op, code);
}

/** @internal Makes an op of another one, whose errors then name the op that was called. */
export function named<T>(op: string, inner: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    if (!(error instanceof TensorError) || error.op !== inner) throw error;
    return fail(op, error.code, error.message.slice(inner.length + 2));
  }
}

/** @internal A value that came, in a message: 1.5, 'text', undefined, an array, a Promise, Tensor float32 [2] cpu. */
export function shown(value: unknown): string {
  if (typeof value === 'string') return `'${value}'`;
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value === 'function') return 'a function';
  if (Array.isArray(value)) return 'an array';
  if (typeof value !== 'object' || value === null) return String(value);
  const kind = (value as { constructor?: { name: string } }).constructor?.name ?? 'Object';
  if (kind === 'Tensor') return (value as Tensor).toString();
  return kind === 'Object' ? 'an object' : `${/^[AEIO]/.test(kind) ? 'an' : 'a'} ${kind}`;
}
