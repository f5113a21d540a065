/**
 * Joining tensors along a dimension, and taking them apart.
 */
import { native } from '../native.js';
import { expectNumber, expectTensorList, numbersOf } from '../tensor/arguments.js';
import { ownOp } from '../tensor/define-op.js';
import type { Device } from '../tensor/device.js';
import type { DType } from '../tensor/dtype.js';
import { fail } from '../tensor/error.js';
import { type Tensor, wrap } from '../tensor/tensor.js';
import { place } from './dim.js';
import { zeroView } from './operand.js';
import { squeeze, unsqueeze } from './shape.js';

/** A stretch of a dimension as a view. */
function stretch(x: Tensor, dim: number, start: number, size: number): Tensor {
  return wrap(native.slice(x.id, dim, start, start + size, 1));
}

const catOp = ownOp({
  name: 'cat',
  forward(ctx, tensors: readonly Tensor[], dim: number): Tensor {
    const y = wrap(
      native.cat(
        tensors.map((t) => t.id),
        dim,
      ),
    );
    if (ctx.recording) ctx.state = { dim, sizes: tensors.map((t) => t.shape.at(dim)) };
    return y;
  },
  backward({ state }, dy) {
    if (dy === undefined) return [];
    const { dim, sizes } = state as { dim: number; sizes: readonly number[] };
    let start = 0;
    return [
      sizes.map((size) => {
        const part = stretch(dy, dim, start, size);
        start += size;
        return part;
      }),
    ];
  },
});

/**
 * Joins tensors along an existing dimension; their other sizes are equal.
 *
 * @throws TensorError SHAPE when other sizes differ; VALUE for an empty list; DTYPE when dtypes differ
 * @example
 * cat([classToken, patches], 1)
 */
export function cat<D extends DType>(tensors: readonly Tensor<D>[], dim = 0): Tensor<D> {
  expectTensorList('cat', 'tensors', tensors);
  return catOp(tensors, dim) as Tensor<D>;
}

/**
 * Joins tensors of one shape along a new dimension.
 *
 * @throws TensorError SHAPE when shapes differ; VALUE for an empty list; DTYPE when dtypes differ
 * @example
 * stack([red, green, blue]) // [H, W] each -> [3, H, W]
 */
export function stack<D extends DType>(tensors: readonly Tensor<D>[], dim = 0): Tensor<D> {
  expectTensorList('stack', 'tensors', tensors);
  if (tensors.length === 0) fail('stack', 'VALUE', 'expected at least one tensor, got none');
  const shape = tensors[0].shape.join(', ');
  for (const tensor of tensors) {
    if (tensor.shape.join(', ') !== shape) {
      fail('stack', 'SHAPE', `expected equal shapes, got [${shape}] and [${tensor.shape.join(', ')}]`);
    }
  }
  expectNumber('stack', 'dim', dim);
  const { ndim } = tensors[0];
  const at = dim < 0 ? dim + ndim + 1 : dim;
  if (!(Number.isInteger(at) && at >= 0 && at <= ndim)) {
    fail('stack', 'INDEX', `expected a dim from ${-ndim - 1} to ${ndim} for tensors [${shape}], got ${dim}`);
  }
  const columns = tensors.map((tensor) => unsqueeze(tensor, at));
  const result = cat(columns, at);
  for (const column of columns) column.dispose();
  return result;
}

const splitOp = ownOp({
  name: 'split',
  forward(ctx, x: Tensor, dim: number, sizes: readonly number[]): Tensor[] {
    let start = 0;
    if (ctx.recording) ctx.state = { dim, sizes, shape: x.shape, dtype: x.dtype, device: x.device };
    return sizes.map((size) => {
      const part = stretch(x, dim, start, size);
      start += size;
      return part;
    });
  },
  backward({ state }, ...gradients) {
    const { dim, sizes, shape, dtype, device } = state as {
      dim: number;
      sizes: readonly number[];
      shape: readonly number[];
      dtype: DType;
      device: Device;
    };
    const parts = sizes.map((size, i) => {
      const gradient = gradients[i];
      if (gradient !== undefined) return gradient;
      return zeroView(
        { dtype, device },
        shape.map((n, at) => (at === dim ? size : n)),
      );
    });
    return [
      wrap(
        native.cat(
          parts.map((part) => part.id),
          dim,
        ),
      ),
    ];
  },
});

/**
 * Views of consecutive parts along a dimension: of `size` elements each (the last may be smaller), or of the listed
 * sizes.
 *
 * @throws TensorError SHAPE when the sizes do not add up; INDEX for a dimension that x lacks
 * @example
 * const [q, k, v] = split(qkv, dim, -1);
 */
export function split<D extends DType>(x: Tensor<D>, size: number | readonly number[], dim = 0): Tensor<D>[] {
  const at = place('split', x, dim);
  const n = x.shape[at];
  let sizes: readonly number[];
  if (typeof size === 'number') {
    if (!(Number.isInteger(size) && size > 0)) fail('split', 'VALUE', `expected a size above 0, got ${size}`);
    const count = Math.max(1, Math.ceil(n / size));
    sizes = Array.from({ length: count }, (_, i) => Math.min(size, n - i * size));
  } else {
    sizes = numbersOf('split', 'size', size);
  }
  const total = sizes.reduce((sum, part) => sum + part, 0);
  if (total !== n || sizes.some((part) => !(Number.isInteger(part) && part >= 0)) || sizes.length === 0) {
    fail('split', 'SHAPE', `expected sizes that add up to ${n}, got [${sizes.join(', ')}]`);
  }
  return splitOp(x, at, sizes) as Tensor<D>[];
}

/**
 * Views of the elements along a dimension, which is dropped.
 *
 * @throws TensorError INDEX for a dimension that x lacks
 * @example
 * const [q, k, v] = unbind(qkv, 2); // [B, N, 3, D] -> [B, N, D] each
 */
export function unbind<D extends DType>(x: Tensor<D>, dim = 0): Tensor<D>[] {
  const at = place('unbind', x, dim);
  if (x.shape[at] === 0) return [];
  return split(x, 1, at).map((part) => {
    const squeezed = squeeze(part, at);
    part.dispose();
    return squeezed;
  });
}
