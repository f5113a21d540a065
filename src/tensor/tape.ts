/**
 * Autograd: the tape that ops record, and the engine that runs it backwards.
 *
 * Every recorded op is a node that holds what its backward needs (native references of its own, so disposing of a
 * user's handle never breaks a gradient) and edges to the nodes of its inputs. The engine visits nodes in the reverse
 * order of their making, which is a topological order, and frees what each saved as soon as it has run.
 */
import { native } from '../native.js';
import { type OptionNames, expectOptions, expectTensorList, expectTensors } from './arguments.js';
import { autocast } from './autocast.js';
import { checkGradient } from './capturing.js';
import { deviceIndex } from './device.js';
import { dtypeCode, isFloating, type DType, type FloatDType } from './dtype.js';
import { fail } from './error.js';
import { keep, scope, scoped } from './scope.js';
import { Tensor, setEdge, share, wrap, type Edge, type GradientHook, type GraphNode } from './tensor.js';

let recording = true;
let sequence = 0;

/** Whether ops are being recorded. */
export function isGradEnabled(): boolean {
  return recording;
}

function withRecording<T>(op: string, value: boolean, fn: () => T): T {
  const before = recording;
  recording = value;
  try {
    const result = fn();
    if (result instanceof Promise) fail(op, 'VALUE', 'expected a synchronous function, got a promise');
    return result;
  } finally {
    recording = before;
  }
}

/** Runs `fn` without recording: its results want no gradients. @throws TensorError VALUE when `fn` is asynchronous */
export function noGrad<T>(fn: () => T): T {
  return withRecording('noGrad', false, fn);
}

/** Runs `fn` with recording on, inside a `noGrad`. @throws TensorError VALUE when `fn` is asynchronous */
export function enableGrad<T>(fn: () => T): T {
  return withRecording('enableGrad', true, fn);
}

/** Whether `fn` of an `inferenceMode` is running. */
let inferring = false;

/**
 * `noGrad` and `scope` in one: what `fn` made and does not return is freed when it returns. On the CPU, products of few rows keep
 * a copy of each weight in the layout that they like best, until the weight is written or freed: for answers that are fast from
 * the second on.
 * @throws TensorError VALUE when `fn` is asynchronous
 */
export function inferenceMode<T>(fn: () => T): T {
  const before = inferring;
  inferring = true;
  try {
    return withRecording('inferenceMode', false, () => scoped('inferenceMode', fn));
  } finally {
    inferring = before;
  }
}

/** @internal Whether a weight is going to stay as it is, so that a kernel may keep a copy of it in a layout of its own. */
export function isFixed(weight: Tensor): boolean {
  return inferring && !recording && weight.kept;
}

/** @internal */
export function nextSequence(): number {
  sequence += 1;
  return sequence;
}

/**
 * Makes a tensor a leaf that collects its gradient in `grad` (or no longer does). Returns it.
 * @throws TensorError DTYPE unless it is floating-point; AUTOGRAD when it is the result of a recorded op
 */
export function setRequiresGrad<D extends FloatDType>(tensor: Tensor<D>, value = true): Tensor<D> {
  expectTensors('setRequiresGrad', tensor);
  const edge = tensor.edge;
  if (edge !== undefined && edge.node.leaf === undefined) {
    fail('requiresGrad', 'AUTOGRAD', 'expected a leaf, got the result of a recorded op; detach() it first');
  }
  if (!value) {
    setEdge(tensor, undefined);
  } else if (edge === undefined) {
    const dtype: DType = tensor.dtype;
    if (!isFloating(dtype)) {
      fail('requiresGrad', 'DTYPE', `expected a floating-point tensor, got ${String(dtype)}`);
    }
    const leaf: GraphNode = {
      name: 'leaf',
      sequence: nextSequence(),
      inputs: [],
      outputs: 1,
      backward: () => [],
      release: () => undefined,
      owners: 0,
      leaf: tensor,
    };
    setEdge(tensor, { node: leaf, index: 0 });
  }
  return tensor;
}

/** The same elements outside the graph. */
export function detach<D extends DType>(tensor: Tensor<D>): Tensor<D> {
  expectTensors('detach', tensor);
  return share(tensor);
}

/**
 * Calls `hook` with the gradient of `tensor` during backward; a tensor it returns takes the gradient's place, and backward
 * throws a TensorError SHAPE or DTYPE where that is not like it, AUTOGRAD where the hook changes its gradient in place: others
 * may be made of the same memory. The gradient is freed afterwards, unless the hook passes it
 * to `keep()`. Returns a function that removes the hook.
 * @throws TensorError AUTOGRAD when the tensor wants no gradient
 */
export function registerHook(tensor: Tensor, hook: GradientHook): () => void {
  expectTensors('registerHook', tensor);
  const edge = tensor.edge;
  if (edge === undefined)
    return fail('registerHook', 'AUTOGRAD', 'expected a tensor that requires a gradient');
  const hooks = (edge.node.hooks ??= new Map<number, GradientHook[]>());
  const list = hooks.get(edge.index) ?? [];
  list.push(hook);
  hooks.set(edge.index, list);
  return () => {
    const at = list.indexOf(hook);
    if (at >= 0) list.splice(at, 1);
  };
}

