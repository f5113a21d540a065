/**
 * A procedural data set of twelve shapes, so that a fresh machine has something to train on.
 *
 * One picture is a textured background, a few distractor lines and dots, and on top one textured figure of random size,
 * place, turn and colour, always lighter than its background. Figures are signed distance functions in a frame where they fill the unit circle (y down), after
 * I. Quilez, "2D distance functions"; the distance in pixels gives the anti-aliased coverage of a pixel. A scene is drawn in
 * units of the image's side, so (seed, index) is the same picture at every size.
 *
 * Only + - * /, square roots and integer operations are used: IEEE 754 rounds these the same everywhere, while
 * sin, cos, exp and hypot differ in the last bit between JavaScript engines.
 */
import { fail } from '../tensor/error.js';
import type { Image } from './image.js';
import { SampleRandom } from './sample-random.js';

type Distance = (x: number, y: number) => number;
type Colour = readonly [r: number, g: number, b: number];

interface Figure {
  readonly name: string;
  readonly distance: Distance;
  /** Turned by at most 15 degrees instead of 30, which would make it another class (a square on its corner is a diamond). */
  readonly upright?: true;
}

/** A colour and the texture, in [-1, 1], that makes it `depth` grey levels lighter or darker. */
interface Paint {
  readonly colour: Colour;
  readonly depth: number;
  readonly texture: Distance;
}

/** Distance to a polygon given as x0, y0, x1, y1, ...; inside by the even-odd rule. */
function polygon(...points: readonly number[]): Distance {
  return (x, y) => {
    let nearest = Infinity;
    let inside = false;
    for (let i = 0, j = points.length - 2; i < points.length; j = i, i += 2) {
      const ax = points[i];
      const ay = points[i + 1];
      const ex = points[j] - ax;
      const ey = points[j + 1] - ay;
      const px = x - ax;
      const py = y - ay;
      const along = clamp((px * ex + py * ey) / (ex * ex + ey * ey), 0, 1);
      const dx = px - ex * along;
      const dy = py - ey * along;
      nearest = Math.min(nearest, dx * dx + dy * dy);
      if (py < 0 !== py < ey && px < (ex * py) / ey) inside = !inside;
    }
    return inside ? -Math.sqrt(nearest) : Math.sqrt(nearest);
  };
}

const clamp = (v: number, low: number, high: number): number => (v < low ? low : v > high ? high : v);
const length = (x: number, y: number): number => Math.sqrt(x * x + y * y);
const box = (x: number, y: number, w: number, h: number): number =>
  Math.max(Math.abs(x) - w, Math.abs(y) - h);

/** Two round lobes over a right-angled tip (Quilez's sdHeart, scaled to the unit circle and turned y down). */
function heart(x: number, y: number): number {
  const u = Math.abs(x) / 1.5;
  const v = (0.84 - y) / 1.5;
  if (u + v > 1) return 1.5 * (length(u - 0.25, v - 0.75) - Math.SQRT2 / 4);
  const m = Math.max(u + v, 0) / 2;
  const outer = Math.min(length(u, v - 1), length(u - m, v - m));
  return u > v ? 1.5 * outer : -1.5 * outer;
}

const FIGURES: readonly Figure[] = [
  { name: 'circle', distance: (x, y) => length(x, y) - 0.86 },
  { name: 'square', distance: (x, y) => box(x, y, 0.7, 0.7), upright: true },
  { name: 'triangle', distance: polygon(0, -1, 0.866, 0.5, -0.866, 0.5) },
  { name: 'diamond', distance: polygon(0, -1, 0.68, 0, 0, 1, -0.68, 0), upright: true },
  {
    name: 'star',
    distance: polygon(
      ...[0, -1, 0.247, -0.34, 0.951, -0.309, 0.399, 0.13, 0.588, 0.809],
      ...[0, 0.42, -0.588, 0.809, -0.399, 0.13, -0.951, -0.309, -0.247, -0.34],
    ),
  },
  { name: 'cross', distance: (x, y) => Math.min(box(x, y, 0.95, 0.29), box(x, y, 0.29, 0.95)) },
  { name: 'ring', distance: (x, y) => Math.abs(length(x, y) - 0.69) - 0.23 },
  {
    name: 'crescent',
    distance: (x, y) => Math.max(length(x - 0.08, y) - 0.92, 0.74 - length(x - 0.5, y)),
  },
  { name: 'heart', distance: heart },
  {
    name: 'arrow',
    distance: polygon(
      ...[0, -1, 0.72, -0.1, 0.27, -0.1, 0.27, 0.95],
      ...[-0.27, 0.95, -0.27, -0.1, -0.72, -0.1],
    ),
  },
  { name: 'semicircle', distance: (x, y) => Math.max(length(x, y - 0.4) - 0.9, y - 0.4) },
  {
    name: 'hourglass',
    distance: (x, y) => Math.max(Math.abs(y) - 0.78, (Math.abs(x) - 0.68 * Math.abs(y) - 0.08) / 1.21),
  },
];

