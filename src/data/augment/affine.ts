/**
 * Affine maps of an image as Pillow makes them, bit for bit: an output pixel is looked up where the map puts its centre,
 * with the image's border repeated below the filter's taps; what lies outside gets a colour.
 *
 * Source: Pillow, src/libImaging/Geometry.c.
 */
import type { Image } from '../image.js';

/** How a point between pixels is looked up. The cubic is sharper than that of `resize`: its a is -1. */
export type AffineMode = 'nearest' | 'bilinear' | 'bicubic';

/** From the output to the input, in pixels with centres at half: `x' = a x + b y + c`, `y' = d x + e y + f`. */
export type AffineMatrix = readonly [a: number, b: number, c: number, d: number, e: number, f: number];

/** Levels of red, green and blue. */
export type Colour = readonly [red: number, green: number, blue: number];

/** Rows that lean: `x' = x + factor y`. */
export function shearX(factor: number): AffineMatrix {
  return [1, factor, 0, 0, 1, 0];
}

/** Columns that lean: `y' = y + factor x`. */
export function shearY(factor: number): AffineMatrix {
  return [1, 0, 0, factor, 1, 0];
}

/** Content that moves left by x and up by y pixels. */
export function translation(x: number, y: number): AffineMatrix {
  return [1, 0, x, 0, 1, y];
}

/** A turn about the middle of an image, counter-clockwise. */
export function rotation(degrees: number, { height, width }: Pick<Image, 'height' | 'width'>): AffineMatrix {
  const angle = (-(((degrees % 360) + 360) % 360) * Math.PI) / 180;
  const round15 = (x: number): number => Math.round(x * 1e15) / 1e15; // so that a quarter turn is one
  const [cos, sin] = [round15(Math.cos(angle)), round15(Math.sin(angle))];
  const [x, y] = [width / 2, height / 2];
  return [cos, sin, cos * -x + sin * -y + x, -sin, cos, -sin * -x + cos * -y + y];
}

/**
 * The image under an affine map, in its own size.
 *
 * @example
 * const leaning = affine(image, shearX(0.3), 'bicubic', [124, 116, 104]);
 */
export function affine(image: Image, matrix: AffineMatrix, mode: AffineMode, fill: Colour): Image {
  const { height, width } = image;
  const data = new Uint8Array(height * width * 3);
  data.set(fill);
  for (let done = 3; done < data.length; done *= 2) data.copyWithin(done, 0, done);
  const out = { data, height, width };
  switch (mode) {
    case 'nearest':
      nearest(image, matrix, out);
      break;
    case 'bilinear':
      bilinear(image, matrix, out);
      break;
    case 'bicubic':
      bicubic(image, matrix, out);
  }
  return out;
}

/** Pillow steps in 16.16 fixed point, but where rows stay rows and columns columns. */
function nearest({ data, height, width }: Image, [a, b, c, d, e, f]: AffineMatrix, out: Image): void {
  const straight = b === 0 && d === 0;
  const fix = (x: number): number => (straight ? x : Math.floor(x * 65536 + 0.5));
  const unit = straight ? 1 : 65536;
  const [stepX, stepY] = [fix(a), fix(d)];
  for (let y = 0, to = 0; y < height; y++) {
    let atX = fix(c + a * 0.5 + b * 0.5) + y * fix(b);
    let atY = fix(f + d * 0.5 + e * 0.5) + y * fix(e);
    for (let x = 0; x < width; x++, to += 3, atX += stepX, atY += stepY) {
      const fromX = Math.floor(atX / unit);
      const fromY = Math.floor(atY / unit);
      if (fromX < 0 || fromX >= width || fromY < 0 || fromY >= height) continue;
      const from = (fromY * width + fromX) * 3;
      out.data[to] = data[from];
      out.data[to + 1] = data[from + 1];
      out.data[to + 2] = data[from + 2];
    }
  }
}

function clamp(i: number, size: number): number {
  return i < 0 ? 0 : i >= size ? size - 1 : i;
}

function bilinear({ data, height, width }: Image, [a, b, c, d, e, f]: AffineMatrix, out: Image): void {
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0; x < width; x++, to += 3) {
      const atX = a * (x + 0.5) + b * (y + 0.5) + c;
      const atY = d * (x + 0.5) + e * (y + 0.5) + f;
      if (!(atX >= 0 && atX < width && atY >= 0 && atY < height)) continue;
      const left = Math.floor(atX - 0.5);
      const top = Math.floor(atY - 0.5);
      const dx = atX - 0.5 - left;
      const dy = atY - 0.5 - top;
      const x0 = clamp(left, width) * 3;
      const x1 = clamp(left + 1, width) * 3;
      const row0 = clamp(top, height) * width * 3;
      const row1 = clamp(top + 1, height) * width * 3;
      for (let k = 0; k < 3; k++) {
        const p = data[row0 + x0 + k];
        const q = data[row1 + x0 + k];
        const above = p + (data[row0 + x1 + k] - p) * dx;
        const below = q + (data[row1 + x1 + k] - q) * dx;
        out.data[to + k] = above + (below - above) * dy; // storing truncates
      }
    }
  }
}

/** The cubic through four points with a = -1, in Pillow's order of operations. */
function cubic(v1: number, v2: number, v3: number, v4: number, d: number): number {
  return v2 + d * (v3 - v1 + d * (2 * (v1 - v2) + v3 - v4 + d * (v2 - v1 - v3 + v4)));
}

function bicubic({ data, height, width }: Image, [a, b, c, d, e, f]: AffineMatrix, out: Image): void {
  const to8 = out.data;
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0; x < width; x++, to += 3) {
      const atX = a * (x + 0.5) + b * (y + 0.5) + c;
      const atY = d * (x + 0.5) + e * (y + 0.5) + f;
      if (!(atX >= 0 && atX < width && atY >= 0 && atY < height)) continue;
      const left = Math.floor(atX - 0.5);
      const top = Math.floor(atY - 0.5);
      const dx = atX - 0.5 - left;
      const dy = atY - 0.5 - top;
      const x0 = clamp(left - 1, width) * 3;
      const x1 = clamp(left, width) * 3;
      const x2 = clamp(left + 1, width) * 3;
      const x3 = clamp(left + 2, width) * 3;
      const row0 = clamp(top - 1, height) * width * 3;
      const row1 = clamp(top, height) * width * 3;
      const row2 = clamp(top + 1, height) * width * 3;
      const row3 = clamp(top + 2, height) * width * 3;
      for (let k = 0; k < 3; k++) {
        let value: number;
        // Shears and translations move along one axis: there the other's cubic is its second tap.
        if (dx === 0) {
          const at = x1 + k;
          value = cubic(data[row0 + at], data[row1 + at], data[row2 + at], data[row3 + at], dy);
        } else {
          value = cubic(
            data[row1 + x0 + k],
            data[row1 + x1 + k],
            data[row1 + x2 + k],
            data[row1 + x3 + k],
            dx,
          );
          if (dy !== 0) {
            value = cubic(
              cubic(data[row0 + x0 + k], data[row0 + x1 + k], data[row0 + x2 + k], data[row0 + x3 + k], dx),
              value,
              cubic(data[row2 + x0 + k], data[row2 + x1 + k], data[row2 + x2 + k], data[row2 + x3 + k], dx),
              cubic(data[row3 + x0 + k], data[row3 + x1 + k], data[row3 + x2 + k], data[row3 + x3 + k], dx),
              dy,
            );
          }
        }
        to8[to + k] = value <= 0 ? 0 : value >= 255 ? 255 : value; // storing truncates
      }
    }
  }
}
