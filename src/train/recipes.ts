/**
 * Named sets of settings. Flags and configuration files override them.
 */
import type { TrainSettings } from './config.js';

/** What a recipe depends on. */
export interface RecipeFacts {
  /** Images of an update. */
  readonly batch: number;
  /** Images of at most 64 pixels: cropped with a padding, and not resized for evaluation. */
  readonly small: boolean;
}

/** DeiT's and Swin's augmentation. */
const STRONG = {
  aa: 'rand-m9-mstd0.5-inc1',
  reprob: 0.25,
  remode: 'pixel',
  recount: 1,
  mixup: 0.8,
  cutmix: 1,
  mixupProb: 1,
  mixupSwitchProb: 0.5,
  mixupMode: 'batch',
  smoothing: 0.1,
} as const satisfies TrainSettings;

const IMAGENET = {
  mean: [0.485, 0.456, 0.406],
  std: [0.229, 0.224, 0.225],
  interpolation: 'bicubic',
} as const satisfies TrainSettings;

/**
 * The recipes by name.
 *
 * - `deit`: Touvron et al., "Training data-efficient image transformers", 2021, table 9 and the code. Its moving average
 *   begins with a smaller decay, so that short runs can be evaluated; warm-up is followed by the whole cosine, and the
 *   learning rate moves with every update, not every epoch.
 * - `swin`: Liu et al., "Swin Transformer", 2021, as in the code, for Swin-T.
 * - `vit-small-data`: a ViT on tens of thousands of images: Lee et al., "Vision transformer for small-size datasets",
 *   2021, with RandAugment in place of AutoAugment, and without repeated augmentation.
 * - `mae-finetune`: a pretrained ViT-B: He et al., "Masked autoencoders are scalable vision learners", 2022, as in the code.
 *   How images are prepared is the pretrained model's.
 */
export const RECIPES: Readonly<Record<string, (facts: RecipeFacts) => TrainSettings>> = {
  deit: ({ small }) => ({
    ...STRONG,
    ...IMAGENET,
    cropPct: small ? 1 : 0.875,
    epochs: 300,
    opt: 'adamw',
    lrBase: 5e-4,
    lrBaseSize: 512,
    warmupLr: 1e-6,
    minLr: 1e-5,
    warmupEpochs: 5,
    weightDecay: 0.05,
    clipGrad: 0,
    dropPath: 0.1,
    augRepeats: 3,
    modelEmaDecay: 0.99996,
    modelEmaWarmup: true,
  }),
  swin: ({ batch, small }) => ({
    ...STRONG,
    ...IMAGENET,
    cropPct: small ? 1 : 0.875,
    epochs: 300,
    opt: 'adamw',
    lrBase: 5e-4,
    lrBaseSize: 512,
    warmupLr: (5e-7 * batch) / 512, // Swin scales these too
    minLr: (5e-6 * batch) / 512,
    warmupEpochs: 20,
    weightDecay: 0.05,
    clipGrad: 5,
    dropPath: 0.2,
  }),
  'vit-small-data': () => ({
    ...STRONG,
    mixup: 1,
    mixupProb: 0.5,
    epochs: 100,
    opt: 'adamw',
    lrBase: 1e-3,
    lrBaseSize: 128,
    warmupLr: 1e-6,
    minLr: 1e-5,
    warmupEpochs: 10,
    weightDecay: 0.05,
    dropPath: 0.1,
  }),
  'mae-finetune': () => ({
    ...STRONG,
    epochs: 100,
    opt: 'adamw',
    lrBase: 5e-4,
    lrBaseSize: 256,
    warmupLr: 0,
    minLr: 1e-6,
    warmupEpochs: 5,
    weightDecay: 0.05,
    layerDecay: 0.65,
    clipGrad: 0,
    dropPath: 0.1,
  }),
};
