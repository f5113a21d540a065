import { native } from '../native.js';
import { expectTensors } from '../tensor/arguments.js';
import { type AutocastDType, autocast, autocastDType } from '../tensor/autocast.js';
import { ownOp } from '../tensor/define-op.js';
import { type RandomState, getRandomState, setRandomState } from '../tensor/random.js';
import { fail } from '../tensor/error.js';
import { scope } from '../tensor/scope.js';
import {
  backward,
  changedSince,
  detach,
  enableGrad,
  isGradEnabled,
  leavesOf,
  setRequiresGrad,
} from '../tensor/tape.js';
import { isFloating, type FloatDType } from '../tensor/dtype.js';
import { type Tensor, setEdge, share } from '../tensor/tensor.js';

type Float = Tensor<FloatDType>;

/** What the second run starts from. */
interface State {
  readonly random: RandomState;
  readonly dtype: AutocastDType;
  /** When it was: see Storage::written(). */
  readonly clock: number;
}

/**
 * Runs `fn(...inputs)` without keeping what its ops would save, and runs it again during backward: memory for time.
 * The second run draws the same random numbers. Leaves that `fn` uses (parameters) collect their gradients as usual
 * by `backward()`, also where no input requires a gradient; `grad()` sees only the inputs.
 *
 * `fn` must compute the same again: its modules stay in their modes until then. Batch norms in it move their running statistics
 * twice. A backward pass throws a TensorError AUTOGRAD where inputs or parameters have been changed in place in between.
 *
 * Source: Chen et al., "Training deep nets with sublinear memory cost", 2016.
 *
 * @example
 * for (const block of blocks) x = checkpoint((t) => block.call(t), x);
 */
export function checkpoint<Inputs extends readonly Tensor[], Result extends Tensor>(
  fn: (...inputs: Inputs) => Result,
  ...inputs: Inputs
): Result {
  expectTensors('checkpoint', ...inputs);
  return scope(() => {
    const start: State = { random: getRandomState(), dtype: autocastDType(), clock: native.writeClock() };
    // Where no input requires a gradient, only a recorded run tells whether leaves inside `fn` do. A leaf of its own then
    // has the op recorded, and what that run has saved is freed here.
    const first = isGradEnabled() && !inputs.some((x) => x.requiresGrad) ? fn(...inputs) : undefined;
    const leaf = first?.requiresGrad === true ? setRequiresGrad(detach(first as Float)) : undefined;
    const op = ownOp({
      name: 'checkpoint',
      autocast: 'keep',
      forward(ctx, _leaf: Float | undefined, ...args: Tensor[]): Result {
        ctx.save(...args);
        return first ?? fn(...(args as unknown as Inputs));
      },
      backward: ({ saved, needsGrad }, dy) =>
        dy === undefined ? [] : [undefined, ...again(fn, saved, needsGrad.slice(1), start, dy)],
    });
    const result = op(leaf, ...inputs);
    if (!isFloating((result as Tensor).dtype)) setEdge(result, undefined); // whole numbers have no gradient
    return result;
  });
}

/** The second run must have had the parameters of the first. */
function expectUnchanged(output: Tensor, since: number): void {
  const changed = changedSince(leavesOf(output), since);
  if (changed === undefined) return;
  fail(
    'checkpoint',
    'AUTOGRAD',
    `expected parameters as they were in forward, got ${changed.toString()} changed in place since; ` +
      'call backward before copyInto() or optimizer.step()',
  );
}

/** Runs `fn` a second time, recorded, and goes back through it: the gradients of its inputs. */
function again<Inputs extends readonly Tensor[]>(
  fn: (...inputs: Inputs) => Tensor,
  inputs: readonly Tensor[],
  needsGrad: readonly boolean[],
  { random, dtype, clock }: State,
  dy: Tensor,
): (Tensor | undefined)[] {
  const now = getRandomState();
  setRandomState(random);
  try {
    return enableGrad(() => {
      const leaves = inputs.map((input, i) => {
        const leaf = detach(input);
        return needsGrad[i] && isFloating(leaf.dtype) ? setRequiresGrad(leaf as unknown as Float) : leaf;
      });
      const output = autocast(dtype, () => fn(...(leaves as unknown as Inputs)));
      if (!output.requiresGrad) return []; // it does not depend on them
      expectUnchanged(output, clock);
      backward(output, { gradient: dy });
      return leaves.map((leaf) => {
        if (leaf.grad === undefined) return undefined;
        const gradient = share(leaf.grad); // belongs to the scope of this backward, unlike a leaf's own
        leaf.grad.dispose();
        return gradient;
      });
    });
  } finally {
    setRandomState(now);
  }
}
