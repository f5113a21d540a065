/**
 * The methods of `Tensor`: every op whose first argument is a tensor, attached once. `x.add(y)` is `add(x, y)`; the
 * functions hold the documentation.
 */
import type { Device } from '../tensor/device.js';
import type { DType, FloatDType, ItemOf, NumericDType } from '../tensor/dtype.js';
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
import { type IndexAddOptions, gather, indexAdd, indexSelect, scatterAdd } from './indexing.js';
import { split, unbind } from './join.js';
import { matmul } from './matmul.js';
import type { IndexTensor, MaybeLike } from './operand.js';
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

declare module '../tensor/tensor.js' {
  interface Tensor<D extends DType = DType> {
    /** `dispose()` at the end of a `using` block. */
    [Symbol.dispose](): void; // the class has it; TypeScript loses computed names of classes that modules add to
    // arithmetic
    /** See {@link add}. */
    add<N extends NumericDType & D>(this: Tensor<N>, other: Tensor<NoInfer<N>> | number): Tensor<N>;
    /** See {@link add}. */
    add<N extends NumericDType & D, E extends NumericDType>(
      this: Tensor<N>,
      other: MaybeLike<N, E>,
    ): Tensor<N & E>;
    /** See {@link sub}. */
    sub<N extends NumericDType & D>(this: Tensor<N>, other: Tensor<NoInfer<N>> | number): Tensor<N>;
    /** See {@link sub}. */
    sub<N extends NumericDType & D, E extends NumericDType>(
      this: Tensor<N>,
      other: MaybeLike<N, E>,
    ): Tensor<N & E>;
    /** See {@link mul}. */
    mul<N extends NumericDType & D>(this: Tensor<N>, other: Tensor<NoInfer<N>> | number): Tensor<N>;
    /** See {@link mul}. */
    mul<N extends NumericDType & D, E extends NumericDType>(
      this: Tensor<N>,
      other: MaybeLike<N, E>,
    ): Tensor<N & E>;
    /** See {@link div}. */
    div<F extends FloatDType & D>(this: Tensor<F>, other: Tensor<NoInfer<F>> | number): Tensor<F>;
    /** See {@link div}. */
    div<F extends FloatDType & D, E extends FloatDType>(
      this: Tensor<F>,
      other: MaybeLike<F, E>,
    ): Tensor<F & E>;
    /** See {@link pow}. */
    pow<F extends FloatDType & D>(this: Tensor<F>, other: Tensor<NoInfer<F>> | number): Tensor<F>;
    /** See {@link pow}. */
    pow<F extends FloatDType & D, E extends FloatDType>(
      this: Tensor<F>,
      other: MaybeLike<F, E>,
    ): Tensor<F & E>;
    /** See {@link maximum}. */
    maximum<N extends NumericDType & D>(this: Tensor<N>, other: Tensor<NoInfer<N>> | number): Tensor<N>;
    /** See {@link maximum}. */
    maximum<N extends NumericDType & D, E extends NumericDType>(
      this: Tensor<N>,
      other: MaybeLike<N, E>,
    ): Tensor<N & E>;
    /** See {@link minimum}. */
    minimum<N extends NumericDType & D>(this: Tensor<N>, other: Tensor<NoInfer<N>> | number): Tensor<N>;
    /** See {@link minimum}. */
    minimum<N extends NumericDType & D, E extends NumericDType>(
      this: Tensor<N>,
      other: MaybeLike<N, E>,
    ): Tensor<N & E>;
    // comparisons
    /** See {@link equal}. */
    equal(other: Tensor<D> | number): Tensor<'bool'>;
    /** See {@link equal}. */
    equal<E extends DType>(other: MaybeLike<D, E>): Tensor<'bool'>;
    /** See {@link notEqual}. */
    notEqual(other: Tensor<D> | number): Tensor<'bool'>;
    /** See {@link notEqual}. */
    notEqual<E extends DType>(other: MaybeLike<D, E>): Tensor<'bool'>;
    /** See {@link less}. */
    less<N extends NumericDType & D>(this: Tensor<N>, other: Tensor<NoInfer<N>> | number): Tensor<'bool'>;
    /** See {@link less}. */
    less<N extends NumericDType & D, E extends NumericDType>(
      this: Tensor<N>,
      other: MaybeLike<N, E>,
    ): Tensor<'bool'>;
    /** See {@link lessEqual}. */
    lessEqual<N extends NumericDType & D>(
      this: Tensor<N>,
      other: Tensor<NoInfer<N>> | number,
    ): Tensor<'bool'>;
    /** See {@link lessEqual}. */
    lessEqual<N extends NumericDType & D, E extends NumericDType>(
      this: Tensor<N>,
      other: MaybeLike<N, E>,
    ): Tensor<'bool'>;
    /** See {@link greater}. */
    greater<N extends NumericDType & D>(this: Tensor<N>, other: Tensor<NoInfer<N>> | number): Tensor<'bool'>;
    /** See {@link greater}. */
    greater<N extends NumericDType & D, E extends NumericDType>(
      this: Tensor<N>,
      other: MaybeLike<N, E>,
    ): Tensor<'bool'>;
    /** See {@link greaterEqual}. */
    greaterEqual<N extends NumericDType & D>(
      this: Tensor<N>,
      other: Tensor<NoInfer<N>> | number,
    ): Tensor<'bool'>;
    /** See {@link greaterEqual}. */
    greaterEqual<N extends NumericDType & D, E extends NumericDType>(
      this: Tensor<N>,
      other: MaybeLike<N, E>,
    ): Tensor<'bool'>;
    /** See {@link logicalAnd}. */
    logicalAnd(this: Tensor<'bool'>, other: Tensor<'bool'>): Tensor<'bool'>;
    /** See {@link logicalOr}. */
    logicalOr(this: Tensor<'bool'>, other: Tensor<'bool'>): Tensor<'bool'>;
    /** See {@link logicalNot}. */
    logicalNot(this: Tensor<'bool'>): Tensor<'bool'>;
    // element by element
    /** See {@link neg}. */
    neg<N extends NumericDType & D>(this: Tensor<N>): Tensor<N>;
    /** See {@link abs}. */
    abs<N extends NumericDType & D>(this: Tensor<N>): Tensor<N>;
    /** See {@link sign}. */
    sign<N extends NumericDType & D>(this: Tensor<N>): Tensor<N>;
    /** See {@link exp}. */
    exp<F extends FloatDType & D>(this: Tensor<F>): Tensor<F>;
    /** See {@link log}. */
    log<F extends FloatDType & D>(this: Tensor<F>): Tensor<F>;
    /** See {@link sqrt}. */
    sqrt<F extends FloatDType & D>(this: Tensor<F>): Tensor<F>;
    /** See {@link rsqrt}. */
    rsqrt<F extends FloatDType & D>(this: Tensor<F>): Tensor<F>;
    /** See {@link sin}. */
    sin<F extends FloatDType & D>(this: Tensor<F>): Tensor<F>;
    /** See {@link cos}. */
    cos<F extends FloatDType & D>(this: Tensor<F>): Tensor<F>;
    /** See {@link erf}. */
    erf<F extends FloatDType & D>(this: Tensor<F>): Tensor<F>;
    /** See {@link tanh}. */
    tanh<F extends FloatDType & D>(this: Tensor<F>): Tensor<F>;
    /** See {@link sigmoid}. */
    sigmoid<F extends FloatDType & D>(this: Tensor<F>): Tensor<F>;
    /** See {@link relu}. */
    relu<N extends NumericDType & D>(this: Tensor<N>): Tensor<N>;
    /** See {@link gelu}. */
    gelu<F extends FloatDType & D>(this: Tensor<F>, options?: GeluOptions): Tensor<F>;
    /** See {@link silu}. */
    silu<F extends FloatDType & D>(this: Tensor<F>): Tensor<F>;
    /** See {@link clamp}. */
    clamp<N extends NumericDType & D>(this: Tensor<N>, min: number, max?: number): Tensor<N>;
    /** See {@link maskedFill}. */
    maskedFill(mask: Tensor<'bool'>, value: number): Tensor<D>;
    // reductions
    /** See {@link sum}. */
    sum<F extends FloatDType & D>(this: Tensor<F>, options?: ReduceOptions): Tensor<F>;
    /** See {@link sum}. */
    sum(this: Tensor<Exclude<DType, FloatDType>>, options?: ReduceOptions): Tensor<'int64'>;
    /** See {@link mean}. */
    mean<F extends FloatDType & D>(this: Tensor<F>, options?: ReduceOptions): Tensor<F>;
    /** See {@link variance}. */
    variance<F extends FloatDType & D>(this: Tensor<F>, options?: VarianceOptions): Tensor<F>;
    /** See {@link max}. */
    max<N extends NumericDType & D>(this: Tensor<N>, options?: ReduceOptions): Tensor<N>;
    /** See {@link min}. */
    min<N extends NumericDType & D>(this: Tensor<N>, options?: ReduceOptions): Tensor<N>;
    /** See {@link argmax}. */
    argmax<N extends NumericDType & D>(this: Tensor<N>, options?: ArgOptions): Tensor<'int64'>;
    /** See {@link argmin}. */
    argmin<N extends NumericDType & D>(this: Tensor<N>, options?: ArgOptions): Tensor<'int64'>;
    /** See {@link any}. */
    any(this: Tensor<'bool'>, options?: ReduceOptions): Tensor<'bool'>;
    /** See {@link all}. */
    all(this: Tensor<'bool'>, options?: ReduceOptions): Tensor<'bool'>;
    /** See {@link cumsum}. */
    cumsum<N extends NumericDType & D>(this: Tensor<N>, dim: number): Tensor<N>;
    /** See {@link topk}. */
    topk<F extends FloatDType & D>(
      this: Tensor<F>,
      k: number,
      options?: TopkOptions,
    ): { values: Tensor<F>; indices: Tensor<'int64'> };
    /** See {@link softmax}. */
    softmax<F extends FloatDType & D>(this: Tensor<F>, options?: SoftmaxOptions): Tensor<F>;
    /** See {@link logSoftmax}. */
    logSoftmax<F extends FloatDType & D>(this: Tensor<F>, options?: SoftmaxOptions): Tensor<F>;
    /** See {@link logsumexp}. */
    logsumexp<F extends FloatDType & D>(this: Tensor<F>, options?: LogsumexpOptions): Tensor<F>;
    // shape
    /** See {@link reshape}. */
    reshape(shape: readonly number[]): Tensor<D>;
    /** See {@link permute}. */
    permute(dims: readonly number[]): Tensor<D>;
    /** See {@link transpose}. */
    transpose(dim0?: number, dim1?: number): Tensor<D>;
    /** See {@link expand}. */
    expand(shape: readonly number[]): Tensor<D>;
    /** See {@link squeeze}. */
    squeeze(dim?: number | readonly number[]): Tensor<D>;
    /** See {@link unsqueeze}. */
    unsqueeze(dim: number): Tensor<D>;
    /** See {@link flatten}. */
    flatten(startDim?: number, endDim?: number): Tensor<D>;
    /** See {@link slice}. */
    slice(...ranges: readonly SliceRange[]): Tensor<D>;
    /** See {@link select}. */
    select(dim: number, index: number): Tensor<D>;
    /** See {@link narrow}. */
    narrow(dim: number, start: number, length: number): Tensor<D>;
    /** See {@link split}. */
    split(size: number | readonly number[], dim?: number): Tensor<D>[];
    /** See {@link unbind}. */
    unbind(dim?: number): Tensor<D>[];
    /** See {@link pad}. */
    pad(padding: readonly (readonly [before: number, after: number])[], value?: number): Tensor<D>;
    /** See {@link roll}. */
    roll(shifts: number | readonly number[], dims: number | readonly number[]): Tensor<D>;
    /** See {@link flip}. */
    flip(dims: number | readonly number[]): Tensor<D>;
    // indexing
    /** See {@link indexSelect}. */
    indexSelect(dim: number, index: IndexTensor): Tensor<D>;
    /** See {@link indexAdd}. */
    indexAdd<N extends NumericDType & D>(
      this: Tensor<N>,
      dim: number,
      index: IndexTensor,
      src: Tensor<NoInfer<N>>,
      options?: IndexAddOptions,
    ): Tensor<N>;
    /** See {@link gather}. */
    gather(dim: number, index: IndexTensor): Tensor<D>;
    /** See {@link scatterAdd}. */
    scatterAdd<N extends NumericDType & D>(
      this: Tensor<N>,
      dim: number,
      index: IndexTensor,
      src: Tensor<NoInfer<N>>,
    ): Tensor<N>;
    // products
    /** See {@link matmul}. */
    matmul<F extends FloatDType & D>(this: Tensor<F>, other: Tensor<NoInfer<F>>): Tensor<F>;
    // conversion
    /** See {@link to}. */
    to<E extends DType>(dtype: E): Tensor<E>;
    /** See {@link to}. */
    to(device: Device): Tensor<D>;
    /** See {@link clone}. */
    clone(): Tensor<D>;
    /** See {@link toArray}. */
    toArray(): Promise<NestedValues<ItemOf[D]>>;
    // gradients
    /** See {@link backward}. */
    backward(options?: BackwardOptions): void;
    /** See {@link detach}. */
    detach(): Tensor<D>;
    /** See {@link registerHook}. */
    registerHook(hook: GradientHook): () => void;
    /** See {@link setRequiresGrad}. */
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
  indexAdd,
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
  | 'half'
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
  | 'toString'
  | 'toJSON';

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
