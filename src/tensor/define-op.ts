/**
 * How every differentiable op is made, Tenon's own and its users'.
 */
import { type OptionNames, expectOptions, noTensors } from './arguments.js';
import { type AutocastRule, autocastDType, cast, castArguments } from './autocast.js';
import { native } from '../native.js';
import type { DType } from './dtype.js';
import { fail, shown } from './error.js';
import { keep, scoped } from './scope.js';
import { changedSince, checkLike, isGradEnabled, nextSequence, noGrad } from './tape.js';
import { Tensor, setEdge, share, type Edge, type GraphNode } from './tensor.js';
import { type OpTracer, currentTracer } from './trace.js';

/** What an op's forward leaves for its backward. */
export interface OpContext {
  /** Keeps tensors for backward (undefined entries stay so). Does nothing when no gradient is wanted. */
  save(...tensors: (Tensor | undefined)[]): void;
  /**
   * The saved tensors, in order.
   * @throws TensorError AUTOGRAD when one has been changed in place since
   */
  readonly saved: readonly Tensor[];
  /** True in forward when the op is being recorded: some input requires a gradient. */
  readonly recording: boolean;
  /** For each argument: whether it (or, for an array, some element) requires a gradient. */
  readonly needsGrad: readonly boolean[];
  /**
   * In backward: what has come so far, along other ways, of the gradient of an argument that is a tensor. Who takes it
   * adds it to the gradient that it returns; an op whose kernel adds in passing saves a pass over memory. Undefined where
   * nothing has come, or it has another dtype.
   */
  takeGradient(argument: number, dtype: DType): Tensor | undefined;
  /**
   * In backward: the dtype that the gradient of an argument that is a tensor will be cast to, because `autocast` has cast the
   * argument; undefined where it has not. A kernel that gives it at once saves a rounding and a pass over memory.
   */
  gradientDType(argument: number): DType | undefined;
  /** Anything else that backward needs: forward puts it here. */
  state: unknown;
}

/** The gradient for one argument: a tensor, one for each element of an array, or undefined for none. */
export type Gradient = Tensor | undefined | readonly (Tensor | undefined)[];

/** An op of your own: what it computes, and its derivative. */
export interface OpDefinition<Args extends readonly unknown[], Result extends Tensor | readonly Tensor[]> {
  /** Its name in messages. */
  readonly name: string;
  /**
   * What `autocast` does to the floating-point inputs: one rule, or one for each argument. Default: where they have several
   * dtypes, they are brought to the widest. Forward, what it saves and backward see the tensors after that.
   */
  readonly autocast?: AutocastRule | readonly AutocastRule[];
  /**
   * Computes the result. Ops called in it are not recorded, and what it makes and neither saves nor returns is freed.
   */
  forward(ctx: OpContext, ...args: Args): Result;
  /**
   * The gradients of forward's arguments, in their order, from those of its results (undefined for a result that
   * nothing depended on). Each is like its argument. Undefined stands for none, as does an empty array for all; arguments
   * that are not tensors, and those with `needsGrad` false, may be left out at the end. `backward` itself is left out where
   * no result has a gradient: the op is then never recorded.
   */
  backward?(ctx: OpContext, ...gradients: (Tensor | undefined)[]): readonly Gradient[] | Gradient;
}

const DEFINITION = {
  name: true,
  autocast: true,
  forward: true,
  backward: true,
} satisfies OptionNames<OpDefinition<readonly unknown[], Tensor>>;

/**
 * Makes a differentiable op of a forward and a backward function. Arguments of `forward` that are tensors, or arrays
 * of tensors, are its inputs.
 *
 * @throws TensorError VALUE for an option that is none. A backward pass throws one that names the op where what `backward`
 *   returns does not fit: AUTOGRAD for too few or too many gradients, VALUE for what is no tensor, SHAPE or DTYPE for a
 *   gradient that is not like its argument.
 * @example
 * const square = defineOp({
 *   name: 'square',
 *   forward: (ctx, x: Tensor<'float32'>) => { ctx.save(x); return mul(x, x) },
 *   backward: ({ saved: [x] }, dy) => [mul(mul(x as Tensor<'float32'>, 2), dy as Tensor<'float32'>)],
 * });
 */
export function defineOp<Args extends readonly unknown[], Result extends Tensor | readonly Tensor[]>(
  definition: OpDefinition<Args, Result>,
): (...args: Args) => Result {
  expectOptions('defineOp', definition, DEFINITION);
  return makeOp(definition, true);
}

/**
 * @internal One of Tenon's own ops, whose gradients the tests check: looking at the shape of each would cost a step a native
 * call.
 */
