/**
 * What a model is made of: a tree of modules that hold parameters and buffers.
 *
 * A parameter's name in a state dict is the path of properties that leads to it, in snake case, as in PyTorch models:
 * `model.patchEmbed.proj.weight` is `patch_embed.proj.weight`.
 */
import { expectOptions, expectTensors, expectTensorsByName } from '../tensor/arguments.js';
import { type Device, deviceIndex, isDeviceName } from '../tensor/device.js';
import type { DType, FloatDType } from '../tensor/dtype.js';
import { isFloating } from '../tensor/dtype.js';
import { fail } from '../tensor/error.js';
import { copyInto } from '../tensor/memory.js';
import { keep, scope } from '../tensor/scope.js';
import { noGrad, setRequiresGrad } from '../tensor/tape.js';
import { Tensor } from '../tensor/tensor.js';
import { clone, to } from '../ops/creation.js';

/** A tensor of any floating-point dtype. */
export type FloatTensor = Tensor<FloatDType>;

const parameters = new WeakSet<Tensor>();
const buffers = new WeakSet<Tensor>();

/**
 * Makes a tensor a parameter: a leaf that lives as long as its module and collects its gradient.
 *
 * @example
 * this.weight = parameter(zeros([out, in]));
 */
export function parameter(tensor: FloatTensor): FloatTensor {
  expectTensors('parameter', tensor);
  parameters.add(tensor);
  return setRequiresGrad(keep(tensor));
}

/**
 * Makes a tensor a buffer: part of the state dict, but no parameter.
 *
 * @example
 * this.runningMean = buffer(zeros([channels]));
 */
export function buffer<D extends DType>(tensor: Tensor<D>): Tensor<D> {
  expectTensors('buffer', tensor);
  buffers.add(tensor);
  return keep(tensor);
}

/** What `loadStateDict` found. */
export interface LoadReport {
  /** Names of the module that the state dict lacks. */
  readonly missing: readonly string[];
  /** Names of the state dict that the module lacks. */
  readonly unexpected: readonly string[];
  /** Names with different shapes. */
  readonly mismatched: readonly {
    readonly name: string;
    readonly expected: readonly number[];
    readonly got: readonly number[];
  }[];
}

/** Sees the arguments and the result of a call, and may return another result to take its place. */
export type ForwardHook<Args extends readonly unknown[], Result> = (
  args: Args,
  result: Result,
) => Result | undefined;

/** `patchEmbed` -> `patch_embed` */
function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** The modules and tensors in an array, a Map or a Set, however deep. */
function itemsIn(value: unknown): (AnyModule | Tensor)[] {
  const isSeries = Array.isArray(value) || value instanceof Set;
  const items: Iterable<unknown> = value instanceof Map ? value.values() : isSeries ? value : [];
  return Array.from(items).flatMap((item) =>
    item instanceof Module || item instanceof Tensor ? [item as AnyModule | Tensor] : itemsIn(item),
  );
}

/**
 * The base of every layer and model. Subclasses set parameters, buffers and submodules as properties and define
 * `forward`; callers use `call`. The type arguments are what `forward` takes and gives; by default one tensor and one tensor.
 *
 * Several modules in one property are a {@link ModuleList} (or a `Sequential`), which gives each a name. In an array, a Map
 * or a Set they are an error: `parameters()` and `stateDict()` would leave them out. What `#private` fields hold is left out,
 * because nobody sees it from outside: keep there only what is no part of the model, such as a teacher.
 *
 * @example
 * class Classifier extends Module {
 *   readonly layers = new ModuleList([new Linear(64, 128), new Linear(128, 128)]);
 *   readonly head = new Linear(128, 10);
 *   override forward(x: FloatTensor): FloatTensor {
 *     for (const layer of this.layers) x = relu(layer.call(x));
 *     return this.head.call(x);
 *   }
 * }
 */
export abstract class Module<Args extends readonly unknown[] = [x: FloatTensor], Result = FloatTensor> {
  /** True in training: dropout and stochastic depth act. */
  training = true;
  private readonly hooks: ForwardHook<Args, Result>[] = [];

  /** Computes the result. Use `call`, which frees what `forward` leaves behind. */
  abstract forward(...args: Args): Result;

  /** Runs `forward` in a scope: tensors that it made and did not return are freed. Then runs the hooks. */
  call(...args: Args): Result {
    return scope(() => {
      let result = this.forward(...args);
      for (const hook of this.hooks) result = hook(args, result) ?? result;
      return result;
    });
  }

  /** Calls `hook` after each `forward`. Returns a function that removes it. */
  registerForwardHook(hook: ForwardHook<Args, Result>): () => void {
    this.hooks.push(hook);
    return () => {
      const at = this.hooks.indexOf(hook);
      if (at >= 0) this.hooks.splice(at, 1);
    };
  }

  /** True where a hook listens to this module or to one below. */
  get isHooked(): boolean {
    return this.hooks.length > 0 || this.children().some(([, child]) => child.isHooked);
  }