/** The classes of the shapes data set; a label is a place in this list. */
export const SHAPE_CLASSES: readonly string[] = FIGURES.map((figure) => figure.name);

// Grey levels. The figure's and the background's colours are at least CONTRAST apart in luma and a texture moves each
// by at most DEPTH, so they never come nearer than CONTRAST - 2 * DEPTH. BLACK and WHITE leave a texture its room.
const CONTRAST = 85;
const DEPTH = 20;
const BLACK = DEPTH;
const WHITE = 255 - DEPTH;

// The `epoch` of this file's random numbers: one that no training reaches, so that a picture shares no numbers with its
// augmentation.
const STREAM = 2 ** 31 - 1;

// tan(angle / 2) of the largest turn: 15 degrees, 30 degrees, and 45 degrees beside a whole number of quarter turns.
const UPRIGHT = 0.13165;
const LEANING = 0.26795;
const EIGHTH = Math.SQRT2 - 1;

/** ITU-R BT.601. */
const luma = (r: number, g: number, b: number): number => 0.299 * r + 0.587 * g + 0.114 * b;

/** A random colour of the given luma: a random hue about that grey, as vivid as BLACK and WHITE allow. */
function colourOf(grey: number, random: SampleRandom): Colour {
  const r = random.range(0, 255);
  const g = random.range(0, 255);
  const b = random.range(0, 255);
  const own = luma(r, g, b);
  let vivid = 1;
  for (const channel of [r - own, g - own, b - own]) {
    if (channel > 0) vivid = Math.min(vivid, (WHITE - grey) / channel);
    if (channel < 0) vivid = Math.min(vivid, (BLACK - grey) / channel);
  }
  return [grey + vivid * (r - own), grey + vivid * (g - own), grey + vivid * (b - own)];
}

/** Cosine and sine of an angle in [-2 atan(limit), 2 atan(limit)], nearly uniform for a small limit. */
function turnWithin(limit: number, random: SampleRandom): [cos: number, sin: number] {
  const t = random.range(-limit, limit);
  const s = 1 + t * t;
  return [(1 - t * t) / s, (2 * t) / s];
}

/** Cosine and sine of an angle anywhere on the circle. */
function anyTurn(random: SampleRandom): [cos: number, sin: number] {
  const [c, s] = turnWithin(EIGHTH, random);
  return (
    [
      [c, s],
      [-s, c],
      [-c, -s],
      [s, -c],
    ] as [number, number][]
  )[random.int(4)];
}

/** A wave of period 1 with flat tops at -1 and 1. */
function wave(x: number): number {
  const phase = x - Math.floor(x);
  return clamp(6 * (2 * Math.abs(phase - 0.5) - 0.5), -1, 1);
}

/** A random number in [-1, 1) of a lattice point (the finalizer of MurmurHash3). */
function latticeValue(x: number, y: number, salt: number): number {
  let h = Math.imul(x, 0x9e3779b1) ^ Math.imul(y, 0x85ebca6b) ^ salt;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) / 2 ** 31;
}

/** Value noise: the lattice's numbers, bilinearly between its points. */
function noise(x: number, y: number, salt: number): number {
  const x0 = Math.floor(x);
  const y0 = Math.floor(y);
  const fx = x - x0;
  const fy = y - y0;
  const top = latticeValue(x0, y0, salt) * (1 - fx) + latticeValue(x0 + 1, y0, salt) * fx;
  const bottom = latticeValue(x0, y0 + 1, salt) * (1 - fx) + latticeValue(x0 + 1, y0 + 1, salt) * fx;
  return top * (1 - fy) + bottom * fy;
}

/** Plain, stripes, checks, gradient or noise, at a random pitch (in sides of the image) and turn. */
function randomTexture(random: SampleRandom): Distance {
  const [c, s] = anyTurn(random);
  const rate = 1 / random.range(0.12, 0.3);
  const shift = random.uniform();
  switch (random.int(5)) {
    case 0:
      return () => 0;
    case 1:
      return (x, y) => wave((c * x + s * y) * rate + shift);
    case 2:
      return (x, y) => wave((c * x + s * y) * rate + shift) * wave((c * y - s * x) * rate + shift);
    case 3:
      return (x, y) => (c * (2 * x - 1) + s * (2 * y - 1)) * Math.SQRT1_2;
    default: {
      const salt = Math.floor(shift * 2 ** 31);
      return (x, y) => noise(x * 3 * rate, y * 3 * rate, salt);
    }
  }
}

