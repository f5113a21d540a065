/**
 * What the segments before a JPEG's pixels say.
 *
 * Source: ITU-T T.81, annex B; Exif 2.3, sections 4.5 and 4.6.
 */

/** What decides who decodes it. */
export interface JpegHeader {
  /** Colour components; undefined where no frame begins. */
  readonly components: number | undefined;
  /** How it is turned, by Exif's numbers: 1 is upright. Undefined where what it says of that makes no sense. */
  readonly orientation: number | undefined;
}

/** Reads it; undefined for what is no JPEG. */
export function jpegHeader(bytes: Uint8Array): JpegHeader | undefined {
  if (bytes[0] !== 0xff || bytes[1] !== 0xd8) return undefined;
  let orientation: number | undefined = 1;
  for (let at = 2; at + 9 < bytes.length && bytes[at] === 0xff;) {
    const marker = bytes[at + 1];
    // SOF0 to SOF15, but for the tables (C4, C8, CC) among them
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker))
      return { components: bytes[at + 9], orientation };
    const next = at + 2 + (bytes[at + 2] << 8) + bytes[at + 3];
    if (marker === 0xe1 && isExif(bytes, at + 4))
      orientation = exifOrientation(bytes.subarray(at + 10, next));
    at = next;
  }
  return { components: undefined, orientation };
}

const isExif = (bytes: Uint8Array, at: number): boolean =>
  [0x45, 0x78, 0x69, 0x66, 0, 0].every((letter, i) => bytes[at + i] === letter);

const ORIENTATION = 0x0112;
const SHORT = 3;

/** That of Exif's first directory, 1 where there is none, undefined where there is no such directory. */
function exifOrientation(tiff: Uint8Array): number | undefined {
  if (tiff.length < 8) return undefined;
  const view = new DataView(tiff.buffer, tiff.byteOffset, tiff.byteLength);
  const order = view.getUint16(0);
  if (order !== 0x4949 && order !== 0x4d4d) return undefined;
  const isLittle = order === 0x4949;
  const directory = view.getUint32(4, isLittle);
  if (view.getUint16(2, isLittle) !== 42 || directory + 2 > tiff.length) return undefined;
  const entries = view.getUint16(directory, isLittle);
  if (directory + 2 + 12 * entries > tiff.length) return undefined;
  for (let i = 0; i < entries; i++) {
    const entry = directory + 2 + 12 * i;
    if (view.getUint16(entry, isLittle) !== ORIENTATION) continue;
    return view.getUint16(entry + 2, isLittle) === SHORT ? view.getUint16(entry + 8, isLittle) : undefined;
  }
  return 1;
}
