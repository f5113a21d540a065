/**
 * The methods of `Tensor`: every op whose first argument is a tensor, attached once. `x.add(y)` is `add(x, y)`; the
 * functions hold the documentation.
 */
import type { DType, FloatDType, IndexDType, ItemOf, NumericDType } from '../tensor/dtype.js';
import { type BackwardOptions, backward, detach, registerHook, setRequiresGrad } from '../tensor/tape.js';
import { Tensor } from '../tensor/tensor.js';
import { add, div, maximum, minimum, mul, pow, sub } from './arithmetic.js';
import {
  equal,
  greater,
  greaterEqual,
  less,
  lessEqual,
  logicalAnd,
  logicalOr,
  notEqual,
} from './comparison.js';
import { clone, to } from './creation.js';
import { gather, indexSelect, scatterAdd } from './indexing.js';
import { split, unbind } from './join.js';
import { matmul } from './matmul.js';
import { flip, pad, roll } from './pad.js';
import {
  type ArgOptions,
  type ReduceOptions,
  type VarianceOptions,
  all,
  any,
  argmax,
  argmin,
  max,
  mean,
  min,
  sum,
  variance,
} from './reduce.js';
import { type TopkOptions, cumsum, topk } from './scan.js';
import { expand, flatten, permute, reshape, squeeze, transpose, unsqueeze } from './shape.js';
import { type SliceRange, narrow, select, slice } from './slice.js';
import { type LogsumexpOptions, type SoftmaxOptions, logSoftmax, logsumexp, softmax } from './softmax.js';
import { type NestedValues, toArray } from './tensor.js';
import {
  type GeluOptions,
  abs,
  clamp,
  cos,
  erf,
  exp,
  gelu,
  log,
  logicalNot,
  neg,
  relu,
  rsqrt,
  sigmoid,
  sign,
  silu,
  sin,
  sqrt,
  tanh,
} from './unary.js';
import { maskedFill } from './where.js';

type Index = Tensor<'int32'> | Tensor<'int64'> | Tensor<IndexDType>;

