/**
 * Position tables and the grids of patches that they belong to.
 */
import type { FloatTensor } from '../nn/index.js';
import { cat, interpolate } from '../ops/index.js';
import { pairOf } from '../ops/operand.js';
import { expectTensors } from '../tensor/arguments.js';
import type { FloatDType } from '../tensor/dtype.js';
import { fail } from '../tensor/error.js';

/** Pixels: one number for a square image, or [height, width]. */
export type ImageSize = number | readonly [height: number, width: number];

/** Rows and columns of patches. @throws TensorError VALUE when the patch does not divide the size */
export function gridOf(op: string, size: ImageSize, patch: number): readonly [rows: number, columns: number] {
  const [height, width] = pairOf(op, 'imgSize', size);
  for (const n of [height, width]) {
    if (!(Number.isInteger(n) && n > 0 && n % patch === 0)) {
      fail(op, 'VALUE', `expected an image size that patches of ${patch} divide, got ${height} x ${width}`);
    }
  }
  return [height / patch, width / patch];
}

/**
 * The position table of a checkpoint for another grid. Its own grid is `from` where that fits, or else a square.
 *
 * @throws TensorError SHAPE when the table fits no grid
 */
export function refitPositions(
  table: FloatTensor,
  to: readonly [rows: number, columns: number],
  prefix: number,
  from?: readonly [rows: number, columns: number],
): FloatTensor {
  const count = table.shape[1] - prefix;
  const side = Math.floor(Math.sqrt(count));
  const own = from !== undefined && from[0] * from[1] === count ? from : ([side, side] as const);
  return resizePositions(table, own, to, prefix);
}

/**
 * A table of relative positions `[(2 w - 1)^2, heads]` of a square window for another window: resized by a bicubic filter
 * without antialiasing, as Swin's code does it; undefined for a table that is no square's.
 */
export function resizeBiasTable(
  table: FloatTensor,
  window: readonly [height: number, width: number],
): FloatTensor | undefined {
  const [rows, heads] = table.shape;
  const side = Math.sqrt(rows);
  if (!Number.isInteger(side)) return undefined;
  const wide: FloatDType = table.dtype === 'float64' ? 'float64' : 'float32';
  const map = table.to(wide).transpose(0, 1).reshape([1, heads, side, side]);
  const size = [2 * window[0] - 1, 2 * window[1] - 1] as const;
  return interpolate(map, size, { mode: 'bicubic' })
    .reshape([heads, size[0] * size[1]])
    .transpose(0, 1)
    .to(table.dtype);
}

/**
 * A position table `[1, prefix + rows * columns, D]` for another grid: the prefix stays, the rest is resized by an
 * antialiased bicubic filter in float32, as timm does it.
 */
export function resizePositions(
  table: FloatTensor,
  from: readonly [rows: number, columns: number],
  to: readonly [rows: number, columns: number],
  prefix: number,
): FloatTensor {
  expectTensors('resizePositions', table);
  const dim = table.shape[2];
  const [rows, columns] = from;
  if (table.shape[1] !== prefix + rows * columns) {
    fail(
      'resizePositions',
      'SHAPE',
      `expected a table for ${prefix} + ${rows} x ${columns} tokens, got [${table.shape.join(', ')}]`,
    );
  }
  const wide: FloatDType = table.dtype === 'float64' ? 'float64' : 'float32';
  const grid = table.narrow(1, prefix, rows * columns).reshape([1, rows, columns, dim]);
  const resized = interpolate(grid.permute([0, 3, 1, 2]).to(wide), to, { mode: 'bicubic', antialias: true });
  const rest = resized
    .permute([0, 2, 3, 1])
    .reshape([1, to[0] * to[1], dim])
    .to(table.dtype);
  return prefix === 0 ? rest : cat([table.narrow(1, 0, prefix), rest], 1);
}