/** Where a backward pass begins, and what it leaves. */
export interface BackwardOptions {
  /** Gradient of the output; may be left out for a scalar, where it is 1. */
  readonly gradient?: Tensor;
  /** Keep what was saved, so that backward can run again. Default false. */
  readonly retainGraph?: boolean;
}

const BACKWARD_OPTIONS = { gradient: true, retainGraph: true } satisfies OptionNames<BackwardOptions>;

/**
 * Adds the gradient of `output` to the `grad` of every leaf it depends on.
 * @throws TensorError AUTOGRAD when it was not recorded, or when what its gradient needs has been changed in place since
 *   (`copyInto`, an optimizer's step); SHAPE when it is no scalar and no gradient is given, SHAPE or DTYPE when the gradient
 *   is not like the output
 */
export function backward(output: Tensor, options: BackwardOptions = {}): void {
  expectTensors('backward', output);
  expectOptions('backward', options, BACKWARD_OPTIONS);
  run('backward', [output], [options.gradient], options.retainGraph === true, undefined);
}

/** Where the gradients begin, and what they leave. */
export interface GradOptions {
  /** Gradients of the outputs; may be left out for scalars. */
  readonly gradients?: readonly (Tensor | undefined)[];
  readonly retainGraph?: boolean;
}

const GRAD_OPTIONS = { gradients: true, retainGraph: true } satisfies OptionNames<GradOptions>;

/**
 * The gradients of the sum of `outputs` with respect to `inputs`, leaving every `grad` alone. An input that the
 * outputs do not depend on gives undefined. They are first derivatives: a gradient is not recorded, and has none of its own.
 * @throws TensorError AUTOGRAD when an input requires no gradient; and as backward
 */
export function grad<const Inputs extends readonly Tensor[]>(
  outputs: Tensor | readonly Tensor[],
  inputs: Inputs,
  options: GradOptions = {},
): { -readonly [I in keyof Inputs]: Inputs[I] | undefined } {
  expectOptions('grad', options, GRAD_OPTIONS);
  const roots = outputs instanceof Tensor ? [outputs] : outputs;
  expectTensorList('grad', 'outputs', roots);
  expectTensorList('grad', 'inputs', inputs);
  const targets = inputs.map((input, i) => {
    return (
      input.edge ?? fail('grad', 'AUTOGRAD', `expected inputs that require a gradient, input ${i} does not`)
    );
  });
  const gradients = run('grad', roots, options.gradients ?? [], options.retainGraph === true, targets);
  return gradients as { -readonly [I in keyof Inputs]: Inputs[I] | undefined };
}

/** Gradients on their way to one node. They belong to the scope of the run. */
type Slots = (Tensor | undefined)[];

function run(
  op: string,
  outputs: readonly Tensor[],
  gradients: readonly (Tensor | undefined)[],
  retainGraph: boolean,
  targets: readonly Edge[] | undefined,
): (Tensor | undefined)[] {
  return noGrad(() =>
    scope(() => {
      const pending = new Map<GraphNode, Slots>();
      outputs.forEach((output, i) => {
        const edge =
          output.edge ??
          fail(op, 'AUTOGRAD', `expected an output that requires a gradient, got ${output.toString()}`);
        add(pending, edge, seed(op, output, gradients[i]));
      });
      const captured = new Map<GraphNode, Slots>();
      for (const target of targets ?? []) captured.set(target.node, []);

      for (const node of inReverse(outputs)) {
        const slots = pending.get(node);
        if (slots === undefined) continue;
        pending.delete(node);
        runHooks(node, slots);
        const wanted = captured.get(node);
        if (wanted !== undefined) slots.forEach((slot, i) => (wanted[i] = slot && share(slot)));
        if (node.leaf === undefined) {
          step(op, node, slots, pending);
          if (!retainGraph) node.release();
        } else if (targets === undefined && slots[0] !== undefined) {
          collect(op, node.leaf, slots[0]);
        }
        for (const slot of slots) letGo(slot);
      }
      return (targets ?? []).map((target) => captured.get(target.node)?.[target.index]);
    }),
  );
}

/** The gradient that backward starts from. */
function seed(op: string, output: Tensor, gradient: Tensor | undefined): Tensor {
  if (gradient === undefined) {
    if (output.size !== 1) {
      fail(
        op,
        'SHAPE',
        `expected a scalar output or a gradient for it, got shape [${output.shape.join(', ')}]`,
      );
    }
    return wrap(native.full(deviceIndex(output.device), output.shape, 1, dtypeCode(output.dtype)));
  }
  expectTensors(op, gradient);
  checkLike(op, gradient, output);
  return share(gradient);
}

/** @internal @throws TensorError SHAPE or DTYPE */
export function checkLike(op: string, gradient: Tensor, like: Pick<Tensor, 'shape' | 'dtype'>): void {
  if (gradient.shape.join() !== like.shape.join()) {
    fail(op, 'SHAPE', `expected a gradient [${like.shape.join(', ')}], got [${gradient.shape.join(', ')}]`);
  }
  if (gradient.dtype !== like.dtype) {
    fail(op, 'DTYPE', `expected a gradient of ${like.dtype}, got ${gradient.dtype}`);
  }
}

