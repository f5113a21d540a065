/**
 * Functions of one operand, element by element, and their derivatives as one table.
 */
import { native, type TensorId } from '../native.js';
import { type OptionNames, expectOptions, expectTensors } from '../tensor/arguments.js';
import { ownOp } from '../tensor/define-op.js';
import type { FloatDType, NumericDType } from '../tensor/dtype.js';
import { fail, named } from '../tensor/error.js';
import { type Tensor, wrap } from '../tensor/tensor.js';
import { applyBinary, choose, negative, over, power, times, zeroView } from './operand.js';

type Backward = (dy: Tensor, xOrY: Tensor) => Tensor;

/** A fused kernel: backward(dy, x or y). */
const fused =
  (kernel: typeof native.reluBackward): Backward =>
  (dy, xOrY) =>
    applyBinary(kernel, dy, xOrY);

/** 2 / sqrt(pi), the slope of erf at 0. */
const ERF_SLOPE = 2 / Math.sqrt(Math.PI);

/** For each function y(x): whether its derivative reads x or y (the one kept for backward), and dx from dy and that. */
const DERIVATIVES = {
  neg: ['none', (dy) => negative(dy)],
  abs: ['x', fused(native.absBackward)],
  exp: ['y', (dy, y) => times(dy, y)],
  log: ['x', (dy, x) => over(dy, x)],
  sqrt: ['y', (dy, y) => over(times(dy, 0.5), y)],
  rsqrt: ['y', (dy, y) => times(dy, times(power(y, 3), -0.5))],
  tanh: ['y', fused(native.tanhBackward)],
  sigmoid: ['y', fused(native.sigmoidBackward)],
  relu: ['y', fused(native.reluBackward)],
  gelu: ['x', fused(native.geluBackward)],
  geluTanh: ['x', fused(native.geluTanhBackward)],
  silu: ['x', fused(native.siluBackward)],
  sin: ['x', (dy, x) => times(dy, wrap(native.cos(x.id)))],
  cos: ['x', (dy, x) => times(dy, negative(wrap(native.sin(x.id))))],
  erf: ['x', (dy, x) => times(dy, times(wrap(native.exp(negative(times(x, x)).id)), ERF_SLOPE))],
} as const satisfies Record<string, readonly ['none' | 'x' | 'y', Backward]>;

/** What 16 bits are too few for, as in PyTorch. */
const IN_FLOAT32: ReadonlySet<string> = new Set(['exp', 'log', 'rsqrt']);

function unary(name: keyof typeof DERIVATIVES): (x: Tensor) => Tensor {
  const [reads, derivative]: readonly ['none' | 'x' | 'y', Backward] = DERIVATIVES[name];
  const kernel: (x: TensorId) => TensorId = native[name];
  return ownOp({
    name,
    ...(IN_FLOAT32.has(name) && { autocast: 'float32' }),
    forward(ctx, x: Tensor): Tensor {
      const y = wrap(kernel(x.id));
      if (reads !== 'none') ctx.save(reads === 'x' ? x : y);
      return y;
    },
    backward: ({ saved: [xOrY] }, dy) => (dy === undefined ? [] : [derivative(dy, xOrY)]),
  });
}

const negOp = unary('neg');
const absOp = unary('abs');
const expOp = unary('exp');
const logOp = unary('log');
const sqrtOp = unary('sqrt');
const rsqrtOp = unary('rsqrt');
const tanhOp = unary('tanh');
const sigmoidOp = unary('sigmoid');
const reluOp = unary('relu');
const geluOp = unary('gelu');
const geluTanhOp = unary('geluTanh');
const siluOp = unary('silu');
const sinOp = unary('sin');
const cosOp = unary('cos');
const erfOp = unary('erf');

/**
 * The opposite: `y = -x`.
 *
 * @throws TensorError DTYPE for a bool tensor
 * @example
 * neg(tensor([1, -2])) // [-1, 2]
 */
export function neg<D extends NumericDType>(x: Tensor<D>): Tensor<D> {
  return negOp(x) as Tensor<D>;
}

