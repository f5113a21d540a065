import { expectTensors } from '../tensor/arguments.js';
import { type AutocastDType, autocast, autocastDType } from '../tensor/autocast.js';
import { defineOp } from '../tensor/define-op.js';
import { type RandomState, getRandomState, setRandomState } from '../tensor/random.js';
import { backward, detach, enableGrad, setRequiresGrad } from '../tensor/tape.js';
import { isFloating, type FloatDType } from '../tensor/dtype.js';
import { type Tensor, share } from '../tensor/tensor.js';

/** What the second run starts from. */
interface State {
  readonly random: RandomState;
  readonly dtype: AutocastDType;
}

/**
 * Runs `fn(...inputs)` without keeping what its ops would save, and runs it again during backward: memory for time.
 * The second run draws the same random numbers. Leaves that `fn` uses (parameters) collect their gradients as usual
 * by `backward()`; `grad()` sees only the inputs. At least one input must require a gradient.
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
  const op = defineOp({
    name: 'checkpoint',
    autocast: 'keep',
    forward(ctx, ...args: Tensor[]): Result {
      ctx.state = { random: getRandomState(), dtype: autocastDType() } satisfies State;
      ctx.save(...args);
      return fn(...(args as unknown as Inputs));
    },
    backward({ saved, needsGrad, state }, dy) {
      if (dy === undefined) return [];
      const now = getRandomState();
      const { random, dtype } = state as State;
      setRandomState(random);
      try {
        return enableGrad(() => {
          const leaves = saved.map((input, i) => {
            const leaf = detach(input);
            return needsGrad[i] && isFloating(leaf.dtype)
              ? setRequiresGrad(leaf as unknown as Tensor<FloatDType>)
              : leaf;
          });
          const output = autocast(dtype, () => fn(...(leaves as unknown as Inputs)));
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
    },
  });
  return op(...inputs);
}