/** Every node that the outputs depend on, latest first. */
function inReverse(outputs: readonly Tensor[]): GraphNode[] {
  const seen = new Set<GraphNode>();
  const stack: GraphNode[] = outputs.flatMap((output) =>
    output.edge === undefined ? [] : [output.edge.node],
  );
  for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
    if (seen.has(node)) continue;
    seen.add(node);
    for (const input of node.inputs) if (input !== undefined) stack.push(input.node);
  }
  return [...seen].sort((a, b) => b.sequence - a.sequence);
}

/** @internal The leaves that an output depends on. */
export function leavesOf(output: Tensor): Tensor[] {
  return inReverse([output]).flatMap((node) => (node.leaf === undefined ? [] : [node.leaf]));
}

/** @internal The first of the tensors whose memory has been written in place since a time of `native.writeClock()`. */
export function changedSince(tensors: readonly (Tensor | undefined)[], time: number): Tensor | undefined {
  if (native.writeClock() === time) return undefined;
  return tensors.find((tensor) => tensor?.isDisposed === false && native.written(tensor.id) > time);
}

/** Runs one node's backward and passes its results on. */
function step(op: string, node: GraphNode, slots: Slots, pending: Map<GraphNode, Slots>): void {
  const taken: Tensor[] = [];
  const take = (input: number, dtype: DType): Tensor | undefined => {
    const edge = node.inputs[input];
    if (edge === undefined) return undefined;
    const waiting = pending.get(edge.node);
    const gradient = waiting?.[edge.index];
    if (waiting === undefined || gradient === undefined || gradient.dtype !== dtype) return undefined;
    waiting[edge.index] = undefined;
    taken.push(gradient);
    return gradient;
  };
  // `share` gives the run an owner of its own, whether the node made the gradient or passed one through.
  // It computes in the dtypes of what forward saved, whatever region this is.
  const results = scope(() =>
    autocast('float32', () => node.backward(slots, take).map((result) => result && share(result))),
  );
  for (const gradient of taken) gradient.dispose();
  if (results.length !== node.inputs.length) {
    fail(op, 'AUTOGRAD', `expected ${node.inputs.length} gradients from ${node.name}, got ${results.length}`);
  }
  node.inputs.forEach((edge, i) => {
    const result = results[i];
    if (result === undefined) return;
    if (edge === undefined) result.dispose();
    else add(pending, edge, result);
  });
}

/** Adds a gradient to what waits for an edge. */
function add(pending: Map<GraphNode, Slots>, edge: Edge, gradient: Tensor): void {
  let slots = pending.get(edge.node);
  if (slots === undefined) {
    slots = new Array<Tensor | undefined>(edge.node.outputs).fill(undefined);
    pending.set(edge.node, slots);
  }
  const before = slots[edge.index];
  if (before === undefined) {
    slots[edge.index] = gradient;
    return;
  }
  slots[edge.index] = wrap(native.add(before.id, gradient.id, 0));
  before.dispose();
  gradient.dispose();
}

function runHooks(node: GraphNode, slots: Slots): void {
  node.hooks?.forEach((hooks, index) => {
    for (const hook of hooks) {
      const gradient = slots[index];
      if (gradient === undefined) return;
      const written = native.written(gradient.id);
      const replacement = hook(gradient as Tensor<FloatDType>);
      if (native.written(gradient.id) !== written) {
        fail(
          'registerHook',
          'AUTOGRAD',
          'expected a hook that returns another gradient, got one changed in place',
        );
      }
      if (replacement === undefined || replacement === gradient) continue;
      expectTensors('registerHook', replacement);
      checkLike('registerHook', replacement, gradient);
      slots[index] = share(replacement);
      letGo(gradient);
    }
  });
}

/** Frees a gradient that has been passed on, unless a hook has kept it. */
function letGo(gradient: Tensor | undefined): void {
  if (gradient?.kept === false) gradient.dispose();
}

/** leaf.grad += gradient, in memory of its own: `grad` may be changed in place. */
function collect(op: string, leaf: Tensor, gradient: Tensor): void {
  if (leaf.isDisposed) return;
  if (gradient.shape.join() !== leaf.shape.join()) {
    fail(
      op,
      'SHAPE',
      `expected a gradient [${leaf.shape.join(', ')}] for a leaf, got [${gradient.shape.join(', ')}]`,
    );
  }
  checkGradient(op, leaf);
  const before = leaf.grad;
  leaf.grad = keep(before === undefined ? own(gradient) : wrap(native.add(before.id, gradient.id, 0)));
  before?.dispose();
}

/** A gradient that nobody else holds, not copied where that is so already. */
function own(gradient: Tensor): Tensor {
  return wrap(
    gradient.handle.isShared || gradient.kept ? native.clone(gradient.id) : native.own(gradient.id),
  );
}
