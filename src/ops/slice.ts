/**
 * Parts of a tensor, as views.
 */
import { native } from '../native.js';
import { expectArray, expectNumber, expectTensors } from '../tensor/arguments.js';
import { ownOp } from '../tensor/define-op.js';
import { deviceIndex } from '../tensor/device.js';
import { type DType, dtypeCode } from '../tensor/dtype.js';
import { fail } from '../tensor/error.js';
import { type Tensor, wrap } from '../tensor/tensor.js';
import { place } from './dim.js';
import { squeeze } from './shape.js';

/**
 * `[start, stop, step]` of one dimension; counted from the end when negative, clamped, `undefined` for its end. A
 * number alone picks one element and drops the dimension; `null` takes the whole dimension.
 */
export type SliceRange =
  number | null | readonly [start?: number | undefined, stop?: number | undefined, step?: number | undefined];

interface Range {
  readonly dim: number;
  readonly start: number;
  readonly stop: number;
  readonly step: number;
}

function view(x: Tensor, ranges: readonly Range[]): Tensor {
  return ranges.reduce((part, { dim, start, stop, step }) => {
    const next = wrap(native.slice(part.id, dim, start, stop, step));
    if (part !== x) part.dispose();
    return next;
  }, x);
}

const sliceOp = ownOp({
  name: 'slice',
  forward(ctx, x: Tensor, ranges: readonly Range[]): Tensor {
    if (ctx.recording) ctx.state = { shape: x.shape, ranges };
    return ranges.length === 0 ? wrap(native.alias(x.id)) : view(x, ranges);
  },
  backward({ state }, dy) {
    if (dy === undefined) return [];
    const { shape, ranges } = state as { shape: readonly number[]; ranges: readonly Range[] };
    const dx = wrap(native.full(deviceIndex(dy.device), shape, 0, dtypeCode(dy.dtype)));
    native.copyInto(view(dx, ranges).id, dy.id);
    return [dx];
  },
});

/** Past every end, for Python's open bounds. */
const FAR = Number.MAX_SAFE_INTEGER;

/**
 * Python's slicing, one range for each leading dimension: `x[1:, ::2, 3]` is `slice(x, [1], [undefined, undefined, 2], 3)`.
 *
 * @throws TensorError INDEX for more ranges than dimensions, or a number outside its dimension; VALUE for a step of 0
 *   or a bound that is no whole number
 * @example
 * slice(tokens, null, [1]) // all but the first token of [B, N, D]
 */
export function slice<D extends DType>(x: Tensor<D>, ...ranges: readonly SliceRange[]): Tensor<D> {
  expectTensors('slice', x);
  const { shape } = x;
  if (ranges.length > shape.length) {
    fail(
      'slice',
      'INDEX',
      `expected at most ${shape.length} ranges for [${shape.join(', ')}], got ${ranges.length}`,
    );
  }
  const dropped: number[] = [];
  const resolved = ranges.flatMap((range, dim): Range[] => {
    if (range === null) return [];
    if (typeof range === 'number') {
      const at = indexOf('slice', shape[dim], dim, range);
      dropped.push(dim);
      return [{ dim, start: at, stop: at + 1, step: 1 }];
    }
    expectArray('slice', 'ranges', range);
    const step = range[2] ?? 1;
    expectNumber('slice', 'ranges', step);
    const start = range[0] ?? (step > 0 ? 0 : FAR);
    const stop = range[1] ?? (step > 0 ? FAR : -FAR);
    expectNumber('slice', 'ranges', start);
    expectNumber('slice', 'ranges', stop);
    if (![start, stop, step].every(Number.isInteger)) {
      fail('slice', 'VALUE', `expected whole numbers, got [${String(range)}] for dim ${dim}`);
    }
    return [{ dim, start, stop, step }];
  });
  const part = sliceOp(x, resolved) as Tensor<D>;
  if (dropped.length === 0) return part;
  const squeezed = squeeze(part, dropped);
  part.dispose();
  return squeezed;
}

/**
 * One element along a dimension, which is dropped.
 *
 * @throws TensorError INDEX for a dimension that x lacks or an index outside it
 * @example
 * select(tokens, 1, 0) // the class token of [B, N, D]
 */
export function select<D extends DType>(x: Tensor<D>, dim: number, index: number): Tensor<D> {
  const at = place('select', x, dim);
  const from = indexOf('select', x.shape[at], at, index);
  return slice(x, ...new Array<null>(at).fill(null), from);
}

/**
 * `length` elements along a dimension, from `start` on.
 *
 * @throws TensorError INDEX when the stretch is not inside the dimension
 * @example
 * narrow(qkv, 2, 0, dim)
 */
export function narrow<D extends DType>(x: Tensor<D>, dim: number, start: number, length: number): Tensor<D> {
  const at = place('narrow', x, dim);
  expectNumber('narrow', 'start', start);
  expectNumber('narrow', 'length', length);
  const first = start < 0 ? start + x.shape[at] : start;
  if (!(Number.isInteger(first) && Number.isInteger(length) && first >= 0 && length >= 0)) {
    fail('narrow', 'INDEX', `expected a start and a length of 0 or more, got ${start} and ${length}`);
  }
  if (first + length > x.shape[at]) {
    fail(
      'narrow',
      'INDEX',
      `expected a stretch within ${x.shape[at]} for dim ${dim}, got ${first} to ${first + length}`,
    );
  }
  return sliceOp(x, [{ dim: at, start: first, stop: first + length, step: 1 }]) as Tensor<D>;
}

/** An index of a dimension of size n, counted from the start. */
function indexOf(op: string, n: number, dim: number, index: number): number {
  expectNumber(op, 'index', index);
  const at = index < 0 ? index + n : index;
  if (!(Number.isInteger(at) && at >= 0 && at < n)) {
    fail(op, 'INDEX', `expected an index within ${n} for dim ${dim}, got ${index}`);
  }
  return at;
}
