/**
 * RandAugment and 3-Augment: which operations, how strong, and how timm writes it down.
 *
 * Source: Cubuk et al., "RandAugment", 2020; Touvron et al., "DeiT III", 2022; timm, data/auto_augment.py.
 */
import { fail } from '../../tensor/error.js';
import { type KindNames, expectKind } from '../../tensor/options.js';
import type { Image } from '../image.js';
import type { SampleRandom } from '../sample-random.js';
import type { AffineMode, Colour } from './affine.js';
import { color, solarize } from './colour.js';
import { gaussianBlur } from './filter.js';
import { INCREASING, OPS, type OpName, PLAIN } from './ops.js';

/** RandAugment's settings. */
export interface RandAugment {
  readonly kind: 'rand';
  /** Mean strength, of 10. */
  readonly magnitude: number;
  /** Standard deviation of the strength; Infinity draws it evenly from 0 to `magnitude`. */
  readonly magnitudeStd: number;
  /** Largest strength. */
  readonly magnitudeMax: number;
  /** Operations for each image. */
  readonly count: number;
  /** Probability of each. */
  readonly p: number;
  readonly set: OpSet;
}

/** What `--aa` stands for. */
export type AugmentPolicy = RandAugment | { readonly kind: '3a' };

/** A set of operations: some grow weaker with the strength in 'plain', all grow stronger in 'increasing'. */
export type OpSet = 'plain' | 'increasing' | 'weights' | '3a' | '3aw';

/** @internal */
export const POLICIES = {
  rand: {
    kind: true,
    magnitude: true,
    magnitudeStd: true,
    magnitudeMax: true,
    count: true,
    p: true,
    set: true,
  },
  '3a': { kind: true },
} satisfies KindNames<AugmentPolicy>;

/** Sets with weights are drawn from without replacement. */
const SETS: Readonly<Record<OpSet, readonly OpName[] | Readonly<Partial<Record<OpName, number>>>>> = {
  plain: PLAIN,
  increasing: INCREASING,
  weights: {
    Rotate: 3,
    ShearX: 2,
    ShearY: 2,
    TranslateXRel: 1,
    TranslateYRel: 1,
    ColorIncreasing: 0.25,
    SharpnessIncreasing: 0.25,
    AutoContrast: 0.25,
    SolarizeIncreasing: 0.05,
    SolarizeAdd: 0.05,
    ContrastIncreasing: 0.05,
    BrightnessIncreasing: 0.05,
    Equalize: 0.05,
    PosterizeIncreasing: 0.05,
    Invert: 0.05,
  },
  '3a': ['SolarizeIncreasing', 'Desaturate', 'GaussianBlur'],
  '3aw': {
    SolarizeIncreasing: 6,
    Desaturate: 6,
    GaussianBlur: 6,
    Rotate: 3,
    ShearX: 2,
    ShearY: 2,
    PosterizeIncreasing: 1,
    AutoContrast: 1,
    ColorIncreasing: 1,
    SharpnessIncreasing: 1,
    ContrastIncreasing: 1,
    BrightnessIncreasing: 1,
    Equalize: 1,
    Invert: 1,
  },
};

/** A section of the text: its number's range, and the setting. */
const NUMBERS: Readonly<Record<string, readonly [range: string, fits: (x: number) => boolean]>> = {
  m: ['a magnitude of at least 0', (x) => x >= 0],
  n: ['a whole number of operations above 0', (x) => Number.isInteger(x) && x > 0],
  p: ['a probability in [0, 1]', (x) => x >= 0 && x <= 1],
  mstd: ['a standard deviation of at least 0', (x) => x >= 0],
  mmax: ['a largest magnitude above 0', (x) => x > 0],
  inc: ['inc0 or inc1', (x) => x === 0 || x === 1],
};

/**
 * Reads timm's notation: `rand` and sections between dashes, `m` the magnitude (default 10), `n` the operations of an
 * image (2), `p` the probability of each (0.5), `mstd` the standard deviation of the magnitude (0; above 100 it is drawn
 * evenly from 0 to m), `mmax` its limit (10), `inc1` for the increasing set, `tweights`, `t3a` or `t3aw` for another one;
 * or `3a`, the 3-Augment of DeiT III.
 *
 * @throws TensorError VALUE for any other text
 * @example
 * const policy = parseAugment('rand-m9-mstd0.5-inc1');
 */
