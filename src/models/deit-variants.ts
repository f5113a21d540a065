/**
 * The named DeiTs: timm's names, and the settings that they stand for.
 *
 * Source: Touvron et al. 2021, table 1; DeiT III: Touvron et al. 2022, table 1.
 */
import { type DeiTConfig, countDeiT, createDeiT } from './deit.js';
import type { Family } from './family.js';
import { DEIT_LAYOUTS } from './layouts/vit.js';
import { VIT_SIZES } from './vit-variants.js';
import { DEFAULTS, type VisionTransformer, resizeViT } from './vit.js';

const PUBLISHED: readonly [size: 'tiny' | 'small' | 'base', imgSize: number][] = [
  ['tiny', 224],
  ['small', 224],
  ['base', 224],
  ['base', 384],
];

const PUBLISHED_3: readonly [size: keyof typeof VIT_SIZES, patchSize: number, images: readonly number[]][] = [
  ['small', 16, [224, 384]],
  ['medium', 16, [224]],
  ['base', 16, [224, 384]],
  ['large', 16, [224, 384]],
  ['huge', 14, [224]],
];

type Entry = [name: string, config: Partial<DeiTConfig>];

/** The family of DeiTs, with the distillation token and without, and of DeiT III. */
export const DEIT: Family<DeiTConfig, VisionTransformer> = {
  create: createDeiT,
  count: countDeiT,
  defaults: { ...DEFAULTS, distilled: false },
  classifiers: ['head', 'head_dist'],
  resize: resizeViT,
  layouts: DEIT_LAYOUTS,
  entries: Object.fromEntries([
    ...PUBLISHED.map(([size, imgSize]): Entry => [
      `deit_${size}_patch16_${imgSize}`,
      { ...VIT_SIZES[size], imgSize },
    ]),
    ...PUBLISHED.map(([size, imgSize]): Entry => [
      `deit_${size}_distilled_patch16_${imgSize}`,
      { ...VIT_SIZES[size], imgSize, distilled: true },
    ]),
    ...PUBLISHED_3.flatMap(([size, patchSize, images]) =>
      images.map((imgSize): Entry => [
        `deit3_${size}_patch${patchSize}_${imgSize}`,
        { ...VIT_SIZES[size], patchSize, imgSize, noEmbedClass: true, initValues: 1e-6 },
      ]),
    ),
  ]),
};
