/**
 * Sharpening and blurring as Pillow does it, bit for bit.
 *
 * Source: Pillow, PIL/ImageEnhance.py, src/libImaging/Filter.c and BoxBlur.c.
 */
import type { Image } from '../image.js';
import { blend } from './colour.js';

/** 0 is smooth, 1 the image, above 1 sharper. The border of one pixel stays. */
export function sharpness({ data, height, width }: Image, factor: number): Image {
  const f = Math.fround(factor);
  const stride = 3 * width;
  const out = data.slice();
  for (let y = 1; y < height - 1; y++) {
    for (let i = y * stride + 3; i < (y + 1) * stride - 3; i++) {
      const above = data[i - stride - 3] + data[i - stride] + data[i - stride + 3];
      const below = data[i + stride - 3] + data[i + stride] + data[i + stride + 3];
      const sum = above + data[i - 3] + 5 * data[i] + data[i + 3] + below;
      out[i] = blend(Math.floor((2 * sum + 13) / 26), data[i], f); // sum / 13, rounded
    }
  }
  return { data: out, height, width };
}

/** Boxes after one another that make a bell. */
const PASSES = 3;

/**
 * The half-width of boxes, with its fraction, that together have a Gaussian's variance.
 *
 * Source: Gwosdek et al., "Theoretical foundations of Gaussian convolution by extended box filtering", 2011.
 */
function boxRadius(sigma: number): number {
  const variance = Math.fround(Math.fround(sigma * sigma) / PASSES);
  const whole = Math.floor((Math.sqrt(12 * variance + 1) - 1) / 2);
  const numerator = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance);
  return Math.fround(whole + numerator / (6 * (variance - (whole + 1) ** 2)));
}

/** A Gaussian of standard deviation `sigma`, in pixels, as three boxes along each axis. */
export function gaussianBlur(image: Image, sigma: number): Image {
  const { height, width } = image;
  const box = boxRadius(sigma);
  if (box === 0) return image;
  const pad = Math.trunc(box) + 1;
  const data = image.data.slice();
  for (const [lines, lineStep, count, step] of [
    [height, 3 * width, width, 3],
    [width, 3, height, 3 * width],
  ]) {
    let line = new Uint8Array(count + 2 * pad);
    let next = new Uint8Array(count + 2 * pad);
    for (let start = 0; start < lines * lineStep; start += lineStep) {
      for (let c = 0; c < 3; c++) {
        for (let i = 0, at = start + c; i < count; i++, at += step) line[pad + i] = data[at];
        for (let pass = 0; pass < PASSES; pass++) {
          boxBlur(line, next, pad, box);
          [line, next] = [next, line];
        }
        for (let i = 0, at = start + c; i < count; i++, at += step) data[at] = line[pad + i];
      }
    }
  }
  return { data, height, width };
}

/** The mean of `2 box + 1` pixels, of the outermost a part each; `pad` pixels on each side repeat the border. */
function boxBlur(line: Uint8Array, out: Uint8Array, pad: number, box: number): void {
  const end = line.length - pad;
  line.fill(line[pad], 0, pad);
  line.fill(line[end - 1], end);
  const weight = Math.trunc(2 ** 24 / Math.fround(box * 2 + 1));
  const farWeight = Math.trunc((2 ** 24 - (2 * pad - 1) * weight) / 2);
  let sum = 0;
  for (let i = 0; i < 2 * pad - 1; i++) sum += line[i]; // around the pixel before the first
  for (let i = pad; i < end; i++) {
    sum += line[i + pad - 1] - line[i - pad];
    const far = line[i - pad] + line[i + pad];
    out[i] = (sum * weight + far * farWeight + 2 ** 23) / 2 ** 24; // storing truncates
  }
}