declare module '../tensor/tensor.js' {
  interface Tensor<D extends DType = DType> {
    [Symbol.dispose](): void; // the class has it; TypeScript loses computed names of classes that modules add to
    // arithmetic
    add<N extends NumericDType & D>(this: Tensor<N>, other: Tensor<NoInfer<N>> | number): Tensor<N>;
    sub<N extends NumericDType & D>(this: Tensor<N>, other: Tensor<NoInfer<N>> | number): Tensor<N>;
    mul<N extends NumericDType & D>(this: Tensor<N>, other: Tensor<NoInfer<N>> | number): Tensor<N>;
    div<F extends FloatDType & D>(this: Tensor<F>, other: Tensor<NoInfer<F>> | number): Tensor<F>;
    pow<F extends FloatDType & D>(this: Tensor<F>, other: Tensor<NoInfer<F>> | number): Tensor<F>;
    maximum<N extends NumericDType & D>(this: Tensor<N>, other: Tensor<NoInfer<N>> | number): Tensor<N>;
    minimum<N extends NumericDType & D>(this: Tensor<N>, other: Tensor<NoInfer<N>> | number): Tensor<N>;
    // comparisons
    equal(other: Tensor<D> | number): Tensor<'bool'>;
    notEqual(other: Tensor<D> | number): Tensor<'bool'>;
    less<N extends NumericDType & D>(this: Tensor<N>, other: Tensor<NoInfer<N>> | number): Tensor<'bool'>;
    lessEqual<N extends NumericDType & D>(
      this: Tensor<N>,
      other: Tensor<NoInfer<N>> | number,
    ): Tensor<'bool'>;
    greater<N extends NumericDType & D>(this: Tensor<N>, other: Tensor<NoInfer<N>> | number): Tensor<'bool'>;
    greaterEqual<N extends NumericDType & D>(
      this: Tensor<N>,
      other: Tensor<NoInfer<N>> | number,
    ): Tensor<'bool'>;
    logicalAnd(this: Tensor<'bool'>, other: Tensor<'bool'>): Tensor<'bool'>;
    logicalOr(this: Tensor<'bool'>, other: Tensor<'bool'>): Tensor<'bool'>;
    logicalNot(this: Tensor<'bool'>): Tensor<'bool'>;
    // element by element
    neg<N extends NumericDType & D>(this: Tensor<N>): Tensor<N>;
    abs<N extends NumericDType & D>(this: Tensor<N>): Tensor<N>;
    sign<N extends NumericDType & D>(this: Tensor<N>): Tensor<N>;
    exp<F extends FloatDType & D>(this: Tensor<F>): Tensor<F>;
    log<F extends FloatDType & D>(this: Tensor<F>): Tensor<F>;
    sqrt<F extends FloatDType & D>(this: Tensor<F>): Tensor<F>;
    rsqrt<F extends FloatDType & D>(this: Tensor<F>): Tensor<F>;
    sin<F extends FloatDType & D>(this: Tensor<F>): Tensor<F>;
    cos<F extends FloatDType & D>(this: Tensor<F>): Tensor<F>;
    erf<F extends FloatDType & D>(this: Tensor<F>): Tensor<F>;
    tanh<F extends FloatDType & D>(this: Tensor<F>): Tensor<F>;
    sigmoid<F extends FloatDType & D>(this: Tensor<F>): Tensor<F>;
    relu<N extends NumericDType & D>(this: Tensor<N>): Tensor<N>;
    gelu<F extends FloatDType & D>(this: Tensor<F>, options?: GeluOptions): Tensor<F>;
    silu<F extends FloatDType & D>(this: Tensor<F>): Tensor<F>;
    clamp<N extends NumericDType & D>(this: Tensor<N>, min: number, max?: number): Tensor<N>;
    maskedFill(mask: Tensor<'bool'>, value: number): Tensor<D>;
    // reductions
    sum<F extends FloatDType & D>(this: Tensor<F>, options?: ReduceOptions): Tensor<F>;
    mean<F extends FloatDType & D>(this: Tensor<F>, options?: ReduceOptions): Tensor<F>;
    variance<F extends FloatDType & D>(this: Tensor<F>, options?: VarianceOptions): Tensor<F>;
    max<N extends NumericDType & D>(this: Tensor<N>, options?: ReduceOptions): Tensor<N>;
    min<N extends NumericDType & D>(this: Tensor<N>, options?: ReduceOptions): Tensor<N>;
    argmax<N extends NumericDType & D>(this: Tensor<N>, options?: ArgOptions): Tensor<'int64'>;
    argmin<N extends NumericDType & D>(this: Tensor<N>, options?: ArgOptions): Tensor<'int64'>;
    any(this: Tensor<'bool'>, options?: ReduceOptions): Tensor<'bool'>;
    all(this: Tensor<'bool'>, options?: ReduceOptions): Tensor<'bool'>;
    cumsum<N extends NumericDType & D>(this: Tensor<N>, dim: number): Tensor<N>;
    topk<F extends FloatDType & D>(
      this: Tensor<F>,
      k: number,
      options?: TopkOptions,
    ): { values: Tensor<F>; indices: Tensor<'int64'> };
    softmax<F extends FloatDType & D>(this: Tensor<F>, options?: SoftmaxOptions): Tensor<F>;
    logSoftmax<F extends FloatDType & D>(this: Tensor<F>, options?: SoftmaxOptions): Tensor<F>;
    logsumexp<F extends FloatDType & D>(this: Tensor<F>, options?: LogsumexpOptions): Tensor<F>;
    // shape
    reshape(shape: readonly number[]): Tensor<D>;
    permute(dims: readonly number[]): Tensor<D>;
    transpose(dim0?: number, dim1?: number): Tensor<D>;
    expand(shape: readonly number[]): Tensor<D>;
    squeeze(dim?: number | readonly number[]): Tensor<D>;
    unsqueeze(dim: number): Tensor<D>;
    flatten(startDim?: number, endDim?: number): Tensor<D>;
    slice(...ranges: readonly SliceRange[]): Tensor<D>;
    select(dim: number, index: number): Tensor<D>;
    narrow(dim: number, start: number, length: number): Tensor<D>;
    split(size: number | readonly number[], dim?: number): Tensor<D>[];
    unbind(dim?: number): Tensor<D>[];
    pad(padding: readonly (readonly [before: number, after: number])[], value?: number): Tensor<D>;
    roll(shifts: number | readonly number[], dims: number | readonly number[]): Tensor<D>;
    flip(dims: number | readonly number[]): Tensor<D>;
    // indexing
    indexSelect(dim: number, index: Index): Tensor<D>;
    gather(dim: number, index: Index): Tensor<D>;
    scatterAdd<N extends NumericDType & D>(
      this: Tensor<N>,
      dim: number,
      index: Index,
      src: Tensor<NoInfer<N>>,
    ): Tensor<N>;
    // products
    matmul<F extends FloatDType & D>(this: Tensor<F>, other: Tensor<NoInfer<F>>): Tensor<F>;
    // conversion
    to<E extends DType>(dtype: E): Tensor<E>;
    clone(): Tensor<D>;
    toArray(): Promise<NestedValues<ItemOf[D]>>;
    // gradients
    backward(options?: BackwardOptions): void;
    detach(): Tensor<D>;
    registerHook(hook: GradientHook): () => void;
    setRequiresGrad<F extends FloatDType & D>(this: Tensor<F>, value?: boolean): Tensor<F>;
  }
}

