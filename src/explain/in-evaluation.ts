import type { AnyModule } from '../nn/index.js';

/** Runs `fn` with a model in evaluation; afterwards each of its modules is in the mode that it was in. */
export function inEvaluation<T>(model: AnyModule, fn: () => T): T {
  const modes = model.namedModules().map(([, module]) => [module, module.training] as const);
  try {
    model.eval();
    return fn();
  } finally {
    for (const [module, training] of modes) module.training = training;
  }
}
