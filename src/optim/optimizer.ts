/**
 * What every optimizer shares: parameter groups, gradients, and a state that a checkpoint can store.
 *
 * An update is one native call for all parameters, in place: the multi-tensor kernel reads the gradient norm from the
 * device, so clipping costs no pass of its own and nothing waits.
 */
import { native } from '../native.js';
import { type OptionNames, expectOptions, expectTensorList } from '../tensor/arguments.js';
import {
  beforeReplay,
  capturedNumbers,
  checkGradient,
  onHost,
  refuseInCapture,
} from '../tensor/capturing.js';
import { deviceIndex } from '../tensor/device.js';
import { dtypeCode, type FloatDType } from '../tensor/dtype.js';
import { fail, shown } from '../tensor/error.js';
import { copyInto } from '../tensor/memory.js';
import { type Tensor, wrap } from '../tensor/tensor.js';

/** Parameters that share settings. */
export interface ParamGroup {
  readonly params: readonly Tensor<FloatDType>[];
  /** Overrides the optimizer's learning rate for this group. */
  lr?: number;
  /** Overrides the optimizer's weight decay for this group. */
  weightDecay?: number;
  /** Multiplies whatever learning rate a schedule sets. Default 1. */
  readonly lrScale?: number;
}

/** Clipping of an update. */
export interface StepOptions {
  /** Clip the global gradient norm to this, as part of the update. */
  readonly maxNorm?: number;
}

/** What a checkpoint stores: tensors by name, and plain numbers. */
export interface OptimizerState {
  readonly tensors: Record<string, Tensor>;
  readonly values: { readonly steps: readonly number[]; readonly groups: readonly GroupSettings[] };
}

/** What a checkpoint stores of a group. */
export interface GroupSettings {
  readonly lr: number;
  readonly weightDecay: number;
}

/** One parameter with its settings and the number of updates it has had. */
interface Slot {
  readonly param: Tensor;
  readonly group: ResolvedGroup;
  /** State tensors, made at the first update. */
  state: Tensor[];
  steps: number;
}

/** A group of parameters with the settings it is trained with; `lr` and `weightDecay` may be set between steps. */
export interface ResolvedGroup {
  readonly params: readonly Tensor<FloatDType>[];
  readonly lrScale: number;
  lr: number;
  weightDecay: number;
}

/** The parameters of one native call: all with the same number of earlier updates. */
export interface Update {
  readonly params: readonly Tensor[];
  readonly grads: readonly Tensor[];
  /** For each state tensor, one for each parameter. */
  readonly states: readonly (readonly Tensor[])[];
  /** Autocast's 16-bit copies, which the kernel writes anew. */
  readonly copies: readonly (Tensor | undefined)[];
  readonly lr: readonly number[];
  readonly weightDecay: readonly number[];
  /** Counts from 1. */
  readonly step: number;
  readonly norm: Tensor | undefined;
  readonly maxNorm: number;
  /** In a captured step: what `numbers()` gives, on the device. */
  readonly numbers: Tensor | undefined;
}

/** What AdamW, Adam and SGD have in common: groups of parameters, a step over all of them, and a state to store. */
export abstract class Optimizer {
  readonly groups: readonly ResolvedGroup[];
  private readonly slots: Slot[];
  /** Names of the state tensors, e.g. `['m', 'v']`. */
  protected abstract readonly stateNames: readonly string[];

  constructor(
    private readonly name: string,
    params: readonly Tensor<FloatDType>[] | readonly ParamGroup[],
    defaults: { readonly lr: number; readonly weightDecay: number },
  ) {
    this.groups = groupsOf(name, params).map((group) => ({
      params: group.params,
      lrScale: group.lrScale ?? 1,
      lr: group.lr ?? defaults.lr * (group.lrScale ?? 1),
      weightDecay: group.weightDecay ?? defaults.weightDecay,
    }));
    this.slots = this.groups.flatMap((group) =>
      group.params.map((param) => ({ param: param, group, state: [], steps: 0 })),
    );
    if (this.slots.length === 0) fail(name, 'VALUE', 'expected at least one parameter, got none');
    const distinct = new Set(this.slots.map((slot) => slot.param));
    if (distinct.size !== this.slots.length)
      fail(name, 'VALUE', 'expected each parameter once, got one twice');
    this.expectRates();
  }

  private expectRates(): void {
    for (const { lr, weightDecay } of this.groups) {
      expectRate(this.name, 'learning rate', lr);
      expectRate(this.name, 'weight decay', weightDecay);
    }
  }

  /**
   * Sets every group's learning rate to `lr` times its `lrScale`: what a schedule calls.
   * @throws TensorError VALUE unless it is a finite number of 0 or more
   */
  setLearningRate(lr: number): void {
    expectRate(this.name, 'learning rate', lr);
    for (const group of this.groups) group.lr = lr * group.lrScale;
  }

