/**
 * Images of known pixels.
 */
import sharp, { type Sharp } from 'sharp';

import type { Image } from '../../src/index.js';

/** (7x + 11y + 85c) mod 256. */
export function pattern(height: number, width: number): Image {
  const data = Uint8Array.from(
    { length: height * width * 3 },
    (_, i) => (7 * (Math.floor(i / 3) % width) + 11 * Math.floor(i / 3 / width) + 85 * (i % 3)) % 256,
  );
  return { data, height, width };
}

/** One colour. */
export function flat(height: number, width: number, colour: readonly [number, number, number]): Image {
  return { data: Uint8Array.from({ length: height * width * 3 }, (_, i) => colour[i % 3]), height, width };
}

/** An image for sharp to encode. */
export function toSharp({ data, height, width }: Image): Sharp {
  return sharp(data, { raw: { height, width, channels: 3 } });
}

/** A pixel's channels. */
export function pixelAt({ data, width }: Image, y: number, x: number): number[] {
  return [...data.subarray((y * width + x) * 3, (y * width + x) * 3 + 3)];
}

/** The largest and the mean absolute difference, in levels; infinite for images of different sizes. */
export function difference(
  actual: ArrayLike<number>,
  expected: ArrayLike<number | bigint>,
): { worst: number; mean: number } {
  if (actual.length !== expected.length) return { worst: Infinity, mean: Infinity };
  let worst = 0;
  let sum = 0;
  for (let i = 0; i < expected.length; i++) {
    const apart = Math.abs(actual[i] - Number(expected[i]));
    worst = Math.max(worst, apart);
    sum += apart;
  }
  return { worst, mean: sum / expected.length };
}
