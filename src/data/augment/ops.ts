/**
 * The operations of RandAugment: what a magnitude of 0 to 10 means to each.
 *
 * Source: timm, data/auto_augment.py.
 */
import type { Image } from '../image.js';
import type { SampleRandom } from '../sample-random.js';
import {
  type AffineMatrix,
  type AffineMode,
  type Colour,
  affine,
  rotation,
  shearX,
  shearY,
  translation,
} from './affine.js';
import {
  autoContrast,
  brightness,
  color,
  contrast,
  equalize,
  invert,
  posterize,
  solarize,
  solarizeAdd,
} from './colour.js';
import { gaussianBlur, sharpness } from './filter.js';

interface Op {
  /** From a magnitude to the operation's argument; some draw a sign. */
  readonly argument: (magnitude: number, random: SampleRandom) => number;
  readonly apply: (image: Image, argument: number, mode: AffineMode, fill: Colour) => Image;
}

type Argument = Op['argument'];

const none: Argument = () => 0;
const upTo =
  (most: number): Argument =>
  (m) =>
    (m / 10) * most;
const whole =
  (most: number): Argument =>
  (m) =>
    Math.trunc((m / 10) * most);
const signed =
  (most: number): Argument =>
  (m, random) =>
    (random.uniform() < 0.5 ? -1 : 1) * (m / 10) * most;
const between =
  (least: number, most: number): Argument =>
  (m) =>
    Math.min(most, least + (most - least) * (m / 10));

const keptBits = whole(4);
const threshold: Argument = (m, random) => Math.min(256, whole(256)(m, random));
/** A factor of 1 changes nothing; both sides of it change more with the magnitude. */
const awayFrom1: Argument = (m, random) => Math.max(0.1, 1 + signed(0.9)(m, random));
const from0: Argument = (m, random) => upTo(1.8)(m, random) + 0.1;

/** An operation that makes an affine map of its argument. */
const geometric = (argument: Argument, matrix: (argument: number, image: Image) => AffineMatrix): Op => ({
  argument,
  apply: (image, x, mode, fill) => affine(image, matrix(x, image), mode, fill),
});

/** Every operation, by timm's name. */
export const OPS = {
  AutoContrast: { argument: none, apply: autoContrast },
  Equalize: { argument: none, apply: equalize },
  Invert: { argument: none, apply: invert },
  Rotate: geometric(signed(30), rotation),
  Posterize: { argument: keptBits, apply: posterize },
  PosterizeIncreasing: { argument: (m, random) => 4 - keptBits(m, random), apply: posterize },
  PosterizeOriginal: { argument: (m, random) => 4 + keptBits(m, random), apply: posterize },
  Solarize: { argument: threshold, apply: solarize },
  SolarizeIncreasing: { argument: (m, random) => 256 - threshold(m, random), apply: solarize },
  SolarizeAdd: { argument: (m, random) => Math.min(128, whole(110)(m, random)), apply: solarizeAdd },
  Color: { argument: from0, apply: color },
  ColorIncreasing: { argument: awayFrom1, apply: color },
  Contrast: { argument: from0, apply: contrast },
  ContrastIncreasing: { argument: awayFrom1, apply: contrast },
  Brightness: { argument: from0, apply: brightness },
  BrightnessIncreasing: { argument: awayFrom1, apply: brightness },
  Sharpness: { argument: from0, apply: sharpness },
  SharpnessIncreasing: { argument: awayFrom1, apply: sharpness },
  ShearX: geometric(signed(0.3), shearX),
  ShearY: geometric(signed(0.3), shearY),
  TranslateXRel: geometric(signed(0.45), (x, { width }) => translation(x * width, 0)),
  TranslateYRel: geometric(signed(0.45), (y, { height }) => translation(0, y * height)),
  Desaturate: { argument: between(0.5, 1), apply: (image, x) => color(image, 1 - x) },
  GaussianBlur: { argument: between(0.1, 2), apply: gaussianBlur },
} as const satisfies Record<string, Op>;

/** An operation's name. */
export type OpName = keyof typeof OPS;

const GEOMETRIC = ['ShearX', 'ShearY', 'TranslateXRel', 'TranslateYRel'] as const;

/** The set of the first paper: at 10, posterize and solarize change least. */
export const PLAIN: readonly OpName[] = [
  'AutoContrast',
  'Equalize',
  'Invert',
  'Rotate',
  'Posterize',
  'Solarize',
  'SolarizeAdd',
  'Color',
  'Contrast',
  'Brightness',
  'Sharpness',
  ...GEOMETRIC,
];

/** The set whose every operation changes more with the magnitude. */
export const INCREASING: readonly OpName[] = [
  'AutoContrast',
  'Equalize',
  'Invert',
  'Rotate',
  'PosterizeIncreasing',
  'SolarizeIncreasing',
  'SolarizeAdd',
  'ColorIncreasing',
  'ContrastIncreasing',
  'BrightnessIncreasing',
  'SharpnessIncreasing',
  ...GEOMETRIC,
];