  /** @internal Whether it or any module below is in training: without their names, as each prediction asks. */
  get isTraining(): boolean {
    return this.training || this.children().some(([, child]) => child.isTraining);
  }

  /** The modules directly below, by name. Overridden where their names are others than those of properties. */
  children(): [name: string, module: AnyModule][] {
    return Object.entries(this).flatMap(([key, value]): [string, AnyModule][] =>
      value instanceof Module ? [[snakeCase(key), value as AnyModule]] : [],
    );
  }

  /**
   * This module (named '') and all below, parents first.
   *
   * @throws TensorError VALUE where an array, a Map or a Set holds modules or parameters that have no name
   */
  namedModules(): [name: string, module: AnyModule][] {
    const below = this.children().flatMap(([name, child]) =>
      child
        .namedModules()
        .map(([path, module]): [string, AnyModule] => [path === '' ? name : `${name}.${path}`, module]),
    );
    const modules: [name: string, module: AnyModule][] = [['', this], ...below];
    this.checkNames(new Set(modules.map(([, module]) => module)));
    return modules;
  }

  /** What none of the named modules is or has would be left out without a word. */
  private checkNames(named: ReadonlySet<AnyModule>): void {
    const isNamed = (item: AnyModule | Tensor): boolean => {
      if (item instanceof Module) return named.has(item);
      const set = [parameters, buffers].find((one) => one.has(item));
      return !set || [...named].some((module) => module.own(set).some(([, tensor]) => tensor === item));
    };
    for (const [key, value] of Object.entries(this) as [string, unknown][]) {
      const lost = itemsIn(value).find((item) => !isNamed(item));
      if (lost === undefined) continue;
      const [what, place] =
        lost instanceof Module ? ['modules', 'a ModuleList'] : ['parameters', 'properties of their own'];
      const kind = Array.isArray(value) ? 'an array' : `a ${(value as object).constructor.name}`;
      fail(
        'Module',
        'VALUE',
        `expected the ${what} of ${this.constructor.name}.${key} in ${place}, got ${kind}, where they have no names`,
      );
    }
  }

  /** Tensors of this module alone that belong to a set, by property. */
  private own(set: WeakSet<Tensor>): [key: string, tensor: Tensor][] {
    return Object.entries(this).filter(
      (entry): entry is [string, Tensor] => entry[1] instanceof Tensor && set.has(entry[1] as Tensor),
    );
  }

  private named(set: WeakSet<Tensor>): [name: string, tensor: Tensor][] {
    return this.namedModules().flatMap(([path, module]) =>
      module
        .own(set)
        .map(([key, tensor]): [string, Tensor] => [(path === '' ? '' : `${path}.`) + snakeCase(key), tensor]),
    );
  }

  /** Parameters of this module and all below, by name; one that modules share by the first of its names. */
  namedParameters(): [name: string, parameter: FloatTensor][] {
    const seen = new Set<Tensor>();
    return this.named(parameters).filter(([, tensor]) => !seen.has(tensor) && seen.add(tensor)) as [
      string,
      FloatTensor,
    ][];
  }

  /** Parameters of this module and all below. */
  parameters(): FloatTensor[] {
    return this.namedParameters().map(([, tensor]) => tensor);
  }

  /** Buffers of this module and all below, by name. */
  namedBuffers(): [name: string, buffer: Tensor][] {
    return this.named(buffers);
  }

  /** References (not copies) to every parameter and buffer, by name; a shared one under all its names. */
  stateDict(): Record<string, Tensor> {
    return Object.fromEntries([...this.named(parameters), ...this.namedBuffers()]);
  }

  /**
   * Copies values into the parameters and buffers, converting dtypes. Everything is checked before anything is
   * copied. With `strict: false`, what does not fit is left out and reported.
   *
   * @throws TensorError VALUE when names or shapes differ and `strict` is true (the default)
   */
  loadStateDict(
    state: Readonly<Record<string, Tensor>>,
    options: { readonly strict?: boolean } = {},
  ): LoadReport {
    expectTensorsByName('loadStateDict', 'state', state);
    expectOptions('loadStateDict', options, { strict: true });
    const own = this.stateDict();
    const missing = Object.keys(own).filter((name) => state[name] === undefined);
    const unexpected = Object.keys(state).filter((name) => own[name] === undefined);
    const shared = Object.keys(own).filter((name) => state[name] !== undefined);
    const fits = (name: string): boolean => own[name].shape.join() === state[name].shape.join();
    const mismatched = shared
      .filter((name) => !fits(name))
      .map((name) => ({ name, expected: own[name].shape, got: state[name].shape }));
    const report = { missing, unexpected, mismatched };
    if (options.strict !== false && missing.length + unexpected.length + mismatched.length > 0) {
      fail('loadStateDict', 'VALUE', `expected the names and shapes of the module, got ${describe(report)}`);
    }
    scope(() => {
      for (const name of shared.filter(fits)) copyInto(own[name], to(state[name], own[name].dtype));
    });
    return report;
  }