/**
 * The absolute value: `y = |x|`, with gradient 0 at 0.
 *
 * @throws TensorError DTYPE for a bool tensor
 * @example
 * abs(tensor([1, -2])) // [1, 2]
 */
export function abs<D extends NumericDType>(x: Tensor<D>): Tensor<D> {
  return absOp(x) as Tensor<D>;
}

/**
 * The exponential: `y = e^x`.
 *
 * @throws TensorError DTYPE unless x is floating-point
 * @example
 * exp(tensor([0, 1])) // [1, 2.7183]
 */
export function exp<D extends FloatDType>(x: Tensor<D>): Tensor<D> {
  return expOp(x) as Tensor<D>;
}

/**
 * The natural logarithm: `y = ln x`; NaN below 0.
 *
 * @throws TensorError DTYPE unless x is floating-point
 * @example
 * log(tensor([1, 10])) // [0, 2.3026]
 */
export function log<D extends FloatDType>(x: Tensor<D>): Tensor<D> {
  return logOp(x) as Tensor<D>;
}

/**
 * The square root: `y = sqrt(x)`; NaN below 0.
 *
 * @throws TensorError DTYPE unless x is floating-point
 * @example
 * sqrt(tensor([4, 9])) // [2, 3]
 */
export function sqrt<D extends FloatDType>(x: Tensor<D>): Tensor<D> {
  return sqrtOp(x) as Tensor<D>;
}

/**
 * The reciprocal of the square root: `y = 1 / sqrt(x)`.
 *
 * @throws TensorError DTYPE unless x is floating-point
 * @example
 * rsqrt(tensor([4, 16])) // [0.5, 0.25]
 */
export function rsqrt<D extends FloatDType>(x: Tensor<D>): Tensor<D> {
  return rsqrtOp(x) as Tensor<D>;
}

/**
 * The hyperbolic tangent: `y = (e^x - e^-x) / (e^x + e^-x)`.
 *
 * @throws TensorError DTYPE unless x is floating-point
 * @example
 * tanh(tensor([0, 1])) // [0, 0.7616]
 */
export function tanh<D extends FloatDType>(x: Tensor<D>): Tensor<D> {
  return tanhOp(x) as Tensor<D>;
}

/**
 * The logistic function: `y = 1 / (1 + e^-x)`.
 *
 * @throws TensorError DTYPE unless x is floating-point
 * @example
 * sigmoid(tensor([0, 2])) // [0.5, 0.8808]
 */
export function sigmoid<D extends FloatDType>(x: Tensor<D>): Tensor<D> {
  return sigmoidOp(x) as Tensor<D>;
}

/**
 * The rectifier: `y = max(x, 0)`, with gradient 0 at 0.
 *
 * @throws TensorError DTYPE for a bool tensor
 * @example
 * relu(tensor([-1, 2])) // [0, 2]
 */
export function relu<D extends NumericDType>(x: Tensor<D>): Tensor<D> {
  return reluOp(x) as Tensor<D>;
}

/**
 * The sigmoid-weighted linear unit: `y = x sigmoid(x)`.
 *
 * Source: Elfwing et al., "Sigmoid-weighted linear units", 2017 (also called swish).
 *
 * @throws TensorError DTYPE unless x is floating-point
 * @example
 * silu(tensor([-1, 1])) // [-0.2689, 0.7311]
 */
export function silu<D extends FloatDType>(x: Tensor<D>): Tensor<D> {
  return siluOp(x) as Tensor<D>;
}

/**
 * The sine of radians: `y = sin x`.
 *
 * @throws TensorError DTYPE unless x is floating-point
 * @example
 * sin(tensor([0, Math.PI / 2])) // [0, 1]
 */
export function sin<D extends FloatDType>(x: Tensor<D>): Tensor<D> {
  return sinOp(x) as Tensor<D>;
}

/**
 * The cosine of radians: `y = cos x`.
 *
 * @throws TensorError DTYPE unless x is floating-point
 * @example
 * cos(tensor([0, Math.PI])) // [1, -1]
 */
export function cos<D extends FloatDType>(x: Tensor<D>): Tensor<D> {
  return cosOp(x) as Tensor<D>;
}