function randomPaint(grey: number, random: SampleRandom): Paint {
  return {
    colour: colourOf(grey, random),
    depth: random.range(DEPTH / 2, DEPTH),
    texture: randomTexture(random),
  };
}

/**
 * Paints all pixels within `reach` of (cx, cy) that a figure covers. `distance` is in sides of the image, like the places
 * it is asked for, relative to (cx, cy); a pixel half a pixel inside the outline is covered, half a pixel outside is not.
 */
function fill(image: Image, cx: number, cy: number, reach: number, distance: Distance, paint: Paint): void {
  const { data, width, height } = image;
  const { depth, texture } = paint;
  const [r, g, b] = paint.colour;
  const left = Math.max(0, Math.floor((cx - reach) * width - 1));
  const right = Math.min(width, Math.ceil((cx + reach) * width + 1));
  const top = Math.max(0, Math.floor((cy - reach) * height - 1));
  const bottom = Math.min(height, Math.ceil((cy + reach) * height + 1));
  for (let row = top; row < bottom; row++) {
    const y = (row + 0.5) / height;
    for (let column = left; column < right; column++) {
      const x = (column + 0.5) / width;
      const cover = clamp(0.5 - distance(x - cx, y - cy) * width, 0, 1);
      if (cover === 0) continue;
      const shade = depth * texture(x, y);
      const at = 3 * (row * width + column);
      data[at] += Math.round((r + shade - data[at]) * cover);
      data[at + 1] += Math.round((g + shade - data[at + 1]) * cover);
      data[at + 2] += Math.round((b + shade - data[at + 2]) * cover);
    }
  }
}

/** One distractor: a short line, or as short as a dot. */
function scatter(image: Image, random: SampleRandom): void {
  const cx = random.uniform();
  const cy = random.uniform();
  const [c, s] = anyTurn(random);
  const long = random.uniform() < 0.5;
  const half = long ? random.range(0.05, 0.14) : 0;
  const thick = long ? random.range(0.015, 0.025) : random.range(0.025, 0.045);
  const colour = colourOf(random.range(BLACK, WHITE), random);
  const stroke: Distance = (x, y) => {
    const along = clamp(c * x + s * y, -half, half);
    return length(x - c * along, y - s * along) - thick;
  };
  fill(image, cx, cy, half + thick, stroke, { colour, depth: 0, texture: () => 0 });
}

/** The figure at a random size, squeeze, turn and place, wholly inside the image. */
function drawFigure(image: Image, figure: Figure, paint: Paint, random: SampleRandom): void {
  const radius = random.range(0.27, 0.42);
  const squeeze = random.range(0.88, 1);
  const [c, s] = turnWithin(figure.upright ? UPRIGHT : LEANING, random);
  const cx = random.range(radius, 1 - radius);
  const cy = random.range(radius, 1 - radius);
  const across = radius * squeeze;
  const distance: Distance = (x, y) =>
    across * figure.distance((c * x + s * y) / across, (c * y - s * x) / radius);
  fill(image, cx, cy, radius, distance, paint);
}

function checkWhole(name: string, value: number, least: number, most: number): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  fail('drawShape', 'VALUE', `expected ${name} to be a whole number from ${least} to ${most}, got ${value}`);
}

/**
 * Draws one labelled RGB picture of the shapes data set: `label = index mod 12`, all else random in (seed, index), the same
 * on every machine and, but for resolution, at every size.
 *
 * The figure is lighter than the background by at least 45 grey levels of luma (ITU-R BT.601) under any texture.
 *
 * @param seed - a whole number; another seed is another data set.
 * @param index - place in the data set, a whole number below 2^32.
 * @param size - side of the square image in pixels, from 16 to 4096.
 * @returns the image, [size, size, 3], and its label, an index into {@link SHAPE_CLASSES}.
 * @throws TensorError VALUE when an argument is not such a number.
 *
 * @example
 * const { image, label } = drawShape(0, 7);
 * console.log(SHAPE_CLASSES[label], image.data.length); // crescent 3072
 */
export function drawShape(seed: number, index: number, size = 32): { image: Image; label: number } {
  checkWhole('seed', seed, 0, Number.MAX_SAFE_INTEGER);
  checkWhole('index', index, 0, 2 ** 32 - 1);
  checkWhole('size', size, 16, 4096);

  const random = new SampleRandom(seed, STREAM, index);
  const label = index % FIGURES.length;
  const dark = random.range(BLACK, WHITE - CONTRAST - 30);
  const light = random.range(dark + CONTRAST, WHITE);

  const image: Image = { data: new Uint8Array(3 * size * size), height: size, width: size };
  fill(image, 0.5, 0.5, 1, () => -1, randomPaint(dark, random));
  for (let count = random.int(5); count > 0; count--) scatter(image, random);
  drawFigure(image, FIGURES[label], randomPaint(light, random), random);
  return { image, label };
}