const METHODS = {
  abs,
  add,
  all,
  any,
  argmax,
  argmin,
  backward,
  clamp,
  clone,
  cos,
  cumsum,
  detach,
  div,
  equal,
  erf,
  exp,
  expand,
  flatten,
  flip,
  gather,
  gelu,
  greater,
  greaterEqual,
  indexSelect,
  less,
  lessEqual,
  log,
  logSoftmax,
  logicalAnd,
  logicalNot,
  logicalOr,
  logsumexp,
  maskedFill,
  matmul,
  max,
  maximum,
  mean,
  min,
  minimum,
  mul,
  narrow,
  neg,
  notEqual,
  pad,
  permute,
  pow,
  registerHook,
  relu,
  reshape,
  roll,
  rsqrt,
  scatterAdd,
  select,
  setRequiresGrad,
  sigmoid,
  sign,
  silu,
  sin,
  slice,
  softmax,
  split,
  sqrt,
  squeeze,
  sub,
  sum,
  tanh,
  to,
  toArray,
  topk,
  transpose,
  unbind,
  unsqueeze,
  variance,
} as const;

/** What `Tensor` has of its own, before any method is attached. */
type OwnKeys =
  | 'handle'
  | 'edge'
  | 'kept'
  | 'grad'
  | 'id'
  | 'shape'
  | 'strides'
  | 'dtype'
  | 'device'
  | 'ndim'
  | 'size'
  | 'requiresGrad'
  | 'isDisposed'
  | 'dispose'
  | 'data'
  | 'dataSync'
  | 'item'
  | 'itemSync'
  | 'toString';

/** The declared methods and the attached ones are the same; a missing or surplus one is a type error here. */
type Declared = Exclude<Extract<keyof Tensor, string>, OwnKeys>;
const attached: Record<Declared, unknown> & Record<keyof typeof METHODS, unknown> = METHODS;
const declared: Record<keyof typeof METHODS, unknown> extends Record<Declared, unknown> ? true : never = true;
void declared;

for (const [name, method] of Object.entries(attached)) {
  const op = method as (self: Tensor, ...args: unknown[]) => unknown;
  Object.defineProperty(Tensor.prototype, name, {
    configurable: true,
    writable: true,
    value(this: Tensor, ...args: unknown[]) {
      return op(this, ...args);
    },
  });
}
