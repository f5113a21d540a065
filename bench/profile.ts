/**
 * Where Tenon's time goes: each native op run to its end before the next begins.
 */
import { native } from '../src/native.js';
import type { Prepared, ProfileRow } from './system.js';

const STEPS = 3;

/**
 * Times every native op of a few runs. Waiting after each costs some microseconds an op, so the sum is a little more
 * than the time of a run; what no op accounts for is JavaScript.
 */
export function profileNative({ run }: Prepared, device: number): ProfileRow[] {
  run();
  run();
  const totals = new Map<string, { calls: number; milliseconds: number }>();
  const ops = native as unknown as Record<string, (...args: unknown[]) => unknown>;
  const originals = new Map(native.schema.map(({ name }) => [name, ops[name]]));
  for (const [name, original] of originals) {
    ops[name] = (...args) => {
      const started = performance.now();
      const result = original(...args);
      native.synchronizeSync(device);
      const total = totals.get(name) ?? { calls: 0, milliseconds: 0 };
      total.calls += 1;
      total.milliseconds += performance.now() - started;
      totals.set(name, total);
      return result;
    };
  }
  const started = performance.now();
  for (let step = 0; step < STEPS; step++) run();
  const whole = performance.now() - started;
  for (const [name, original] of originals) ops[name] = original;

  const inOps = [...totals.values()].reduce((sum, { milliseconds }) => sum + milliseconds, 0);
  totals.set('(JavaScript)', { calls: STEPS, milliseconds: whole - inOps });
  return [...totals]
    .map(([op, { calls, milliseconds }]) => ({
      op,
      calls: calls / STEPS,
      milliseconds: milliseconds / STEPS,
    }))
    .sort((a, b) => b.milliseconds - a.milliseconds);
}
