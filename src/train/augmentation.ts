/**
 * From settings to what happens to training images.
 */
import { type MixOptions, type Transform, type TransformStep, parseAugment } from '../data/index.js';
import type { TrainConfig } from './config.js';

/** The steps from a decoded image to the model's size, and the erasing after them. */
export function augmentation(
  config: TrainConfig,
  size: readonly [height: number, width: number],
): Pick<Transform, 'steps' | 'erasing'> {
  const { interpolation: mode, cropPadding, scale, ratio, hflip, vflip, aa, mean } = config;
  const { reprob, remode, recount } = config;
  const steps: TransformStep[] =
    cropPadding > 0
      ? [
          { kind: 'resize', size, mode },
          { kind: 'randomCrop', size, padding: cropPadding },
        ]
      : [{ kind: 'randomResizedCrop', size, scale, ratio, mode }];
  if (hflip > 0) steps.push({ kind: 'horizontalFlip', p: hflip });
  if (vflip > 0) steps.push({ kind: 'verticalFlip', p: vflip });
  if (aa !== 'none') {
    const [red, green, blue] = mean.map((x) => Math.round(255 * x)); // the colour that becomes 0
    steps.push({ kind: 'augment', policy: parseAugment(aa), mode, fill: [red, green, blue] });
  }
  const { colorJitter } = config;
  const [brightness, contrast, saturation] =
    typeof colorJitter === 'number' ? [colorJitter, colorJitter, colorJitter] : colorJitter;
  // RandAugment changes colours itself, 3-Augment too little.
  if (brightness + contrast + saturation > 0 && (aa === 'none' || aa === '3a')) {
    steps.push({ kind: 'colourJitter', brightness, contrast, saturation });
  }
  return { steps, ...(reprob > 0 && { erasing: { p: reprob, mode: remode, count: recount } }) };
}

/** How batches are mixed; undefined for not at all. */
export function mixing(config: TrainConfig): MixOptions | undefined {
  const { mixup, cutmix, cutmixMinmax, noAug, mixupOffEpoch } = config;
  if (noAug || (mixup === 0 && cutmix === 0 && cutmixMinmax === undefined)) return undefined;
  return {
    mixup,
    cutmix,
    cutmixMinmax,
    prob: config.mixupProb,
    switchProb: config.mixupSwitchProb,
    mode: config.mixupMode,
    ...(mixupOffEpoch > 0 && { offEpoch: mixupOffEpoch }),
  };
}