export function ownOp<Args extends readonly unknown[], Result extends Tensor | readonly Tensor[]>(
  definition: OpDefinition<Args, Result>,
): (...args: Args) => Result {
  return makeOp(definition, false);
}

function makeOp<Args extends readonly unknown[], Result extends Tensor | readonly Tensor[]>(
  definition: OpDefinition<Args, Result>,
  isChecked: boolean,
): (...args: Args) => Result {
  const { name } = definition;
  return (...args: Args): Result => {
    const isRecorded = definition.backward !== undefined && isGradEnabled() && args.some(wantsGrad);
    if (!isRecorded) return runForward(definition, UNRECORDED, args);

    const needsGrad = args.map(wantsGrad);
    let saved: Tensor[] | undefined = [];
    let savedAt = 0;
    let take: Parameters<GraphNode['backward']>[1] = nothing;
    const ctx: OpContext = {
      recording: true,
      needsGrad,
      state: undefined,
      takeGradient: (argument, dtype) =>
        layout[argument]?.isArray === false ? take(inputOf(layout, argument), dtype) : undefined,
      gradientDType: (argument) =>
        layout[argument]?.isArray === false ? dtypes?.[inputOf(layout, argument)] : undefined,
      save: (...tensors) => {
        // A saved tensor is an owner of its own, outside every scope.
        saved = tensors.map((tensor) =>
          tensor === undefined ? (undefined as unknown as Tensor) : keep(share(tensor)),
        );
        savedAt = native.writeClock();
      },
      get saved() {
        if (saved === undefined) {
          fail(name, 'AUTOGRAD', 'expected a first backward, got a second; pass { retainGraph: true }');
        }
        const changed = changedSince(saved, savedAt);
        if (changed !== undefined) {
          fail(
            name,
            'AUTOGRAD',
            `expected tensors as forward saved them, got ${changed.toString()} changed in place since; ` +
              'call backward before copyInto() or optimizer.step(), or give forward a clone()',
          );
        }
        return saved;
      },
    };
    const result = runForward(definition, ctx, args);
    const outputs: readonly Tensor[] = result instanceof Tensor ? [result] : result;
    const inputs: (Edge | undefined)[] = [];
    // What forward saw may have been cast: the gradients go back to the inputs' own dtypes.
    const dtypes: DType[] | undefined = autocastDType() === 'float32' ? undefined : [];
    const likes: (Like | undefined)[] | undefined = isChecked ? [] : undefined;
    const layout = args.map((arg) => {
      const tensors = arg instanceof Tensor ? [arg] : isTensorArray(arg) ? arg : [];
      for (const tensor of tensors) {
        inputs.push(tensor.edge);
        dtypes?.push((tensor as Tensor).dtype);
        likes?.push(tensor.edge && { shape: tensor.shape, dtype: (tensor as Tensor).dtype });
      }
      return { isArray: !(arg instanceof Tensor), count: tensors.length };
    });
    for (const input of inputs) if (input !== undefined) input.node.owners += 1;
    const node: GraphNode = {
      name,
      sequence: nextSequence(),
      inputs,
      outputs: outputs.length,
      owners: 0,
      backward: (gradients, given) => {
        take = given;
        let results: (Tensor | undefined)[];
        try {
          results = flatten(name, layout, needsGrad, definition.backward?.(ctx, ...gradients));
        } finally {
          take = nothing; // what it hands out belongs to this run
        }
        if (dtypes !== undefined) results = results.map((result, i) => result && cast(result, dtypes[i]));
        likes?.forEach((like, i) => {
          if (like !== undefined && results[i] !== undefined) checkLike(name, results[i], like);
        });
        return results;
      },
      release: () => {
        for (const tensor of saved ?? []) (tensor as Tensor | undefined)?.dispose();
        saved = undefined;
      },
    };
    outputs.forEach((output, index) => {
      setEdge(output, { node, index });
    });
    return result;
  };
}

/**
 * Runs a forward without recording the ops in it, and frees what it made and neither saved nor returned. A result that
 * it did not make (an argument handed back) becomes a tensor of its own, so that it can have its own place in the
 * graph and its own `dispose()`.
 */
function runForward<Args extends readonly unknown[], Result extends Tensor | readonly Tensor[]>(
  definition: OpDefinition<Args, Result>,
  ctx: OpContext,
  args: Args,
): Result {
  const tracer = currentTracer();
  return tracer === undefined ? compute(definition, ctx, args) : shownTo(tracer, definition, ctx, args);
}

/** The same before a tracer: apart, as a function with a closure costs each call of it, traced or not. */
function shownTo<Args extends readonly unknown[], Result extends Tensor | readonly Tensor[]>(
  tracer: OpTracer,
  definition: OpDefinition<Args, Result>,
  ctx: OpContext,
  args: Args,
): Result {
  return tracer(definition.name, args, () => compute(definition, ctx, args));
}