  /** Switches dropout and the like on (or off), here and below. Returns the module. */
  train(mode = true): this {
    for (const [, module] of this.namedModules()) module.training = mode;
    return this;
  }

  /** Switches to inference. Returns the module. */
  eval(): this {
    return this.train(false);
  }

  /** Where the module is: the device of its first parameter, or 'cpu' where it has none. */
  get device(): Device {
    return this.firstParameter()?.device ?? 'cpu';
  }

  private firstParameter(): Tensor | undefined {
    const [first] = this.own(parameters);
    if (first !== undefined) return first[1];
    for (const [, child] of this.children()) {
      const found = child.firstParameter();
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /**
   * Converts the floating-point parameters and buffers to a dtype, or moves all to a device. Make the optimizer
   * afterwards: the tensors are new ones, and gradients are gone. Returns the module.
   *
   * @throws TensorError DEVICE for a device that is not there
   * @example
   * const model = createModel('vit_tiny_patch16_224').to('cuda');
   */
  to(target: FloatDType | Device): this {
    const stays = (tensor: Tensor): boolean =>
      isDeviceName(target)
        ? deviceIndex(tensor.device) === deviceIndex(target)
        : !isFloating(tensor.dtype) || tensor.dtype === target;
    const converted = new Map<Tensor, Tensor>();
    for (const [, module] of this.namedModules()) {
      for (const [set, make] of [
        [parameters, parameter],
        [buffers, buffer],
      ] as const) {
        for (const [key, tensor] of module.own(set)) {
          if (stays(tensor)) continue;
          const made = converted.get(tensor) ?? make(noGrad(() => to(tensor, target as FloatDType)));
          if (set === parameters && !tensor.requiresGrad) setRequiresGrad(made as FloatTensor, false);
          (module as unknown as Record<string, Tensor>)[key] = made;
          converted.set(tensor, made);
        }
      }
    }
    for (const tensor of converted.keys()) tensor.dispose();
    return this;
  }

  /** Stops (or, with false, starts) collecting gradients in the parameters here and below. Returns the module. */
  freeze(frozen = true): this {
    for (const tensor of this.parameters()) setRequiresGrad(tensor, !frozen);
    return this;
  }

  /** Calls `fn` on this module and all below, with their names. Returns the module. */
  apply(fn: (module: AnyModule, name: string) => void): this {
    for (const [name, module] of this.namedModules()) fn(module, name);
    return this;
  }

  /** Number of values in the parameters. */
  get parameterCount(): number {
    return this.parameters().reduce((sum, tensor) => sum + tensor.size, 0);
  }

  /** Frees the parameters, their gradients and the buffers. */
  dispose(): void {
    for (const [, tensor] of [...this.namedParameters(), ...this.namedBuffers()]) tensor.dispose();
  }

  /** `dispose()` at the end of a `using` block. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** A module whatever it takes and returns. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- any is how TypeScript spells "some argument list"
export type AnyModule = Module<any, any>;

/** A module that can be called with one tensor and gives one: a `Linear` too, whose second argument is optional. */
export type TensorModule = {
  /** Runs the module. */
  call(x: FloatTensor): FloatTensor;
} & AnyModule;

/** @internal Switches a model to evaluation. Returns what puts each of its modules back into the mode that it was in. */
export function evaluating(model: AnyModule): () => void {
  if (!model.isTraining) return () => undefined;
  const modes = model.namedModules().map(([, module]) => [module, module.training] as const);
  model.eval();
  return () => {
    for (const [module, training] of modes) module.training = training;
  };
}

/** @internal Runs `fn` with a model in evaluation; afterwards each of its modules is in the mode that it was in. */
export function inEvaluation<T>(model: AnyModule, fn: () => T): T {
  const restore = evaluating(model);
  try {
    return fn();
  } finally {
    restore();
  }
}

/** The report in words, the first few of each kind. */
export function describe(report: LoadReport): string {
  const list = (kind: string, names: readonly string[]): string[] =>
    names.length === 0
      ? []
      : [`${kind} ${names.slice(0, 4).join(', ')}${names.length > 4 ? ` and ${names.length - 4} more` : ''}`];
  const shapes = report.mismatched.map(
    ({ name, expected, got }) => `${name} [${got.join(', ')}] for [${expected.join(', ')}]`,
  );
  return [
    ...list('missing', report.missing),
    ...list('unexpected', report.unexpected),
    ...list('mis-shaped', shapes),
  ].join('; ');
}

/** Copies of a state dict's tensors, which outlive the module's next step. */
export function snapshot(state: Readonly<Record<string, Tensor>>): Record<string, Tensor> {
  expectTensorsByName('snapshot', 'state', state);
  return noGrad(() =>
    Object.fromEntries(Object.entries(state).map(([name, tensor]) => [name, keep(clone(tensor))])),
  );
}
