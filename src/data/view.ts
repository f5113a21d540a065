/**
 * Images in any form as a model sees them.
 */
import { fail, shown } from '../tensor/error.js';
import { type Image, decodeImage, readImage } from './image.js';
import { SampleRandom } from './sample-random.js';
import { type TransformStep, applySteps } from './transforms.js';

/** An image as it comes: the bytes of a file (JPEG, PNG, ...), the path of one, or pixels. */
export type ImageSource = Uint8Array | ArrayBuffer | string | Image;

/** @internal The same where bytes have one form. */
export type KnownSource = Uint8Array | string | Image;

/** What is made of an image. */
export interface ViewOptions {
  /** Without random ones. */
  readonly steps: readonly TransformStep[];
  /** See `DecodeOptions`. */
  readonly maxPixels?: number | undefined;
}

/** Prepares an image. @throws TensorError IO when it cannot be read */
export async function viewOf(source: KnownSource, { steps, maxPixels }: ViewOptions): Promise<Image> {
  const options = maxPixels === undefined ? {} : { maxPixels };
  const image =
    typeof source === 'string'
      ? await readImage(source, options)
      : source instanceof Uint8Array
        ? await decodeImage(source, options)
        : source;
  return applySteps(image, steps, new SampleRandom(0, 0, 0)); // nothing is drawn
}

/** @internal What is an image in one of its forms. @throws TensorError VALUE or SHAPE for anything else */
export function knownSource(op: string, source: unknown): KnownSource {
  if (typeof source === 'string' || source instanceof Uint8Array) return source;
  if (source instanceof ArrayBuffer) return new Uint8Array(source);
  const { data, height, width } = (source ?? {}) as Partial<Image>;
  if (!(data instanceof Uint8Array) || typeof height !== 'number' || typeof width !== 'number') {
    fail(op, 'VALUE', `expected an image's bytes, path or { data, height, width }, got ${shown(source)}`);
  }
  if (!(height >= 1 && width >= 1) || data.length !== height * width * 3) {
    fail(op, 'SHAPE', `expected ${height} x ${width} x 3 bytes of pixels, got ${data.length}`);
  }
  return source as Image;
}
