/**
 * Modules in a row. Their names in a state dict are their positions: `blocks.0`, `blocks.1`, ...
 */
import { expectTensors } from '../tensor/arguments.js';
import { type AnyModule, type FloatTensor, Module, type TensorModule } from './module.js';

/**
 * A list of modules, which the owner calls as it likes. A plain array would not do: its modules would have no names.
 *
 * @example
 * readonly blocks = new ModuleList(Array.from({ length: 12 }, () => new Linear(64, 64)));
 */
export class ModuleList<M extends AnyModule> extends Module implements Iterable<M> {
  private readonly items: readonly M[];

  constructor(items: readonly M[]) {
    super();
    this.items = items;
  }

  /** How many modules there are. */
  get length(): number {
    return this.items.length;
  }

  /** The module at a position, from the end when negative. */
  at(index: number): M | undefined {
    return this.items.at(index);
  }

  /** The modules, in order. */
  [Symbol.iterator](): Iterator<M> {
    return this.items[Symbol.iterator]();
  }

  override children(): [name: string, module: AnyModule][] {
    return this.items.map((item, i): [string, AnyModule] => [`${i}`, item]);
  }

  override forward(): never {
    throw new TypeError('ModuleList: expected its modules to be called one by one, got a call of the list');
  }
}

/**
 * Calls modules one after the other.
 *
 * @example
 * new Sequential([new Linear(64, 128), new GELU(), new Linear(128, 10)])
 */
export class Sequential extends Module<[x: FloatTensor], FloatTensor> {
  private readonly items: readonly TensorModule[];

  constructor(items: readonly TensorModule[]) {
    super();
    this.items = items;
  }

  override children(): [name: string, module: AnyModule][] {
    return this.items.map((item, i): [string, AnyModule] => [`${i}`, item]);
  }

  override forward(x: FloatTensor): FloatTensor {
    expectTensors('Sequential', x);
    return this.items.reduce((y, item) => item.call(y), x);
  }
}

/** Adds what goes in to what a module makes of it: `y = x + f(x)`. */
export class Residual extends Module<[x: FloatTensor], FloatTensor> {
  readonly fn: TensorModule;

  constructor(fn: TensorModule) {
    super();
    this.fn = fn;
  }

  override forward(x: FloatTensor): FloatTensor {
    expectTensors('Residual', x);
    return x.add(this.fn.call(x));
  }
}

/** Normalises before a module: `y = f(norm(x))`. With `Residual` around it, the block of ViT. */
export class PreNorm extends Module<[x: FloatTensor], FloatTensor> {
  readonly norm: TensorModule;
  readonly fn: TensorModule;

  constructor(norm: TensorModule, fn: TensorModule) {
    super();
    this.norm = norm;
    this.fn = fn;
  }

  override forward(x: FloatTensor): FloatTensor {
    return this.fn.call(this.norm.call(x));
  }
}

/** Normalises after a module: `y = norm(f(x))`. With `Residual` around it, the block of Swin v2. */
export class PostNorm extends Module<[x: FloatTensor], FloatTensor> {
  readonly norm: TensorModule;
  readonly fn: TensorModule;

  constructor(norm: TensorModule, fn: TensorModule) {
    super();
    this.norm = norm;
    this.fn = fn;
  }

  override forward(x: FloatTensor): FloatTensor {
    return this.norm.call(this.fn.call(x));
  }
}