  /**
   * Updates every parameter that has a gradient. Returns the global gradient norm (before clipping) as a scalar on the
   * device when `maxNorm` is given.
   *
   * @throws TensorError DISPOSED when a parameter was disposed of, as `model.to` and `model.dispose` do; VALUE for a group's
   *   learning rate or weight decay that is not a finite number of 0 or more, or a maxNorm not above 0
   */
  step(options: StepOptions = {}): Tensor<'float64'> | undefined {
    expectOptions(this.name, options, STEP_OPTIONS);
    expectLive(this.name, this);
    this.expectRates();
    const ready = this.slots.filter((slot) => slot.param.grad !== undefined);
    if (ready.length === 0) return undefined;
    const { maxNorm } = options;
    if (maxNorm !== undefined && !(maxNorm > 0)) {
      fail(this.name, 'VALUE', `expected a maxNorm above 0, got ${maxNorm}`);
    }
    const norm = maxNorm === undefined ? undefined : globalNorm(ready.map((slot) => gradOf(slot.param)));

    // A parameter without a gradient sits a step out, so parameters can differ in how many they have had.
    for (const [steps, slots] of groupBySteps(ready)) {
      for (const slot of slots) {
        if (slot.state.length < this.stateNames.length) slot.state = this.makeState(slot.param);
      }
      const states = this.stateNames.map((_, k) => slots.map((slot) => slot.state[k]));
      const copies = slots.map((slot) => slot.param.half?.tensor);
      const rates = (): number[] => slots.map((slot) => slot.group.lr);
      const decays = (): number[] => slots.map((slot) => slot.group.weightDecay);
      beforeReplay(() =>
        slots.every(
          ({ param, group, state }, i) =>
            !param.isDisposed &&
            isRate(group.lr) &&
            isRate(group.weightDecay) &&
            param.half?.tensor === copies[i] &&
            states.every((list, k) => list[i] === state[k]),
        ),
      );
      this.update({
        params: slots.map((slot) => slot.param),
        grads: slots.map((slot) => gradOf(slot.param)),
        states,
        copies,
        lr: rates(),
        weightDecay: decays(),
        step: steps + 1,
        norm: norm,
        maxNorm: maxNorm ?? 0,
        numbers: capturedNumbers(() =>
          this.numbers(
            rates(),
            decays(),
            slots.map((slot) => slot.steps + 1),
          ),
        ),
      });
      onHost(() => {
        for (const slot of slots) {
          const { param } = slot;
          slot.steps += 1;
          if (param.half !== undefined) param.half = { ...param.half, written: native.written(param.id) };
        }
      });
    }
    return norm;
  }

  /** @internal One native call for parameters of the same age. */
  protected abstract update(update: Update): void;

  /** @internal What its kernel computes with, for each parameter: `AdamNumbers` or `SgdNumbers` of backend.h. */
  protected abstract numbers(
    lr: readonly number[],
    weightDecay: readonly number[],
    steps: readonly number[],
  ): readonly number[];

  private makeState(param: Tensor): Tensor[] {
    refuseInCapture(
      this.name,
      "expected each parameter's first update before a captured step, got one without a state",
    );
    return this.stateNames.map(() => {
      const dtype = param.dtype === 'float64' ? 'float64' : 'float32';
      const state = wrap(native.full(deviceIndex(param.device), param.shape, 0, dtypeCode(dtype)));
      state.kept = true;
      return state;
    });
  }

  /** Disposes of every gradient. */
  zeroGrad(): void {
    for (const { param } of this.slots) {
      checkGradient('zeroGrad', param);
      param.grad?.dispose();
      param.grad = undefined;
    }
  }

  /** References to the state (not copies), for a checkpoint. */
  stateDict(): OptimizerState {
    const tensors: Record<string, Tensor> = {};
    this.slots.forEach((slot, i) => {
      slot.state.forEach((state, k) => (tensors[`${this.stateNames[k]}.${i}`] = state));
    });
    return {
      tensors,
      values: {
        steps: this.slots.map((slot) => slot.steps),
        groups: this.groups.map(({ lr, weightDecay }) => ({ lr, weightDecay })),
      },
    };
  }

  /**
   * Copies a stored state into this optimizer.
   * @throws TensorError VALUE or SHAPE when it belongs to other parameters
   */
  loadStateDict(state: OptimizerState): void {
    const { steps, groups } = state.values;
    if (steps.length !== this.slots.length || groups.length !== this.groups.length) {
      fail(
        this.name,
        'VALUE',
        `expected the state of ${this.slots.length} parameters in ${this.groups.length} groups, got ` +
          `${steps.length} in ${groups.length}`,
      );
    }
    this.groups.forEach((group, i) => Object.assign(group, groups[i]));
    this.slots.forEach((slot, i) => {
      slot.steps = steps[i];
      if (slot.steps === 0) {
        for (const state of slot.state.splice(0)) state.dispose();
        return;
      }
      if (slot.state.length === 0) slot.state = this.makeState(slot.param);
      this.stateNames.forEach((name, k) => {
        const source = state.tensors[`${name}.${i}`];
        if (source === undefined)
          return fail(this.name, 'VALUE', `expected a tensor ${name}.${i} in the state`);
        return copyInto(slot.state[k], source);
      });
    });
  }

