/**
 * The tensor: a small handle on a strided view of native memory. Its methods are the ops (`src/ops/methods.ts`
 * attaches them); this file holds only what a tensor is and how its values are read.
 */
import { constants } from 'node:buffer';

import { native, type TensorId } from '../native.js';
import { DTYPES, type DType, type DataOf, type FloatDType, type ItemOf, dtypeCode } from './dtype.js';
import { type Device, deviceName } from './device.js';
import { TensorError, awaited, fail, shown } from './error.js';
import { Handle, enterScope } from './handle.js';
import { type OptionNames, expectOptions } from './options.js';

native.setErrorClass(TensorError as new (message: string, op: string, code: string) => Error);

/** @internal A step of the tape: an op that was recorded, or a leaf that collects a gradient. */
export interface GraphNode {
  readonly name: string;
  /** Grows as nodes are made: a node's inputs always have smaller numbers. */
  readonly sequence: number;
  /** Where the gradients of the inputs go, one for each; undefined where none is wanted. */
  readonly inputs: readonly (Edge | undefined)[];
  /** Number of outputs. */
  readonly outputs: number;
  /**
   * The gradients of the inputs from those of the outputs (undefined stands for zero). `take` hands over what has come so
   * far for an input; the node then returns the sum.
   */
  backward(
    gradients: readonly (Tensor | undefined)[],
    take: (input: number, dtype: DType) => Tensor | undefined,
  ): readonly (Tensor | undefined)[];
  /** Lets go of what was saved for backward. */
  release(): void;
  /** Who may still need it: live tensors that it made, and nodes that take their inputs from it. */
  owners: number;
  hooks?: Map<number, GradientHook[]>;
  /** Set on a leaf: the tensor whose `grad` collects. */
  readonly leaf?: Tensor;
}

/** @internal A tensor's values in 16 bits, as they were after its latest write in place. */
export interface HalfCopy {
  readonly tensor: Tensor;
  readonly written: number;
}

/** @internal One output of a node. */
export interface Edge {
  readonly node: GraphNode;
  readonly index: number;
}

/** Sees a gradient on its way, and may return another one to take its place. */
export type GradientHook = (gradient: Tensor<FloatDType>) => Tensor | undefined;

interface ReadOptions {
  readonly bigint?: boolean;
}

const READ_OPTIONS = { bigint: true } satisfies OptionNames<ReadOptions>;

interface Description {
  readonly dtype: DType;
  readonly device: Device;
  readonly shape: readonly number[];
  readonly strides: readonly number[];
}

/**
 * An array of numbers with a shape, a dtype and a device, whose memory is native. Values arrive when the device has
 * computed them: `data()` and `item()` wait without blocking the event loop. Memory is freed by the scope that the tensor
 * was made in, by `dispose()` or `using`, or at last by the garbage collector.
 *
 * Every op whose first argument is a tensor is also a method: `x.add(y)` is `add(x, y)`.
 *
 * @example
 * const x = tensor([[1, 2], [3, 4]]);
 * console.log(x.shape, await x.matmul(x).toArray()); // [2, 2] [[7, 10], [15, 22]]
 */
export class Tensor<D extends DType = DType> {
  /** @internal */
  readonly handle: Handle;
  /** @internal Where gradients go; undefined when none are wanted. Set by `setEdge()`. */
  edge: Edge | undefined;
  /** @internal Set by `keep()`. */
  kept = false;
  /** @internal Made by autocast, renewed by optimizers. */
  half: HalfCopy | undefined;
  private gradient: Tensor<D> | undefined;
  private description: Description | undefined;
  private disposed = false;

  /** @internal Use `tensor()`, `zeros()` and the other creation functions. */
  constructor(handle: Handle) {
    this.handle = handle;
    enterScope(this);
  }

  /** @internal The native identifier. @throws TensorError DISPOSED */
  get id(): TensorId {
    if (this.disposed) {
      fail(
        'tensor',
        'DISPOSED',
        `expected a live tensor, got one that was disposed${this.describeDisposed()}`,
      );
    }
    return this.handle.id;
  }

  private describeDisposed(): string {
    const known = this.description;
    return known === undefined ? '' : ` (${known.dtype} [${known.shape.join(', ')}])`;
  }

