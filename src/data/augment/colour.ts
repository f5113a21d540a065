/**
 * Changes of colour as Pillow makes them, bit for bit. Each gives a new image, or the same one where nothing changes.
 *
 * Source: Pillow, PIL/ImageOps.py, PIL/ImageEnhance.py, src/libImaging/Blend.c.
 */
import type { Image } from '../image.js';

/** Each level by a table: one for all channels, or one for each. */
function lookUp({ data, height, width }: Image, table: Uint8Array): Image {
  const out = new Uint8Array(data.length);
  const green = table.length === 768 ? 256 : 0;
  const blue = 2 * green;
  for (let i = 0; i < data.length; i += 3) {
    out[i] = table[data[i]];
    out[i + 1] = table[green + data[i + 1]];
    out[i + 2] = table[blue + data[i + 2]];
  }
  return { data: out, height, width };
}

/** `255 - v` */
export function invert(image: Image): Image {
  return solarize(image, 0);
}

/** Keeps the highest bits of each level. */
export function posterize(image: Image, bits: number): Image {
  if (bits >= 8) return image;
  const mask = 256 - 2 ** (8 - bits);
  return lookUp(
    image,
    Uint8Array.from({ length: 256 }, (_, v) => v & mask),
  );
}

/** Inverts the levels from a threshold on. */
export function solarize(image: Image, threshold: number): Image {
  return lookUp(
    image,
    Uint8Array.from({ length: 256 }, (_, v) => (v < threshold ? v : 255 - v)),
  );
}

/** Adds to the levels below 128, up to 255. */
export function solarizeAdd(image: Image, add: number): Image {
  return lookUp(
    image,
    Uint8Array.from({ length: 256 }, (_, v) => (v < 128 ? Math.min(255, v + add) : v)),
  );
}

/** How often each level occurs in each channel, `[3, 256]`. */
function histogram({ data }: Image): Uint32Array {
  const counts = new Uint32Array(768);
  for (let i = 0; i < data.length; i += 3) {
    counts[data[i]] += 1;
    counts[256 + data[i + 1]] += 1;
    counts[512 + data[i + 2]] += 1;
  }
  return counts;
}

/** Stretches each channel to all levels. */
export function autoContrast(image: Image): Image {
  const counts = histogram(image);
  const table = new Uint8Array(768);
  for (let c = 0; c < 768; c += 256) {
    let low = 0;
    let high = 255;
    while (low < 255 && counts[c + low] === 0) low += 1;
    while (high > 0 && counts[c + high] === 0) high -= 1;
    const scale = high > low ? 255 / (high - low) : 1;
    const shift = high > low ? -low * scale : 0;
    for (let v = 0; v < 256; v++) {
      table[c + v] = Math.min(255, Math.max(0, Math.trunc(v * scale + shift)));
    }
  }
  return lookUp(image, table);
}

/** Makes the levels of each channel equally frequent. */
export function equalize(image: Image): Image {
  const counts = histogram(image);
  const table = new Uint8Array(768);
  for (let c = 0; c < 768; c += 256) {
    const own = counts.subarray(c, c + 256);
    const last = own.findLast((count) => count > 0) ?? 0;
    const step = Math.floor((image.height * image.width - last) / 255);
    let n = step >> 1;
    for (let v = 0; v < 256; v++) {
      table[c + v] = step === 0 ? v : Math.min(255, Math.floor(n / step));
      n += own[v];
    }
  }
  return lookUp(image, table);
}

/** Pillow's blend in float32: `from + factor (to - from)`, cut to a level. `factor` is a float32. */
export function blend(from: number, to: number, factor: number): number {
  const value = Math.fround(from + Math.fround(factor * (to - from)));
  return value <= 0 ? 0 : value >= 255 ? 255 : Math.trunc(value);
}

/** The level of grey of a colour. */
function grey(r: number, g: number, b: number): number {
  return (19595 * r + 38470 * g + 7471 * b + 32768) >> 16;
}

/** Saturation: 0 is grey, 1 the image. */
export function color({ data, height, width }: Image, factor: number): Image {
  const f = Math.fround(factor);
  const out = new Uint8Array(data.length);
  for (let i = 0; i < data.length; i += 3) {
    const level = grey(data[i], data[i + 1], data[i + 2]);
    out[i] = blend(level, data[i], f);
    out[i + 1] = blend(level, data[i + 1], f);
    out[i + 2] = blend(level, data[i + 2], f);
  }
  return { data: out, height, width };
}

/** From the image's mean level of grey: 0 is that grey, 1 the image. */
export function contrast(image: Image, factor: number): Image {
  const { data } = image;
  let sum = 0;
  for (let i = 0; i < data.length; i += 3) sum += grey(data[i], data[i + 1], data[i + 2]);
  const mean = Math.trunc((3 * sum) / data.length + 0.5);
  const f = Math.fround(factor);
  return lookUp(
    image,
    Uint8Array.from({ length: 256 }, (_, v) => blend(mean, v, f)),
  );
}

/** 0 is black, 1 the image. */
export function brightness(image: Image, factor: number): Image {
  const f = Math.fround(factor);
  return lookUp(
    image,
    Uint8Array.from({ length: 256 }, (_, v) => blend(0, v, f)),
  );
}
