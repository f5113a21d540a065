import { type OptionNames, expectOptions } from '../../tensor/options.js';
import type { Image } from '../image.js';
import type { SampleRandom } from '../sample-random.js';
import { brightness, color, contrast } from './colour.js';

/** How far each factor strays from 1. */
export interface ColourJitter {
  readonly brightness: number;
  readonly contrast: number;
  readonly saturation: number;
}

const OPTIONS = { brightness: true, contrast: true, saturation: true } satisfies OptionNames<ColourJitter>;

/**
 * Brightness, contrast and saturation in random order, each by a factor drawn evenly from max(0, 1 - j) to 1 + j.
 *
 * Source: torchvision, transforms.ColorJitter without hue.
 *
 * @example
 * colourJitter(image, { brightness: 0.3, contrast: 0.3, saturation: 0.3 }, new SampleRandom(0, 0, 0));
 */
export function colourJitter(image: Image, jitter: ColourJitter, random: SampleRandom): Image {
  expectOptions('colourJitter', jitter, OPTIONS);
  const order = [
    [brightness, jitter.brightness],
    [contrast, jitter.contrast],
    [color, jitter.saturation],
  ] as const;
  let left = [...order];
  let current = image;
  while (left.length > 0) {
    const next = left[random.int(left.length)];
    left = left.filter((other) => other !== next);
    const [change, j] = next;
    if (j > 0) current = change(current, random.range(Math.max(0, 1 - j), 1 + j));
  }
  return current;
}