  private get about(): Description {
    if (this.description === undefined) {
      native.describe(this.id);
      const box = native.mailbox;
      const ndim = box[2];
      this.description = {
        dtype: DTYPES[box[0]],
        device: deviceName(box[1]),
        shape: Array.from(box.subarray(3, 3 + ndim)),
        strides: Array.from(box.subarray(3 + ndim, 3 + 2 * ndim)),
      };
    }
    return this.description;
  }

  /** Sizes, outermost first. */
  get shape(): readonly number[] {
    return this.about.shape;
  }

  /** Distances between neighbours along each dimension, in elements; 0 where a dimension is broadcast. */
  get strides(): readonly number[] {
    return this.about.strides;
  }

  /** The type of its elements. */
  get dtype(): D {
    return this.about.dtype as D;
  }

  /** Where its memory is. */
  get device(): Device {
    return this.about.device;
  }

  /** The number of dimensions. */
  get ndim(): number {
    return this.about.shape.length;
  }

  /** Number of elements. */
  get size(): number {
    return this.about.shape.reduce((product, n) => product * n, 1);
  }

  /** Whether it collects (a leaf) or passes on (a result) gradients. */
  get requiresGrad(): boolean {
    return this.edge !== undefined;
  }

  /**
   * The accumulated gradient of a leaf, after `backward()`. Setting it to undefined, or null, takes it away. One that is set belongs
   * to the leaf: no scope frees it, but the next `backward()`, `zeroGrad()` or `dispose()` does.
   */
  get grad(): Tensor<D> | undefined {
    return this.gradient;
  }

  /** @throws TensorError VALUE for what is neither a tensor nor nothing */
  set grad(gradient: Tensor<D> | null | undefined) {
    const isTensor = gradient instanceof Tensor;
    if (!isTensor && gradient !== undefined && gradient !== null) {
      fail('grad', 'VALUE', `expected a tensor or undefined, got ${shown(gradient)}`);
    }
    if (isTensor) gradient.kept = true;
    this.gradient = gradient ?? undefined;
  }

  /** Whether its memory has been given up; any other use is then an error. */
  get isDisposed(): boolean {
    return this.disposed;
  }

  /**
   * Frees the native memory, unless an alias or the tape still needs it, its gradient, and the part of the tape that led
   * to this tensor alone. A second call does nothing.
   */
  dispose(): void {
    if (this.disposed) return;
    this.disposed = true;
    this.handle.release();
    this.grad?.dispose();
    this.grad = undefined;
    this.half?.tensor.dispose();
    this.half = undefined;
    setEdge(this, undefined);
  }

  /** `dispose()` at the end of a `using` block. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  /**
   * The elements in row-major order, once they have been computed; never blocks the event loop.
   *
   * @param options.bigint for int64: a BigInt64Array instead of a Float64Array.
   * @throws TensorError VALUE when an int64 beyond 2^53 is read without `bigint`, or more elements than an array of Node.js
   *   takes (2^32 in Node 20); any error of the ops before it.
   */
  data(this: Tensor<'int64'>, options: { bigint: true }): Promise<BigInt64Array>;
  data(): Promise<DataOf[D]>;
  async data(options: ReadOptions = {}): Promise<DataOf[D] | BigInt64Array> {
    return (await this.read('data', options)) as DataOf[D] | BigInt64Array;
  }

  /** As `data()`, but blocks the thread until the values are there. */
  dataSync(this: Tensor<'int64'>, options: { bigint: true }): BigInt64Array;
  dataSync(): DataOf[D];
  dataSync(options: ReadOptions = {}): DataOf[D] | BigInt64Array {
    return this.readSync('dataSync', options) as DataOf[D] | BigInt64Array;
  }

  /** The value of a tensor with one element. @throws TensorError SHAPE for any other size. */
  item(this: Tensor<'int64'>, options: { bigint: true }): Promise<bigint>;
  item(): Promise<ItemOf[D]>;
  async item(options: ReadOptions = {}): Promise<ItemOf[D] | bigint> {
    this.expectOneElement();
    return this.itemOf(await this.read('item', options));
  }

  /** As `item()`, but blocks. */
  itemSync(this: Tensor<'int64'>, options: { bigint: true }): bigint;
  itemSync(): ItemOf[D];
  itemSync(options: ReadOptions = {}): ItemOf[D] | bigint {
    this.expectOneElement();
    return this.itemOf(this.readSync('itemSync', options));
  }