/** The same, which nobody sees. */
function compute<Args extends readonly unknown[], Result extends Tensor | readonly Tensor[]>(
  definition: OpDefinition<Args, Result>,
  ctx: OpContext,
  args: Args,
): Result {
  return scoped(definition.name, (made) => {
    const result = noGrad(() => {
      try {
        return definition.forward(ctx, ...castArguments(definition.autocast, args));
      } catch (error) {
        throw error instanceof TypeError ? argumentError(definition.name, args, error) : error;
      }
    });
    const own = (tensor: Tensor): Tensor => (made(tensor) ? tensor : share(tensor));
    if (result instanceof Tensor) return own(result) as Result & Tensor;
    if (!Array.isArray(result) || !result.every((item) => item instanceof Tensor)) {
      fail(definition.name, 'VALUE', `expected a tensor or tensors from forward, got ${shown(result)}`);
    }
    return result.map(own) as unknown as Result;
  });
}

/** What is read of tensors, and is not there in what JavaScript may give in their place. */
const OF_TENSORS = /\(reading '(id|retain|shape|ndim|dtype|device)'\)/;

/** What a TypeError of forward says of its arguments: looking at them here costs nothing where all is well. */
function argumentError(op: string, args: readonly unknown[], cause: TypeError): Error {
  if (!OF_TENSORS.test(cause.message)) return cause;
  return Object.assign(noTensors(op, args), { cause });
}

const nothing = (): undefined => undefined;

/** The context of a call that is not recorded: it keeps nothing. */
const UNRECORDED: OpContext = {
  recording: false,
  needsGrad: [],
  saved: [],
  save: nothing,
  takeGradient: nothing,
  gradientDType: nothing,
  get state() {
    return undefined;
  },
  set state(_ignored) {
    // nothing will run backward
  },
};

function isTensorArray(value: unknown): value is readonly Tensor[] {
  return Array.isArray(value) && value.length > 0 && value[0] instanceof Tensor;
}

function wantsGrad(arg: unknown): boolean {
  if (arg instanceof Tensor) return arg.edge !== undefined;
  return isTensorArray(arg) && arg.some((item) => item.edge !== undefined);
}

/** What a gradient must be like. */
type Like = Pick<Tensor, 'shape' | 'dtype'>;

/** How many input tensors an argument holds. The node keeps this rather than the arguments, which may be disposed. */
interface ArgumentLayout {
  readonly isArray: boolean;
  readonly count: number;
}

/** The input tensor that an argument is. */
function inputOf(layout: readonly ArgumentLayout[], argument: number): number {
  return layout.slice(0, argument).reduce((sum, { count }) => sum + count, 0);
}

/** Gradients by argument to gradients by input tensor. */
function flatten(
  name: string,
  layout: readonly ArgumentLayout[],
  needsGrad: readonly boolean[],
  result: readonly Gradient[] | Gradient,
): (Tensor | undefined)[] {
  const gradients = (Array.isArray(result) ? result : [result]) as readonly Gradient[];
  expectCount(name, gradients, needsGrad);
  return layout.flatMap(({ isArray, count }, i) => {
    const gradient = gradients[i];
    if (gradient === undefined) return new Array<undefined>(count).fill(undefined);
    if (count === 0) return [];
    const list: unknown = isArray ? gradient : [gradient];
    if (!Array.isArray(list)) {
      return fail(name, 'AUTOGRAD', `expected ${count} gradients for argument ${i}, got ${shown(gradient)}`);
    }
    if (list.length !== count) {
      return fail(name, 'AUTOGRAD', `expected ${count} gradients for argument ${i}, got ${list.length}`);
    }
    for (const item of list as readonly unknown[]) {
      if (item === undefined || item instanceof Tensor) continue;
      fail(
        name,
        'VALUE',
        `expected a tensor or undefined for the gradient of argument ${i}, got ${shown(item)}`,
      );
    }
    return list as readonly (Tensor | undefined)[];
  });
}

/** One gradient for each argument, but for those at the end that want none; or nothing at all. */
function expectCount(name: string, gradients: readonly Gradient[], needsGrad: readonly boolean[]): void {
  const { length } = gradients;
  const isNone = length === 0 || (length === 1 && gradients[0] === undefined);
  const isShort = !isNone && needsGrad.includes(true, length);
  if (!isShort && length <= Math.max(needsGrad.length, 1)) return;
  fail(
    name,
    'AUTOGRAD',
    `expected ${needsGrad.length} gradients from backward, one for each argument, got ${length}`,
  );
}
