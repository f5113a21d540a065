/**
 * The ops of one forward pass as a list: each with its arguments, whose tensors are references to the input, to results of ops
 * before, or to constants.
 */
import { native } from '../native.js';
import type { FloatTensor } from '../nn/index.js';
import { fail, shown } from '../tensor/error.js';
import type { Handle } from '../tensor/handle.js';
import { type DType, Tensor, inferenceMode, keep } from '../tensor/index.js';
import { share } from '../tensor/tensor.js';
import { type OpTracer, traceOps } from '../tensor/trace.js';

/** What a tensor is. */
export interface Form {
  readonly shape: readonly number[];
  readonly dtype: DType;
}

/** A tensor of the pass. Every tensor with the same memory and strides is the same reference. */
export type Ref = Form &
  (
    | { readonly kind: 'input' }
    /** The result of an op that depends on the input. */
    | { readonly kind: 'result'; readonly step: Step; readonly output: number }
    /** What does not depend on the input as far as ops tell, and the op that made it of other constants. */
    | { readonly kind: 'constant'; readonly tensor: Tensor; readonly name: string; readonly made?: Made }
  );

/** One op. Its arguments hold references in the place of tensors. */
export interface Step {
  readonly index: number;
  readonly name: string;
  readonly args: readonly unknown[];
  readonly outputs: readonly Form[];
}

/** A result of an op whose arguments are all constants. */
export interface Made {
  readonly step: Step;
  readonly output: number;
}

/** A forward pass. `dispose` frees what it keeps of constants. */
export interface Recording {
  readonly steps: readonly Step[];
  readonly result: Ref;
  dispose(): void;
}

/** Whether a value is a tensor of the pass. */
export function isRef(value: unknown): value is Ref {
  return typeof value === 'object' && value !== null && 'kind' in value && 'dtype' in value;
}

const formOf = ({ shape, dtype }: Tensor): Form => ({ shape, dtype });

class Recorder {
  readonly steps: Step[] = [];
  private readonly refs = new Map<Handle, Ref>();
  private readonly kept: Tensor[] = [];

  /**
   * @param names what parameters and buffers are called
   * @param isWhole whether an op stands for all the ops in it, which are then not looked at
   */
  constructor(
    private readonly names: ReadonlyMap<Handle, string>,
    private readonly isWhole: (op: string) => boolean,
  ) {}

  dispose(): void {
    for (const tensor of this.kept) tensor.dispose();
  }

  private keep(tensor: Tensor): Tensor {
    const kept = keep(share(tensor));
    this.kept.push(kept);
    return kept;
  }

  addInput(tensor: Tensor): void {
    this.refs.set(tensor.handle, { kind: 'input', ...formOf(tensor) });
  }

  refOf(tensor: Tensor): Ref {
    const known = this.refs.get(tensor.handle);
    if (known !== undefined) return known;
    const name = this.names.get(tensor.handle) ?? 'constant';
    const ref: Ref = { kind: 'constant', tensor: this.keep(tensor), name, ...formOf(tensor) };
    this.refs.set(tensor.handle, ref);
    return ref;
  }

  /** Sees an op: see `OpTracer`. */
  readonly trace: OpTracer = (name, args, run) => {
    const whole = this.isWhole(name);
    const given = args.map((arg) => this.referring(arg));
    const result = whole ? traceOps(undefined, run) : run();
    const outputs = (Array.isArray(result) ? result : [result]) as readonly Tensor[];
    // An op that only runs others, such as one of a user, is what they are.
    if (!whole && outputs.every((output) => this.refs.has(output.handle))) return result;
    const step = { index: this.steps.length, name, args: given, outputs: outputs.map(formOf) };
    const inputs = refsIn(given);
    const isConstant = inputs.every((ref) => ref.kind === 'constant');
    if (!isConstant) this.steps.push(step);
    // A view of a parameter, or what it is made of alone, is known by its name.
    const parts = inputs.flatMap((ref) => (ref.kind === 'constant' ? [ref.name] : []));
    const label = parts.length === 1 ? parts[0] : 'constant';
    outputs.forEach((tensor, output) => {
      const form = formOf(tensor);
      const ref: Ref = isConstant
        ? { kind: 'constant', tensor: this.keep(tensor), name: label, made: { step, output }, ...form }
        : { kind: 'result', step, output, ...form };
      this.refs.set(tensor.handle, ref);
    });
    return result;
  };

  /** An argument with references in the place of tensors, in arrays and plain objects too. */
  private referring(value: unknown): unknown {
    if (value instanceof Tensor) return this.refOf(value as Tensor);
    if (Array.isArray(value)) return value.map((item) => this.referring(item));
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, this.referring(item)]));
  }
}

/** The tensors in arguments. */
export function refsIn(value: unknown): Ref[] {
  if (isRef(value)) return [value];
  if (typeof value !== 'object' || value === null) return [];
  return Object.values(value).flatMap(refsIn);
}

/** What is run: a function of one tensor. */
export interface Pass {
  readonly run: (x: FloatTensor) => unknown;
  readonly input: FloatTensor;
  /** What parameters and buffers are called. */
  readonly names: ReadonlyMap<Handle, string>;
  readonly isWhole: (op: string) => boolean;
}

/**
 * Runs a pass without gradients, and records its ops.
 *
 * @throws TensorError VALUE for a pass that changes a tensor in place, or gives something else than one tensor
 */
export function record({ run, input, names, isWhole }: Pass): Recording {
  const recorder = new Recorder(names, isWhole);
  recorder.addInput(input);
  try {
    let result: Ref | undefined;
    // It returns nothing: a scope looks for tensors in all that is returned, and a pass is deep.
    inferenceMode(() => {
      const before = native.writeClock();
      const y = traceOps(recorder.trace, () => run(input));
      if (!(y instanceof Tensor)) {
        fail('exportOnnx', 'VALUE', `expected a model that gives one tensor, got ${shown(y)}`);
      }
      if (native.writeClock() !== before) {
        fail('exportOnnx', 'VALUE', 'expected a model that changes no tensor in place, got one that does');
      }
      result = recorder.refOf(y as Tensor);
    });
    return { steps: recorder.steps, result: result as unknown as Ref, dispose: () => recorder.dispose() };
  } catch (error) {
    recorder.dispose();
    throw error;
  }
}
