import type { AnyModule } from '../nn/index.js';
import { evaluating } from '../nn/module.js';

/** Runs `fn` with a model in evaluation; afterwards each of its modules is in the mode that it was in. */
export function inEvaluation<T>(model: AnyModule, fn: () => T): T {
  const restore = evaluating(model);
  try {
    return fn();
  } finally {
    restore();
  }
}
