/**
 * Scopes: memory that is freed at a place in the program rather than when the garbage collector gets to it.
 */
import { fileURLToPath } from 'node:url';

import { expectTensors } from './arguments.js';
import { type ScopeMember, swapScope, trackHandles } from './handle.js';
import { native } from '../native.js';
import { fail } from './error.js';
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
  return scoped('scope', fn);
}

/** @internal A scope that tells `fn` which tensors were made in it. */
export function scoped<T>(op: string, fn: (made: (tensor: Tensor) => boolean) => T): T {
  const mine: ScopeMember[] = [];
  const outer = swapScope(mine);
  let result: T;
  try {
    result = fn((tensor) => mine.includes(tensor));
    if (result instanceof Promise) fail(op, 'VALUE', 'expected a synchronous function, got a promise');
  } catch (error) {
    swapScope(outer);
    for (const tensor of mine) tensor.dispose();
    throw error;
  }
  swapScope(outer);
  const returned = new Set<ScopeMember>();
  visitTensors(result, (tensor) => returned.add(tensor));
  for (const tensor of mine) {
    if (tensor.kept) continue;
    if (returned.has(tensor)) outer?.push(tensor);
    else tensor.dispose();
  }
  if (outer === undefined) native.reportMemory();
  return result;
}

/** Takes a tensor out of every scope: it lives until `dispose()` or the garbage collector. Returns it. */
export function keep<T extends Tensor>(tensor: T): T {
  expectTensors('keep', tensor);
  tensor.kept = true;
  return tensor;
}

/**
 * Runs `fn` (which may be asynchronous) and throws when native tensors made in it are still alive afterwards and not
 * part of what it returns. The error lists, for each, the line that made it.
 *
 * @throws TensorError MEMORY
 * @example
 * await leakCheck(() => trainStep(model, batch));
 */
export async function leakCheck<T>(fn: () => T | Promise<T>): Promise<T> {
  const finish = trackHandles();
  let origins: ReturnType<typeof finish>;
  let result: T;
  try {
    result = await fn();
  } finally {
    origins = finish();
  }
  visitTensors(result, (tensor) => origins.delete(tensor.handle));
  if (origins.size > 0) {
    const lines = [...origins.values()].map(({ stack = '' }) => userLine(stack)).sort();
    fail(
      'leakCheck',
      'MEMORY',
      `expected no live tensors beyond those returned, got ${lines.length}, made at:\n  ${lines.join('\n  ')}`,
    );
  }
  return result;
}

/** The package's folder, from dist/src/tensor/: a stack names files by URL, or by path where source maps are on. */
const root = new URL('../../../', import.meta.url);
const roots = [root.href, fileURLToPath(root)].map((place) => place.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
/** A line of a stack in Tenon's own sources, compiled or mapped back. */
const ownLine = new RegExp(`(${roots.join('|')})(dist/)?src/`);

/** The first line of a stack outside Tenon's sources. */
function userLine(stack: string): string {
  const lines = stack.split('\n').slice(1);
  const line = lines.find((candidate) => !ownLine.test(candidate)) ?? lines.at(-1) ?? 'unknown';
  return line.trim().replace(/^at /, '');
}