export function parseAugment(text: string): AugmentPolicy {
  const [head, ...sections] = text.split('-');
  if (text === '3a') return { kind: '3a' };
  if (head !== 'rand') {
    return wrong(text, "'3a', or 'rand' and sections between dashes such as rand-m9-mstd0.5-inc1");
  }
  const values: Record<string, number> = { m: 10, n: 2, p: 0.5, mstd: 0, mmax: 10, inc: 0 };
  let set: OpSet | undefined;
  const seen = new Set<string>();
  for (const section of sections) {
    const [, letters, number] = /^([a-z]*)(.*)$/.exec(section) ?? ['', '', ''];
    const key = section.startsWith('t') ? 't' : letters;
    if (seen.has(key)) return wrong(text, `each section once, not ${key} again`);
    seen.add(key);
    if (key === 't') {
      const name = section.slice(1);
      if (name !== 'weights' && name !== '3a' && name !== '3aw')
        return wrong(text, `tweights, t3a or t3aw, not '${section}'`);
      set = name;
      continue;
    }
    if (!(key in NUMBERS)) return wrong(text, `sections m, n, p, mstd, mmax, inc and t, not '${section}'`);
    const [range, fits] = NUMBERS[key];
    const value = /^\d+(\.\d+)?$/.test(number) ? Number(number) : NaN;
    if (!fits(value)) return wrong(text, `${range}, not '${section}'`);
    values[key] = value;
  }
  return {
    kind: 'rand',
    magnitude: values.m,
    magnitudeStd: values.mstd > 100 ? Infinity : values.mstd,
    magnitudeMax: values.mmax,
    count: values.n,
    p: values.p,
    set: set ?? (values.inc === 1 ? 'increasing' : 'plain'),
  };
}

function wrong(text: string, expected: string): never {
  return fail('parseAugment', 'VALUE', `expected ${expected}, got '${text}'`);
}

/** A strength: normal about the mean, within its limits. */
export function drawMagnitude(policy: RandAugment, random: SampleRandom): number {
  const { magnitude, magnitudeStd, magnitudeMax } = policy;
  let drawn = magnitude;
  if (magnitudeStd === Infinity) drawn = random.range(0, magnitude);
  else if (magnitudeStd > 0) drawn += magnitudeStd * random.normal();
  return Math.max(0, Math.min(drawn, magnitudeMax));
}

/** The operations of one image. */
export function drawOps({ set, count }: RandAugment, random: SampleRandom): OpName[] {
  const ops = SETS[set];
  if (Array.isArray(ops))
    return Array.from({ length: count }, () => (ops as OpName[])[random.int(ops.length)]);
  const left = new Map(Object.entries(ops) as [OpName, number][]);
  return Array.from({ length: Math.min(count, left.size) }, () => {
    let rest = random.uniform() * [...left.values()].reduce((sum, weight) => sum + weight, 0);
    let drawn = [...left.keys()][0];
    for (const [name, weight] of left) {
      drawn = name;
      rest -= weight;
      if (rest < 0) break;
    }
    left.delete(drawn);
    return drawn;
  });
}

/**
 * Augments an image by a policy: `count` random operations, each with probability p; or, for '3a', one of grey, solarize
 * and blur.
 *
 * @param mode how points between pixels are looked up
 * @param fill what comes in from outside the image
 * @example
 * augment(image, parseAugment('rand-m9-mstd0.5-inc1'), 'bicubic', [124, 116, 104], new SampleRandom(0, 0, 0));
 */
export function augment(
  image: Image,
  policy: AugmentPolicy,
  mode: AffineMode,
  fill: Colour,
  random: SampleRandom,
): Image {
  expectKind('augment', policy, POLICIES);
  if (policy.kind === '3a') {
    const choice = random.int(3);
    if (choice === 0) return color(image, 0);
    return choice === 1 ? solarize(image, 128) : gaussianBlur(image, random.range(0.1, 2));
  }
  let current = image;
  for (const name of drawOps(policy, random)) {
    if (random.uniform() >= policy.p) continue;
    const { argument, apply } = OPS[name];
    current = apply(current, argument(drawMagnitude(policy, random), random), mode, fill);
  }
  return current;
}