/**
 * The error function: `y = 2 / sqrt(pi) * integral of e^(-t^2) from 0 to x`.
 *
 * @throws TensorError DTYPE unless x is floating-point
 * @example
 * erf(tensor([0, 1])) // [0, 0.8427]
 */
export function erf<D extends FloatDType>(x: Tensor<D>): Tensor<D> {
  return erfOp(x) as Tensor<D>;
}

/** Which form of GELU. */
export interface GeluOptions {
  /** `'tanh'` for the approximation `0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`. Default `'none'`. */
  readonly approximate?: 'none' | 'tanh';
}

const GELU_OPTIONS = { approximate: true } satisfies OptionNames<GeluOptions>;

/**
 * The Gaussian error linear unit: `y = x Phi(x) = 0.5 x (1 + erf(x / sqrt(2)))`.
 *
 * Source: Hendrycks and Gimpel, "Gaussian error linear units", 2016.
 *
 * @throws TensorError DTYPE unless x is floating-point
 * @example
 * gelu(tensor([-1, 1])) // [-0.1587, 0.8413]
 */
export function gelu<D extends FloatDType>(x: Tensor<D>, options: GeluOptions = {}): Tensor<D> {
  expectOptions('gelu', options, GELU_OPTIONS);
  const { approximate = 'none' } = options;
  switch (approximate) {
    case 'none':
      return geluOp(x) as Tensor<D>;
    case 'tanh':
      return named('gelu', 'geluTanh', () => geluTanhOp(x)) as Tensor<D>;
    default:
      return fail(
        'gelu',
        'VALUE',
        `expected approximate to be 'none' or 'tanh', got '${String(approximate)}'`,
      );
  }
}

const signOp = ownOp({
  name: 'sign',
  forward: (_ctx, x: Tensor): Tensor => wrap(native.sign(x.id)),
  backward: (_ctx, dy) => (dy === undefined ? [] : [zeroView(dy, dy.shape)]),
});

/**
 * The sign: -1, 0 or 1. Its gradient is 0 everywhere.
 *
 * @throws TensorError DTYPE for a bool tensor
 * @example
 * sign(tensor([-3, 0, 5])) // [-1, 0, 1]
 */
export function sign<D extends NumericDType>(x: Tensor<D>): Tensor<D> {
  return signOp(x) as Tensor<D>;
}

const clampOp = ownOp({
  name: 'clamp',
  forward(ctx, x: Tensor, min: number, max: number): Tensor {
    ctx.save(x);
    ctx.state = [min, max];
    return wrap(native.clamp(x.id, min, max));
  },
  backward({ saved: [x], state }, dy) {
    if (dy === undefined) return [];
    const [min, max] = state as [number, number];
    const above = applyBinary(native.greaterEqual, x, min);
    const below = applyBinary(native.lessEqual, x, max);
    return [choose(wrap(native.logicalAnd(above.id, below.id, 0)), dy, 0)];
  },
});

/**
 * Limits values to a range: `y = min(max(x, min), max)`. The gradient passes where x lies in the range, ends included.
 *
 * @param min lower end; -Infinity for none
 * @param max upper end; default Infinity
 * @throws TensorError VALUE unless min <= max, or for an end that an integer dtype cannot hold; DTYPE for a bool tensor
 * @example
 * clamp(tensor([-1, 0.5, 2]), 0, 1) // [0, 0.5, 1]
 */
export function clamp<D extends NumericDType>(x: Tensor<D>, min: number, max = Infinity): Tensor<D> {
  return clampOp(x, min, max) as Tensor<D>;
}

const logicalNotOp = ownOp({
  name: 'logicalNot',
  forward: (_ctx, x: Tensor): Tensor => wrap(native.logicalNot(x.id)),
});

/**
 * Not: true where x is false.
 *
 * @throws TensorError DTYPE unless x is bool
 * @example
 * logicalNot(tensor([true, false])) // [false, true]
 */
export function logicalNot(x: Tensor<'bool'>): Tensor<'bool'> {
  expectTensors('logicalNot', x);
  return logicalNotOp(x) as Tensor<'bool'>;
}
