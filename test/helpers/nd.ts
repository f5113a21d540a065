/**
 * Arrays of numbers with a shape, and plain loops over them: what the references of the op tests are written in.
 * Everything is float64 and slow on purpose.
 */
import type { DType } from '../../src/tensor/index.js';

type Shape = readonly number[];

export class Nd {
  /**
   * @param shape sizes, outermost first
   * @param data the elements in row-major order
   * @param dtype of the tensor that it stands for; left out for the dtype under test
   */
  constructor(
    readonly shape: Shape,
    readonly data: Float64Array,
    readonly dtype?: DType,
  ) {}

  at(index: Shape): number {
    return this.data[index.reduce((offset, i, dim) => offset * this.shape[dim] + i, 0)];
  }

  get size(): number {
    return this.data.length;
  }

  map(f: (value: number) => number): Nd {
    return new Nd(this.shape, this.data.map(f), this.dtype);
  }

  /** The same numbers for a tensor of a fixed dtype. */
  as(dtype: DType): Nd {
    return new Nd(this.shape, this.data, dtype);
  }
}

export const sizeOf = (shape: Shape): number => shape.reduce((product, n) => product * n, 1);

/** A dimension counted from the end, from the start. */
export const place = (dim: number, ndim: number): number => (dim < 0 ? dim + ndim : dim);

/** Every element from its index. */
export function table(shape: Shape, f: (...index: number[]) => number, dtype?: DType): Nd {
  const data = new Float64Array(sizeOf(shape));
  const index = shape.map(() => 0);
  for (let i = 0; i < data.length; i++) {
    data[i] = f(...index);
    for (let dim = shape.length - 1; dim >= 0 && ++index[dim] === shape[dim]; dim--) index[dim] = 0;
  }
  return new Nd(shape, data, dtype);
}

/** The shape that shapes broadcast to. */
export function broadcastShape(...shapes: readonly Shape[]): number[] {
  const ndim = Math.max(...shapes.map((shape) => shape.length));
  return Array.from({ length: ndim }, (_, dim) =>
    shapes.reduce((size, shape) => {
      const n = shape[dim - ndim + shape.length] ?? 1;
      return n === 1 ? size : n;
    }, 1),
  );
}

/** The element of x at an index of a shape that x broadcasts to. */
export function atBroadcast(x: Nd, index: Shape): number {
  const lead = index.length - x.shape.length;
  return x.at(x.shape.map((n, dim) => (n === 1 ? 0 : index[lead + dim])));
}

/** f of the elements of operands that broadcast against each other. */
export function combine(f: (...values: number[]) => number, ...operands: readonly (Nd | number)[]): Nd {
  const arrays = operands.map((x) => (typeof x === 'number' ? table([], () => x) : x));
  const shape = broadcastShape(...arrays.map((x) => x.shape));
  return table(shape, (...index) => f(...arrays.map((x) => atBroadcast(x, index))));
}

/** f of the elements along some dimensions (all when there are none named). */
export function fold(
  x: Nd,
  f: (values: number[]) => number,
  options: { readonly dim?: number | Shape | undefined; readonly keepdim?: boolean | undefined } = {},
): Nd {
  const { dim = x.shape.map((_, i) => i), keepdim = false } = options;
  const dims = new Set((typeof dim === 'number' ? [dim] : dim).map((d) => place(d, x.shape.length)));
  const kept = x.shape.map((n, i) => (dims.has(i) ? 1 : n));
  const groups = Array.from({ length: sizeOf(kept) }, (): number[] => []);
  table(x.shape, (...index) => {
    const to = index.reduce((offset, i, d) => offset * kept[d] + (dims.has(d) ? 0 : i), 0);
    return groups[to].push(x.at(index));
  });
  const shape = keepdim ? kept : x.shape.filter((_, i) => !dims.has(i));
  return new Nd(shape, Float64Array.from(groups, f));
}

/** f of each line along a dimension, which may change its length. */
export function lines(x: Nd, dim: number, f: (line: number[]) => number[]): Nd {
  const at = place(dim, x.shape.length);
  const with_ = (index: Shape, i: number): number[] => index.map((old, d) => (d === at ? i : old));
  const lineAt = (index: Shape): number[] =>
    f(Array.from({ length: x.shape[at] }, (_, i) => x.at(with_(index, i))));
  const length = f(new Array<number>(x.shape[at]).fill(0)).length;
  const results = new Map<string, number[]>();
  return table(with_(x.shape, length), (...index) => {
    const key = with_(index, 0).join();
    const line = results.get(key) ?? lineAt(index);
    results.set(key, line);
    return line[index[at]];
  });
}

/** Dimensions in another order. */
export function permuted(x: Nd, dims: Shape): Nd {
  const order = dims.map((dim) => place(dim, dims.length));
  const shape = order.map((dim) => x.shape[dim]);
  const result = table(shape, (...index) => x.at(order.map((_, dim) => index[order.indexOf(dim)])));
  return new Nd(shape, result.data, x.dtype);
}

/** The same elements in another shape. */
export const reshaped = (x: Nd, shape: Shape): Nd => new Nd(shape, x.data, x.dtype);

/** Matrix product of the last two dimensions; the others broadcast. */
export function product(a: Nd, b: Nd): Nd {
  const [m, k] = a.shape.slice(-2);
  const n = b.shape[b.shape.length - 1];
  const batch = broadcastShape(a.shape.slice(0, -2), b.shape.slice(0, -2));
  return table([...batch, m, n], (...index) => {
    const lead = index.slice(0, -2);
    const [row, column] = index.slice(-2);
    let total = 0;
    for (let i = 0; i < k; i++) total += atMatrix(a, lead, row, i) * atMatrix(b, lead, i, column);
    return total;
  });
}

function atMatrix(x: Nd, lead: Shape, row: number, column: number): number {
  const own = lead.slice(lead.length - (x.shape.length - 2));
  return x.at([...own.map((i, dim) => (x.shape[dim] === 1 ? 0 : i)), row, column]);
}

/** Uniform numbers from 0 to 1 of a seed (mulberry32): the same in every run, and not the library's own. */
export function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

let next = generator(1);

/** Begins the numbers of samples again, so that a file's are the same in whatever company it is imported. */
export function restartSamples(): void {
  next = generator(1);
}

/**
 * Numbers from low to high for a sample, different each time and the same in every run. They lie on a grid, so that two
 * of them are equal or further apart than the steps of finite differences, and none is a whole number.
 */
export function random(shape: Shape, low = -2, high = 2): Nd {
  const grid = 2 ** 12;
  return table(shape, () => (Math.floor((low + (high - low) * next()) * grid) + 0.5) / grid);
}

/** Whole numbers from 0 to below `end`, as an index tensor. */
export function indices(shape: Shape, end: number, dtype: DType = 'int64'): Nd {
  return table(shape, () => Math.floor(next() * end), dtype);
}

/** True with probability p. */
export function truths(shape: Shape, p = 0.5): Nd {
  return table(shape, () => (next() < p ? 1 : 0), 'bool');
}

/** Given values. */
export function values(data: readonly number[], shape: Shape = [data.length], dtype?: DType): Nd {
  return new Nd(shape, Float64Array.from(data), dtype);
}
