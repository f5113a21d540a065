/**
 * Pillow's resize, bit for bit, by the native module: native/image/resize.h.
 */
import { native } from '../native.js';
import { fail } from '../tensor/error.js';
import { type OptionNames, expectOptions } from '../tensor/options.js';
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

/** A part of an image, within it. */
export interface Window {
  readonly top: number;
  readonly left: number;
  readonly height: number;
  readonly width: number;
}

const OPTIONS = { mode: true, box: true } satisfies OptionNames<ResizeOptions>;

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

/**
 * @internal A part of what `resize` gives, the same bits, for the work of that part.
 *
 * @param part of the image, taken as if it were all of it
 * @throws as `resize`
 */
export function resizeWindow(
  image: Image,
  [height, width]: readonly [height: number, width: number],
  window: Window,
  options: ResizeOptions,
  part: Window = { top: 0, left: 0, height: image.height, width: image.width },
): Image {
  const { mode = 'bicubic' } = options;
  const box = (options.box ?? [0, 0, part.width, part.height]).map(Math.fround) as unknown as Box; // as Pillow has it
  const [left, top, right, bottom] = box;
  if (![height, width].every((n) => Number.isInteger(n) && n > 0)) {
    fail('resize', 'VALUE', `expected a height and width above 0, got ${height} and ${width}`);
  }
  if (!(
    left >= 0 &&
    top >= 0 &&
    left < right &&
    top < bottom &&
    right <= part.width &&
    bottom <= part.height
  )) {
    fail('resize', 'VALUE', `expected a box within ${part.width} x ${part.height}, got [${box.join(', ')}]`);
  }
  const sizes = [
    [right - left, bottom - top],
    [part.width, part.height],
    [width, height],
  ];
  sizes.push([window.width, window.height]);
  if (mode !== 'nearest' && sizes.every(([w, h]) => w === image.width && h === image.height)) return image;
  const data = native.resizeImage(
    image.data,
    [image.height, image.width],
    numbersOf(part),
    box,
    mode,
    [height, width],
    numbersOf(window),
  );
  return { data, height: window.height, width: window.width };
}

const numbersOf = ({ top, left, height, width }: Window): [number, number, number, number] => [
  top,
  left,
  height,
  width,
];
