/**
 * Pillow's resize, bit for bit: separable and antialiased, with weights of 22 fractional bits, first along rows and then
 * along columns, rounded to 8 bits in between.
 *
 * Source: Pillow, src/libImaging/Resample.c.
 */
import { fail } from '../tensor/error.js';
import { type OptionNames, expectOptions } from '../tensor/options.js';
import { cut } from './cut.js';
import type { Image } from './image.js';

/** A filter, by Pillow's name. */
export type ResizeMode = 'nearest' | 'bilinear' | 'bicubic' | 'lanczos';

/** The filter, and the part of the image. */
export interface ResizeOptions {
  /** The filter. Default 'bicubic'. */
  readonly mode?: ResizeMode;
  /** The part of the image to resize, in pixels. Default all of it. */
  readonly box?: readonly [left: number, top: number, right: number, bottom: number];
}

type Box = NonNullable<ResizeOptions['box']>;

/** A part of the resized image, within it. */
export interface Window {
  readonly top: number;
  readonly left: number;
  readonly height: number;
  readonly width: number;
}

const OPTIONS = { mode: true, box: true } satisfies OptionNames<ResizeOptions>;

const sinc = (x: number): number => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));

/** Half the filter's width, and the filter. */
const FILTERS: Readonly<Record<Exclude<ResizeMode, 'nearest'>, readonly [number, (x: number) => number]>> = {
  bilinear: [1, (x) => Math.max(0, 1 - Math.abs(x))],
  bicubic: [
    2,
    (x) => {
      const a = -0.5;
      const t = Math.abs(x);
      if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
      return t < 2 ? (((t - 5) * t + 8) * t - 4) * a : 0;
    },
  ],
  lanczos: [3, (x) => (Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0)],
};

/** Fractional bits of the weights. */
const BITS = 22;

/** For each output: its first input and its weights. */
interface Taps {
  readonly first: Int32Array;
  readonly count: Int32Array;
  /** `[outputs, width]` */
  readonly weights: Int32Array;
  readonly width: number;
}

const cache = new Map<string, Taps>();

