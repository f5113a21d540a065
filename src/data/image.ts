/**
 * Image files as pixels: ordinary JPEGs by libjpeg-turbo, of which photographs are made, and everything else by sharp (libvips),
 * which takes four times as long for one of 640 x 480, and 0.8 ms for the smallest.
 */
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { isMainThread } from 'node:worker_threads';

import { native } from '../native.js';
import { loadSharp } from '../sharp.js';
import { fail, shown } from '../tensor/error.js';
import { type OptionNames, expectOptions } from '../tensor/options.js';
import { jpegHeader } from './jpeg.js';

/** RGB pixels, 8 bits each, row by row: `[height, width, 3]`. */
export interface Image {
  readonly data: Uint8Array;
  readonly height: number;
  readonly width: number;
}

/** How to decode an image. */
export interface DecodeOptions {
  /** Turn the image upright as its EXIF orientation says. Default true. */
  readonly orient?: boolean;
  /** What to call it in messages. */
  readonly where?: string;
  /** Pixels of the largest image to decode, whose RGB takes three bytes each: a small file may hold many. Default 2^28. */
  readonly maxPixels?: number;
}

const OPTIONS = { orient: true, where: true, maxPixels: true } satisfies OptionNames<DecodeOptions>;

/**
 * Decodes JPEG, PNG, WebP, GIF (its first frame), TIFF or AVIF of any colour type to RGB, as Pillow's `convert('RGB')`
 * does: grey is repeated, alpha dropped, CMYK converted without a profile, 16 bits scaled to 8.
 *
 * @throws TensorError IO when the bytes are no image, a damaged or cut one, or one of too many pixels; VALUE for what is no
 *   bytes, or a `maxPixels` that is no number of pixels
 * @example
 * const { data, height, width } = await decodeImage(await readFile('cat.jpg'));
 */
export async function decodeImage(bytes: Uint8Array, options: DecodeOptions = {}): Promise<Image> {
  expectOptions('decodeImage', options, OPTIONS);
  const { orient = true, where = 'the bytes given', maxPixels = 2 ** 28 } = options;
  if (!((bytes as unknown) instanceof Uint8Array)) {
    fail('decodeImage', 'VALUE', `expected the bytes of an image, a Uint8Array, got ${shown(bytes)}`); // sharp opens paths
  }
  if (!(Number.isInteger(maxPixels) && maxPixels > 0)) {
    fail('decodeImage', 'VALUE', `expected maxPixels to be a whole number above 0, got ${shown(maxPixels)}`);
  }
  const jpeg = jpegHeader(bytes);
  if (jpeg !== undefined && (!orient || jpeg.orientation === 1)) {
    // A worker is there to decode: the threads that decode for others are only four in a process.
    const image = isMainThread
      ? await native.decodeJpeg(bytes, maxPixels)
      : native.decodeJpegSync(bytes, maxPixels);
    if (image !== undefined) return image;
  }
  if (isText(bytes)) fail('decodeImage', 'IO', `expected pixels in ${where}, got text or a drawing (SVG)`);
  const sharp = await loadSharp();
  try {
    const file = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length); // sharp words a Uint8Array's errors differently
    let pipeline = sharp(file, { failOn: 'error', ignoreIcc: true, limitInputPixels: maxPixels });
    if (orient) pipeline = pipeline.autoOrient();
    const isCmyk = jpeg?.components === 4;
    pipeline = isCmyk
      ? pipeline.pipelineColourspace('cmyk').toColourspace('cmyk')
      : pipeline.removeAlpha().toColourspace('srgb');
    const { data: buffer, info } = await pipeline
      .raw({ depth: 'uchar' })
      .toBuffer({ resolveWithObject: true });
    const { height, width, channels } = info;
    const data = new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.length); // a Buffer's slice() would be no copy
    if (isCmyk) return { data: cmykToRgb(data), height, width };
    return { data: channels === 1 ? greyToRgb(data) : data, height, width };
  } catch (error) {
    return fail('decodeImage', 'IO', `expected a whole image in ${where}, got ${reasonOf(error as Error)}`);
  }
}

/** Reads and decodes a file; see `decodeImage`. @throws TensorError IO, with the path */
export async function readImage(path: string, options: DecodeOptions = {}): Promise<Image> {
  expectOptions('readImage', options, OPTIONS);
  let bytes: Buffer;
  try {
    bytes = isMainThread ? await readFile(path) : readFileSync(path);
  } catch (error) {
    return fail('readImage', 'IO', `expected to read ${path}, got ${(error as Error).message}`);
  }
  return decodeImage(bytes, { where: path, ...options });
}

/**
 * Why sharp refused an image, in its own words, which begin with "Input". What libvips says is left out: it keeps that in
 * one place for the whole process, where images that are decoded at the same time clear it or get each other's.
 */
function reasonOf({ message }: Error): string {
  return message.startsWith('Input ') ? message.split(':')[0] : 'damaged or cut data';
}

/** Whether the first bytes are text's, or gzip's: libvips would draw what an SVG tells it to, at any size. */
function isText(bytes: Uint8Array): boolean {
  const start = bytes.subarray(0, 256);
  return (
    (start[0] === 0x1f && start[1] === 0x8b) || /^(\ufeff|\s)*</.test(Buffer.from(start).toString('utf8'))
  );
}

function greyToRgb(grey: Uint8Array): Uint8Array {
  const rgb = new Uint8Array(3 * grey.length);
  for (let i = 0; i < grey.length; i++) rgb.fill(grey[i], 3 * i, 3 * i + 3);
  return rgb;
}

/** Pillow's conversion: (255 - K) less the share C of it, rounded. */
function cmykToRgb(cmyk: Uint8Array): Uint8Array {
  const pixels = cmyk.length / 4;
  const rgb = new Uint8Array(3 * pixels);
  for (let i = 0; i < pixels; i++) {
    const white = 255 - cmyk[4 * i + 3];
    for (let c = 0; c < 3; c++) {
      const product = cmyk[4 * i + c] * white + 128;
      rgb[3 * i + c] = white - (((product >> 8) + product) >> 8);
    }
  }
  return rgb;
}