  private async read(op: string, options: ReadOptions): Promise<DataOf[DType] | BigInt64Array> {
    expectOptions(op, options, READ_OPTIONS);
    const readable = this.readable();
    try {
      const buffer = await awaited(native.read(readable.id));
      return toTypedArray(buffer, this.dtype, options.bigint === true);
    } finally {
      if (readable !== this) readable.dispose();
    }
  }

  private readSync(op: string, options: ReadOptions): DataOf[DType] | BigInt64Array {
    expectOptions(op, options, READ_OPTIONS);
    const readable = this.readable();
    try {
      return toTypedArray(native.readSync(readable.id), this.dtype, options.bigint === true);
    } finally {
      if (readable !== this) readable.dispose();
    }
  }

  private expectOneElement(): void {
    if (this.size !== 1) fail('item', 'SHAPE', `expected one element, got shape [${this.shape.join(', ')}]`);
  }

  private itemOf([value]: DataOf[DType] | BigInt64Array): ItemOf[D] | bigint {
    const dtype: DType = this.dtype;
    return (dtype === 'bool' ? value !== 0 : value) as ItemOf[D] | bigint;
  }

  /** 16-bit floats are widened by the device before they are read. */
  private readable(): Tensor {
    if (this.size > constants.MAX_LENGTH) {
      fail(
        'data',
        'VALUE',
        `expected at most ${constants.MAX_LENGTH} elements, as an array of this Node.js takes, got ${this.toString()}; read it in parts`,
      );
    }
    const dtype: DType = this.dtype;
    const narrow = dtype === 'bfloat16' || dtype === 'float16';
    return narrow ? wrap(native.to(this.id, dtypeCode('float32'))) : this;
  }

  /** `Tensor float32 [2, 3] cpu` */
  toString(): string {
    if (this.disposed) return `Tensor (disposed${this.describeDisposed()})`;
    return `Tensor ${this.dtype} [${this.shape.join(', ')}] ${this.device}`;
  }

  /**
   * A tensor has no JSON: its values arrive later.
   *
   * @throws TensorError VALUE
   * @example
   * JSON.stringify({ loss: await loss.toArray() });
   */
  toJSON(): never {
    return fail(
      'toJSON',
      'VALUE',
      `expected values, got ${this.toString()}; put await x.toArray(), or what await x.data() gives, in its place`,
    );
  }

  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return this.toString();
  }
}

/** @internal A new tensor on a native one. */
export function wrap<D extends DType = DType>(id: TensorId): Tensor<D> {
  return new Tensor<D>(new Handle(id));
}

/** @internal Another owner of the same native tensor, without its place in the graph. */
export function share<D extends DType>(tensor: Tensor<D>): Tensor<D> {
  void tensor.id; // throws when disposed
  return new Tensor<D>(tensor.handle.retain());
}

/** @internal Gives a tensor a place in the graph, or takes it away. A node that nobody needs any more is released. */
export function setEdge(tensor: Tensor, edge: Edge | undefined): void {
  const before = tensor.edge;
  tensor.edge = edge;
  if (edge !== undefined) edge.node.owners += 1;
  const unneeded = before === undefined ? [] : [before.node];
  for (let node = unneeded.pop(); node !== undefined; node = unneeded.pop()) {
    node.owners -= 1;
    if (node.owners > 0) continue;
    node.release();
    for (const input of node.inputs) if (input !== undefined) unneeded.push(input.node);
  }
}

function toTypedArray(buffer: ArrayBuffer, dtype: DType, bigint: boolean): DataOf[DType] | BigInt64Array {
  switch (dtype) {
    case 'float32':
    case 'bfloat16':
    case 'float16':
      return new Float32Array(buffer);
    case 'float64':
      return new Float64Array(buffer);
    case 'int32':
      return new Int32Array(buffer);
    case 'int64': {
      const exact = new BigInt64Array(buffer);
      if (bigint) return exact;
      return Float64Array.from(exact, (value) => {
        const number = Number(value);
        if (!Number.isSafeInteger(number)) {
          fail(
            'data',
            'VALUE',
            `expected int64 values up to 2^53, got ${value}; read them with { bigint: true }`,
          );
        }
        return number;
      });
    }
    case 'uint8':
    case 'bool':
      return new Uint8Array(buffer);
  }
}
