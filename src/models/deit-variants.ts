/**
 * The named DeiTs: timm's names, and the settings that they stand for.
 *
 * Source: Touvron et al. 2021, table 1; DeiT III: Touvron et al. 2022, table 1.
 */
import { type DeiTConfig, countDeiT, createDeiT } from './deit.js';
import { family } from './family.js';
import { DEIT_LAYOUTS } from './layouts/vit.js';
import { type PatchesAndImages, VIT_SIZES, namedModels } from './vit-variants.js';
import { DEFAULTS, resizeViT } from './vit.js';

const PUBLISHED = [
  ['tiny', 16, [224]],
  ['small', 16, [224]],
  ['base', 16, [224, 384]],
] as const satisfies readonly PatchesAndImages[];

const PUBLISHED_3 = [
  ['small', 16, [224, 384]],
  ['medium', 16, [224]],
  ['base', 16, [224, 384]],
  ['large', 16, [224, 384]],
  ['huge', 14, [224]],
] as const satisfies readonly PatchesAndImages[];

/** The family of DeiTs, with the distillation token and without, and of DeiT III. */
export const DEIT = family({
  create: createDeiT,
  count: countDeiT,
  defaults: { ...DEFAULTS, distilled: false } as DeiTConfig,
  classifiers: ['head', 'head_dist'],
  resize: resizeViT,
  layouts: DEIT_LAYOUTS,
  entries: {
    ...namedModels(PUBLISHED, ['deit', ''], (size, _patchSize, imgSize) => ({ ...VIT_SIZES[size], imgSize })),
    ...namedModels(PUBLISHED, ['deit', '_distilled'], (size, _patchSize, imgSize) => ({
      ...VIT_SIZES[size],
      imgSize,
      distilled: true,
    })),
    ...namedModels(PUBLISHED_3, ['deit3', ''], (size, patchSize, imgSize) => ({
      ...VIT_SIZES[size],
      patchSize,
      imgSize,
      noEmbedClass: true,
      initValues: 1e-6,
    })),
  },
});
