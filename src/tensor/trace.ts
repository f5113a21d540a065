/**
 * Seeing which ops run. `makeOp` in define-op.ts is the one place where each does, and asks here: while nobody traces, that is one
 * look at a variable.
 */

/** @internal Sees an op: its name, its arguments as they were given, and `run`, which computes the result. */
export type OpTracer = <Result>(name: string, args: readonly unknown[], run: () => Result) => Result;

let tracer: OpTracer | undefined;

/** @internal Who sees the ops now. */
export function currentTracer(): OpTracer | undefined {
  return tracer;
}

/**
 * @internal Runs `fn`, and shows every op in it to a tracer (or, without one, to nobody). An op that runs inside another one is seen
 * too, within its `run`.
 */
export function traceOps<T>(by: OpTracer | undefined, fn: () => T): T {
  const before = tracer;
  tracer = by;
  try {
    return fn();
  } finally {
    tracer = before;
  }
}
