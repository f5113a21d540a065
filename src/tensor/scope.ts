/**
 * Scopes: memory that is freed at a place in the program rather than when the garbage collector gets to it.
 */
import { type ScopeMember, swapScope, trackHandles } from './handle.js';
import { TensorError, fail } from './error.js';
import { Tensor } from './tensor.js';

/** Calls `visit` on every tensor in a value: the value itself, or in arrays, maps, sets and plain objects. */
export function visitTensors(value: unknown, visit: (tensor: Tensor) => void): void {
  if (value instanceof Tensor) {
    visit(value as Tensor);
  } else if (Array.isArray(value) || value instanceof Set) {
    for (const item of value) visitTensors(item, visit);
  } else if (value instanceof Map) {
    for (const item of value.values()) visitTensors(item, visit);
  } else if (
    typeof value === 'object' &&
    value !== null &&
    Object.getPrototypeOf(value) === Object.prototype
  ) {
    for (const item of Object.values(value)) visitTensors(item, visit);
  }
}

/**
 * Runs `fn` and disposes of every tensor it made, except those it returns (on their own or in arrays, maps and plain
 * objects) and those passed to `keep()`. What the tape saved for backward lives on until backward consumes it.
 *
 * @throws TensorError VALUE when `fn` returns a promise: a scope ends when `fn` returns.
 * @example
 * const loss = scope(() => crossEntropy(model.call(images), labels));
 */
export function scope<T>(fn: () => T): T {
  const mine: ScopeMember[] = [];
  const outer = swapScope(mine);
  let result: T;
  try {
    result = fn();
    if (result instanceof Promise) fail('scope', 'VALUE', 'expected a synchronous function, got a promise');
  } catch (error) {
    swapScope(outer);
    for (const tensor of mine) tensor.dispose();
    throw error;
  }
  swapScope(outer);
  const kept = new Set<ScopeMember>();
  visitTensors(result, (tensor) => kept.add(tensor));
  for (const tensor of mine) {
    if (tensor.kept) continue;
    if (kept.has(tensor)) {
      outer?.push(tensor);
    } else {
      tensor.dispose();
    }
  }
  return result;
}

/** Takes a tensor out of every scope: it lives until `dispose()` or the garbage collector. Returns it. */
export function keep<T extends Tensor>(tensor: T): T {
  tensor.kept = true;
  return tensor;
}

/**
 * Runs `fn` (which may be asynchronous) and throws when native tensors made in it are still alive afterwards and not
 * part of what it returns. The error lists, for each, the line that made it.
 *
 * @throws TensorError MEMORY
 */
export async function leakCheck<T>(fn: () => T | Promise<T>): Promise<T> {
  const finish = trackHandles();
  let origins: Error[];
  let result: T;
  const returned = new Set<unknown>();
  try {
    result = await fn();
    visitTensors(result, (tensor) => returned.add(tensor));
  } finally {
    origins = finish();
  }
  const leaks = origins.length - returned.size;
  if (leaks > 0) {
    const lines = origins.map((origin) => userLine(origin)).sort();
    throw new TensorError(
      `leakCheck: expected no live tensors beyond the ${returned.size} returned, got ${leaks}, made at:\n  ${lines.join('\n  ')}`,
      'leakCheck',
      'MEMORY',
    );
  }
  return result;
}

/** The first line of a stack outside Tenon's own tensor and op files. */
function userLine(origin: Error): string {
  const lines = (origin.stack ?? '').split('\n').slice(1);
  const own = /[\\/]src[\\/](tensor|ops|native)[\\/.]/;
  return (lines.find((line) => !own.test(line)) ?? lines.at(-1) ?? 'unknown').trim().replace(/^at /, '');
}