  /** Frees the state and the gradients; the parameters stay. */
  dispose(): void {
    this.zeroGrad();
    for (const slot of this.slots) {
      for (const state of slot.state) state.dispose();
      slot.state = [];
      slot.steps = 0;
    }
  }
}

/** A NaN or an infinity would make every weight NaN, and a negative number would train upwards. */
const isRate = (value: unknown): boolean => Number.isFinite(value) && (value as number) >= 0;

function expectRate(op: string, what: string, value: unknown): void {
  if (!isRate(value)) fail(op, 'VALUE', `expected a finite ${what} of 0 or more, got ${shown(value)}`);
}

/**
 * @internal A parameter that was disposed of never gets a gradient: an update would leave it out in silence.
 * @throws TensorError DISPOSED
 */
export function expectLive(op: string, optimizer: Optimizer): void {
  for (const { params } of optimizer.groups) {
    const gone = params.find((param) => param.isDisposed);
    if (gone === undefined) continue;
    fail(
      op,
      'DISPOSED',
      `expected live parameters, got ${gone.toString()}, as model.to() and model.dispose() leave behind; ` +
        'make the optimizer after model.to()',
    );
  }
}

const GROUP_OPTIONS = {
  params: true,
  lr: true,
  weightDecay: true,
  lrScale: true,
} satisfies OptionNames<ParamGroup>;

/** @internal */
export const STEP_OPTIONS = { maxNorm: true } satisfies OptionNames<StepOptions>;

/** Parameters in groups; those that are in none make one. */
function groupsOf(op: string, params: unknown): readonly ParamGroup[] {
  if (!Array.isArray(params)) {
    return fail(op, 'VALUE', `expected an array of parameters or of groups, got ${shown(params)} for params`);
  }
  const groups = (params.length > 0 && params.every(isGroup) ? params : [{ params }]) as ParamGroup[];
  for (const group of groups) {
    expectOptions(op, group, GROUP_OPTIONS);
    expectTensorList(op, 'params', group.params);
    for (const [i, param] of group.params.entries()) {
      if (param.edge === undefined || param.edge.node.leaf !== undefined) continue;
      fail(
        op,
        'AUTOGRAD',
        `expected leaves, got the result of ${param.edge.node.name} for params[${i}]; detach() it, then setRequiresGrad()`,
      );
    }
  }
  return groups;
}

const isGroup = (value: unknown): boolean => typeof value === 'object' && value !== null && 'params' in value;

function groupBySteps(slots: readonly Slot[]): Map<number, Slot[]> {
  const groups = new Map<number, Slot[]>();
  for (const slot of slots) {
    const list = groups.get(slot.steps);
    if (list === undefined) groups.set(slot.steps, [slot]);
    else list.push(slot);
  }
  return groups;
}

function gradOf(param: Tensor): Tensor {
  return param.grad as Tensor;
}

/**
 * The square root of the sum of squares over all tensors, as a scalar on the device: in float64, which holds that of any
 * finite float32 numbers.
 */
export function globalNorm(tensors: readonly Tensor[]): Tensor<'float64'> {
  expectTensorList('globalNorm', 'tensors', tensors);
  return wrap<'float64'>(native.globalNorm(tensors.map((t) => t.id)));
}

/**
 * Multiplies every gradient by `min(1, maxNorm / (norm + 1e-6))`, in place, and returns the norm before, on the device.
 * A NaN among them makes them all NaN. `optimizer.step({ maxNorm })` does the same without a pass of its own.
 *
 * @throws TensorError VALUE when no parameter has a gradient or maxNorm is not above 0
 */
export function clipGradNorm(params: Iterable<Tensor<FloatDType>>, maxNorm: number): Tensor<'float64'> {
  if (!(maxNorm > 0)) fail('clipGradNorm', 'VALUE', `expected a maxNorm above 0, got ${maxNorm}`);
  const list = [...new Set(params)];
  expectTensorList('clipGradNorm', 'params', list);
  const owners = list.filter((param) => param.grad !== undefined);
  if (owners.length === 0) fail('clipGradNorm', 'VALUE', 'expected at least one gradient, got none');
  const grads = owners.map((param) => {
    // Who set a gradient may have set a view, or one that shares its memory: clipping in place needs it in one piece, and
    // its own.
    checkGradient('clipGradNorm', param);
    const grad = param.grad as Tensor;
    const own = wrap(native.clone(grad.id));
    own.kept = true;
    grad.dispose();
    param.grad = own as Tensor<FloatDType>;
    return own;
  });
  const norm = globalNorm(grads);
  native.clip(
    grads.map((grad) => grad.id),
    norm.id,
    maxNorm,
  );
  return norm;
}