/** Those of `outputs` outputs from `start` on, of `outSize` in all. */
function taps(
  mode: Exclude<ResizeMode, 'nearest'>,
  inSize: number,
  low: number,
  high: number,
  outSize: number,
  start: number,
  outputs: number,
): Taps {
  const key = `${mode} ${inSize} ${low} ${high} ${outSize} ${start} ${outputs}`;
  const known = cache.get(key);
  if (known !== undefined) return known;
  const [halfWidth, filter] = FILTERS[mode];
  const scale = Math.fround(high - low) / outSize;
  const filterScale = Math.max(scale, 1);
  const support = halfWidth * filterScale;
  const width = Math.ceil(support) * 2 + 1;
  const made: Taps = {
    first: new Int32Array(outputs),
    count: new Int32Array(outputs),
    weights: new Int32Array(outputs * width),
    width,
  };
  const row = new Float64Array(width);
  for (let i = 0; i < outputs; i++) {
    const centre = low + (start + i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const count = Math.min(inSize, Math.trunc(centre + support + 0.5)) - first;
    let total = 0;
    for (let k = 0; k < count; k++) {
      row[k] = filter((k + first - centre + 0.5) / filterScale);
      total += row[k];
    }
    const inverse = total === 0 ? 1 : 1 / total; // Pillow multiplies by the inverse
    for (let k = 0; k < count; k++) {
      const weight = row[k] * inverse;
      made.weights[i * width + k] = Math.trunc(weight * 2 ** BITS + (weight < 0 ? -0.5 : 0.5));
    }
    made.first[i] = first;
    made.count[i] = count;
  }
  // Crops at random places have weights of their own: a bounded cache of whole-image resizes is what recurs.
  if (cache.size > 256) cache.clear();
  cache.set(key, made);
  return made;
}

/**
 * Resizes an image, or a box of it, to `[height, width]`.
 *
 * @throws TensorError VALUE for sizes below 1 or a box outside the image
 * @example
 * const small = resize(image, [224, 224], { mode: 'bicubic' });
 */
export function resize(
  image: Image,
  size: readonly [height: number, width: number],
  options: ResizeOptions = {},
): Image {
  expectOptions('resize', options, OPTIONS);
  const [height, width] = size;
  return resizeWindow(image, size, { top: 0, left: 0, height, width }, options);
}

/** @internal A part of what `resize` gives, the same bits, for the work of that part. @throws as `resize` */
export function resizeWindow(
  image: Image,
  [height, width]: readonly [height: number, width: number],
  window: Window,
  options: ResizeOptions,
): Image {
  const { mode = 'bicubic' } = options;
  const box = (options.box ?? [0, 0, image.width, image.height]).map(Math.fround) as unknown as Box; // as Pillow has it
  const [left, top, right, bottom] = box;
  if (![height, width].every((n) => Number.isInteger(n) && n > 0)) {
    fail('resize', 'VALUE', `expected a height and width above 0, got ${height} and ${width}`);
  }
  if (!(
    left >= 0 &&
    top >= 0 &&
    left < right &&
    top < bottom &&
    right <= image.width &&
    bottom <= image.height
  )) {
    fail(
      'resize',
      'VALUE',
      `expected a box within ${image.width} x ${image.height}, got [${box.join(', ')}]`,
    );
  }
  if (mode === 'nearest') return nearest(image, height, width, box, window);
  const needsRows = width !== image.width || left !== 0 || right !== image.width;
  const needsColumns = height !== image.height || top !== 0 || bottom !== image.height;
  const vertical = needsColumns
    ? taps(mode, image.height, top, bottom, height, window.top, window.height)
    : undefined;
  const [rowStart, rowEnd] =
    vertical === undefined ? [window.top, window.top + window.height] : rowsRead(vertical);
  const source = needsRows
    ? alongRows(
        image,
        taps(mode, image.width, left, right, width, window.left, window.width),
        window.width,
        rowStart,
        rowEnd,
      )
    : cut(image, rowStart, window.left, rowEnd - rowStart, window.width);
  return vertical === undefined ? source : alongColumns(source, vertical, window.height, rowStart);
}

/** The rows that the second pass reads. */
function rowsRead({ first, count }: Taps): [start: number, end: number] {
  const last = first.length - 1;
  return [first[0], first[last] + count[last]];
}

function clip8(sum: number): number {
  const value = sum >> BITS;
  return value < 0 ? 0 : value > 255 ? 255 : value;
}

function alongRows(image: Image, t: Taps, width: number, rowStart: number, rowEnd: number): Image {
  const { data } = image;
  const height = rowEnd - rowStart;
  const out = new Uint8Array(height * width * 3);
  const { first, count, weights } = t;
  for (let y = 0, to = 0; y < height; y++) {
    const row = (y + rowStart) * image.width * 3;
    for (let x = 0; x < width; x++, to += 3) {
      let r = 1 << (BITS - 1);
      let g = r;
      let b = r;
      const base = x * t.width;
      for (let k = 0, from = row + first[x] * 3; k < count[x]; k++, from += 3) {
        const weight = weights[base + k];
        r = (r + Math.imul(weight, data[from])) | 0; // 32 bits hold it, and the engine need not check
        g = (g + Math.imul(weight, data[from + 1])) | 0;
        b = (b + Math.imul(weight, data[from + 2])) | 0;
      }
      out[to] = clip8(r);
      out[to + 1] = clip8(g);
      out[to + 2] = clip8(b);
    }
  }
  return { data: out, height, width };
}

function alongColumns(image: Image, t: Taps, height: number, rowsBefore: number): Image {
  const { data, width } = image;
  const stride = width * 3;
  const out = new Uint8Array(height * stride);
  const sums = new Int32Array(stride);
  for (let y = 0; y < height; y++) {
    sums.fill(1 << (BITS - 1));
    for (let k = 0; k < t.count[y]; k++) {
      const weight = t.weights[y * t.width + k];
      const row = (t.first[y] - rowsBefore + k) * stride;
      for (let i = 0; i < stride; i++) sums[i] += Math.imul(weight, data[row + i]);
    }
    const to = y * stride;
    for (let i = 0; i < stride; i++) out[to + i] = clip8(sums[i]);
  }
  return { data: out, height, width };
}

/** The pixels under the centres of outputs. Pillow goes from one to the next, and its roundings add up. */
function centres(low: number, high: number, outSize: number, start: number, outputs: number): Int32Array {
  const step = Math.fround(high - low) / outSize;
  const places = new Int32Array(outputs);
  let at = low + step * 0.5;
  for (let i = 0; i < start; i++) at += step;
  for (let i = 0; i < outputs; i++, at += step) places[i] = Math.floor(at);
  return places;
}

/** The pixel under each output's centre, as Pillow's NEAREST. */
function nearest(
  image: Image,
  height: number,
  width: number,
  [left, top, right, bottom]: Box,
  window: Window,
): Image {
  const out = new Uint8Array(window.height * window.width * 3);
  const rows = centres(top, bottom, height, window.top, window.height);
  const columns = centres(left, right, width, window.left, window.width);
  for (let y = 0, to = 0; y < window.height; y++) {
    const row = rows[y] * image.width;
    for (let x = 0; x < window.width; x++, to += 3) {
      const from = (row + columns[x]) * 3;
      out[to] = image.data[from];
      out[to + 1] = image.data[from + 1];
      out[to + 2] = image.data[from + 2];
    }
  }
  return { data: out, height: window.height, width: window.width };
}
