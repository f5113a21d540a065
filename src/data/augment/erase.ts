import { type OptionNames, expectOptions } from '../../tensor/options.js';
import { roundEven } from '../../tensor/round.js';
import type { SampleRandom } from '../sample-random.js';

/** Random erasing's settings. */
export interface RandomErasing {
  /** Probability that an image loses anything. */
  readonly p: number;
  /** What it gets: a normal number for each element, one for each channel, or 0. */
  readonly mode: 'pixel' | 'rand' | 'const';
  /** Rectangles; each has its share of the area. Default 1. */
  readonly count?: number;
  /** Share of the image, for all rectangles together. Default [0.02, 1/3]. */
  readonly area?: readonly [min: number, max: number];
  /** Height / width. Default [0.3, 1/0.3]; its logarithm is drawn evenly. */
  readonly ratio?: readonly [min: number, max: number];
}

/** @internal */
export const ERASING = {
  p: true,
  mode: true,
  count: true,
  area: true,
  ratio: true,
} satisfies OptionNames<RandomErasing>;

/** A part of an image, in pixels. */
export interface Box {
  readonly top: number;
  readonly left: number;
  readonly height: number;
  readonly width: number;
}

/** The rectangles that an image loses, for images that lose any. One that does not fit ten times is left out. */
export function drawErased(
  height: number,
  width: number,
  erasing: RandomErasing,
  random: SampleRandom,
): Box[] {
  const { count = 1, area = [0.02, 1 / 3], ratio = [0.3, 1 / 0.3] } = erasing;
  const boxes: Box[] = [];
  for (let n = 0; n < count; n++) {
    for (let attempt = 0; attempt < 10; attempt++) {
      const pixels = (random.range(area[0], area[1]) * height * width) / count;
      const aspect = Math.exp(random.range(Math.log(ratio[0]), Math.log(ratio[1])));
      const h = roundEven(Math.sqrt(pixels * aspect));
      const w = roundEven(Math.sqrt(pixels / aspect));
      if (h >= height || w >= width) continue;
      boxes.push({ top: random.int(height - h + 1), left: random.int(width - w + 1), height: h, width: w });
      break;
    }
  }
  return boxes;
}

/**
 * Erases rectangles of a normalised image `[3, height, width]` that begins at `offset`.
 *
 * Source: Zhong et al., "Random erasing data augmentation", 2020; timm, data/random_erasing.py.
 *
 * @example
 * erase(images, 0, 224, 224, { p: 0.25, mode: 'pixel' }, new SampleRandom(0, 0, 0));
 */
export function erase(
  images: Float32Array,
  offset: number,
  height: number,
  width: number,
  erasing: RandomErasing,
  random: SampleRandom,
): void {
  expectOptions('erase', erasing, ERASING);
  if (random.uniform() >= erasing.p) return;
  for (const box of drawErased(height, width, erasing, random)) {
    for (let c = 0; c < 3; c++) {
      const fill = erasing.mode === 'rand' ? random.normal() : 0;
      for (let y = box.top; y < box.top + box.height; y++) {
        const start = offset + (c * height + y) * width + box.left;
        if (erasing.mode !== 'pixel') images.fill(fill, start, start + box.width);
        else random.fillNormal(images, start, start + box.width);
      }
    }
  }
}
