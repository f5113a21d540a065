import test from 'ava';

import { decodeImage } from '../../src/index.js';
import { jpegHeader } from '../../src/data/jpeg.js';
import { pattern, toSharp } from '../helpers/images.js';

/** A JPEG without pixels: Exif's directory, and the frame's beginning. */
function header(tiff: readonly number[], components = 3): Uint8Array {
  const exif = [0x45, 0x78, 0x69, 0x66, 0, 0, ...tiff];
  const frame = [0xff, 0xc0, 0, 17, 8, 0, 16, 0, 16, components, 1, 0x11, 0];
  return Uint8Array.from([0xff, 0xd8, 0xff, 0xe1, 0, exif.length + 2, ...exif, ...frame]);
}

/** A directory of one entry. */
const big = (tag: number, value: number, type = 3): number[] => [
  ...[0x4d, 0x4d, 0, 42, 0, 0, 0, 8, 0, 1],
  ...[tag >> 8, tag & 255, 0, type, 0, 0, 0, 1, 0, value, 0, 0],
];
const little = (tag: number, value: number): number[] => [
  ...[0x49, 0x49, 42, 0, 8, 0, 0, 0, 1, 0],
  ...[tag & 255, tag >> 8, 3, 0, 1, 0, 0, 0, value, 0, 0, 0],
];

test('the header of a JPEG says its components and how it is turned', (t) => {
  t.deepEqual(jpegHeader(header(big(0x0112, 6))), { components: 3, orientation: 6 });
  t.deepEqual(jpegHeader(header(little(0x0112, 8), 4)), { components: 4, orientation: 8 });
  t.deepEqual(jpegHeader(header(big(0x0110, 6), 1)), { components: 1, orientation: 1 });
});

test('an orientation that makes no sense is unknown, and what is no JPEG has no header', (t) => {
  const whole = big(0x0112, 6);
  for (const tiff of [
    [],
    whole.slice(0, 7),
    whole.slice(0, 15), // the entry is cut
    [0x4d, 0x4d, 0, 43, ...whole.slice(4)],
    [0x4a, 0x4d, ...whole.slice(2)],
    [...whole.slice(0, 4), 0xff, 0xff, 0xff, 0xff, ...whole.slice(8)], // the directory is elsewhere
    big(0x0112, 6, 2), // a text
  ]) {
    t.deepEqual(jpegHeader(header(tiff)), { components: 3, orientation: undefined }, tiff.join());
  }
  t.is(jpegHeader(Uint8Array.of(0x89, 0x50, 0x4e, 0x47)), undefined);
  t.is(jpegHeader(new Uint8Array(0)), undefined);
  t.deepEqual(jpegHeader(Uint8Array.of(0xff, 0xd8)), { components: undefined, orientation: 1 });
});

test('JPEGs of every kind have the pixels that sharp gives them', async (t) => {
  for (const [height, width] of [
    [1, 1],
    [17, 31],
    [64, 90],
  ]) {
    for (const progressive of [false, true]) {
      for (const chromaSubsampling of ['4:4:4', '4:2:0']) {
        for (const grey of [false, true]) {
          const image = toSharp(pattern(height, width));
          if (grey) image.toColourspace('b-w');
          const jpeg = await image.jpeg({ quality: 83, progressive, chromaSubsampling }).toBuffer();
          const name = `${height} x ${width}, ${chromaSubsampling}, ${String(progressive)}, ${String(grey)}`;
          // Turned by nothing, but said to be: what sharp is left to decode.
          const tagged = await toSharp(pattern(8, 8)).withMetadata({ orientation: 1 }).jpeg().toBuffer();
          const unknown = Buffer.concat([jpeg.subarray(0, 2), exifOf(tagged), jpeg.subarray(2)]);
          t.is(jpegHeader(jpeg)?.components, grey ? 1 : 3, name);
          t.is(jpegHeader(unknown)?.orientation, undefined, name);
          t.deepEqual(await decodeImage(jpeg), await decodeImage(unknown), name);
        }
      }
    }
  }
});

/** A file's Exif segment, whose byte order is spoilt. */
function exifOf(jpeg: Buffer): Buffer {
  const start = jpeg.indexOf('Exif') - 4;
  const segment = Buffer.from(jpeg.subarray(start, start + 2 + jpeg.readUInt16BE(start + 2)));
  segment[10] = 0x4a;
  return segment;
}
