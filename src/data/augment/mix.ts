/**
 * Mixup and CutMix: every image of a batch gets some of its partner's pixels, and of its label. Partners are the first
 * and the last, the second and the last but one, and so on.
 *
 * Source: Zhang et al., "mixup", 2018; Yun et al., "CutMix", 2019; timm, data/mixup.py.
 */
import { fail } from '../../tensor/error.js';
import { type OptionNames, expectOptions } from '../../tensor/options.js';
import type { SampleRandom } from '../sample-random.js';
import type { Box } from './erase.js';

/** How batches are mixed. */
export interface MixOptions {
  /** Of the Beta distribution of Mixup's shares; 0 for no Mixup. */
  readonly mixup: number;
  /** The same of CutMix. */
  readonly cutmix: number;
  /** Draws the sides of CutMix's box evenly between these shares of the image, instead of its area. */
  readonly cutmixMinmax?: readonly [min: number, max: number] | undefined;
  /** Probability that anything is mixed. Default 1. */
  readonly prob?: number;
  /** Of CutMix, where both may be. Default 0.5. */
  readonly switchProb?: number;
  /** One draw for all images, for each pair, or for each image. Default 'batch'. */
  readonly mode?: 'batch' | 'pair' | 'elem';
  /** The epoch, from 0, from which on images stay as they are. Default: none. */
  readonly offEpoch?: number | undefined;
}

const OPTIONS = {
  mixup: true,
  cutmix: true,
  cutmixMinmax: true,
  prob: true,
  switchProb: true,
  mode: true,
  offEpoch: true,
} satisfies OptionNames<MixOptions>;

/** What becomes of one image: it keeps a share of itself; with a box, its partner's pixels are in there. */
export interface Mix {
  readonly share: number;
  readonly box?: Box;
}

/** @throws TensorError VALUE for settings that make no sense */
export function checkMix(options: MixOptions): void {
  expectOptions('DataLoader', options, OPTIONS);
  const { mixup, cutmix, cutmixMinmax, prob = 1, switchProb = 0.5 } = options;
  const expect = (fits: boolean, what: string, got: number | readonly number[]): void => {
    if (!fits) fail('DataLoader', 'VALUE', `expected ${what}, got ${String(got)}`);
  };
  expect(mixup >= 0, 'mix.mixup to be 0 or more', mixup);
  expect(cutmix >= 0, 'mix.cutmix to be 0 or more', cutmix);
  expect(prob >= 0 && prob <= 1, 'mix.prob to be in [0, 1]', prob);
  expect(switchProb >= 0 && switchProb <= 1, 'mix.switchProb to be in [0, 1]', switchProb);
  if (cutmixMinmax === undefined) return;
  const [min, max] = cutmixMinmax;
  expect(min >= 0 && min < max && max <= 1, 'mix.cutmixMinmax to be 0 <= min < max <= 1', cutmixMinmax);
}

const UNMIXED: Mix = { share: 1 };

/** One draw, for images of a size. */
function drawMix(options: MixOptions, height: number, width: number, random: SampleRandom): Mix {
  const { mixup, cutmixMinmax, prob = 1, switchProb = 0.5 } = options;
  const cutmix = cutmixMinmax === undefined ? options.cutmix : 1;
  if (random.uniform() >= prob || (mixup === 0 && cutmix === 0)) return UNMIXED;
  const cuts = mixup === 0 || (cutmix > 0 && random.uniform() < switchProb);
  if (!cuts) return { share: random.beta(mixup) };
  const box =
    cutmixMinmax === undefined
      ? boxOfArea(1 - random.beta(cutmix), height, width, random)
      : boxOfSides(cutmixMinmax, height, width, random);
  // The box may have lost a part at the border.
  return { share: 1 - (box.height * box.width) / (height * width), box };
}

/** A box of a share of the image about any of its pixels, cut off at its border. */
function boxOfArea(area: number, height: number, width: number, random: SampleRandom): Box {
  const side = (size: number): readonly [start: number, end: number] => {
    const length = Math.trunc(size * Math.sqrt(area));
    const centre = random.int(size);
    return [
      Math.max(0, centre - Math.floor(length / 2)),
      Math.min(size, centre + Math.floor((length + 1) / 2)),
    ];
  };
  const [top, bottom] = side(height);
  const [left, right] = side(width);
  return { top, left, height: bottom - top, width: right - left };
}

/** A box of sides within shares of the image's, all of it inside. */
function boxOfSides(
  [min, max]: readonly [number, number],
  height: number,
  width: number,
  random: SampleRandom,
): Box {
  const length = (size: number): number => {
    const [least, end] = [Math.trunc(size * min), Math.trunc(size * max)];
    return least + random.int(Math.max(1, end - least));
  };
  const [h, w] = [length(height), length(width)];
  return { top: random.int(height - h + 1), left: random.int(width - w + 1), height: h, width: w };
}

/** What becomes of each image of a batch. The one in the middle of an odd number is its own partner. */
export function drawMixes(
  size: number,
  options: MixOptions,
  height: number,
  width: number,
  random: SampleRandom,
): Mix[] {
  const draw = (): Mix => drawMix(options, height, width, random);
  switch (options.mode ?? 'batch') {
    case 'batch':
      return new Array<Mix>(size).fill(draw());
    case 'pair': {
      const half = Array.from({ length: Math.ceil(size / 2) }, draw);
      return [...half, ...half.slice(0, Math.floor(size / 2)).reverse()];
    }
    case 'elem':
      return Array.from({ length: size }, draw);
  }
}

/** Images to mix in place. */
export interface MixPart {
  /** `[batch, 3, height, width]` */
  readonly images: Float32Array;
  readonly height: number;
  readonly width: number;
  /** Of each image of the batch. */
  readonly mixes: readonly Mix[];
  /** The first images of the pairs to mix. */
  readonly firsts: readonly number[];
}

/** Mixes pairs of images: `x = share x + (1 - share) partner`, or the partner's pixels in the box. */
export function mixPairs({ images, height, width, mixes, firsts }: MixPart): void {
  const stride = 3 * height * width;
  const before = new Float32Array(stride);
  for (const first of firsts) {
    const second = mixes.length - 1 - first;
    if (first === second) continue;
    const [a, b] = [first, second].map((i) => images.subarray(i * stride, (i + 1) * stride));
    before.set(a);
    mixInto(a, b, mixes[first], height, width);
    mixInto(b, before, mixes[second], height, width);
  }
}

function mixInto(image: Float32Array, partner: Float32Array, mix: Mix, height: number, width: number): void {
  const { share, box } = mix;
  if (share === 1) return;
  if (box === undefined) {
    for (let i = 0; i < image.length; i++) image[i] = share * image[i] + (1 - share) * partner[i];
    return;
  }
  for (let c = 0; c < 3; c++) {
    for (let y = box.top; y < box.top + box.height; y++) {
      const start = (c * height + y) * width + box.left;
      image.set(partner.subarray(start, start + box.width), start);
    }
  }
}

/** `[images, classes]`: each image's share of its own label, and the rest of its partner's. */
export function mixedTargets(labels: Int32Array, mixes: readonly Mix[], classes: number): Float32Array {
  const targets = new Float32Array(labels.length * classes);
  for (const [i, { share }] of mixes.entries()) {
    targets[i * classes + labels[i]] += share;
    targets[i * classes + labels[labels.length - 1 - i]] += 1 - share;
  }
  return targets;
}
