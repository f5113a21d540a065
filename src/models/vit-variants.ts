/**
 * The named ViTs: timm's names, and the settings that they stand for.
 */
import { entriesOf, family } from './family.js';
import { IMAGENET_INPUT } from './input.js';
import { VIT_LAYOUTS } from './layouts/vit.js';
import { DEFAULTS, type ViTConfig, VisionTransformer, countViT, resizeViT } from './vit.js';

/** Width, depth and heads. Source: Dosovitskiy et al. 2021, table 1; Touvron et al. 2021, table 1; Zhai et al. 2022, table 2. */
export const VIT_SIZES = {
  tiny: { embedDim: 192, depth: 12, numHeads: 3 },
  small: { embedDim: 384, depth: 12, numHeads: 6 },
  medium: { embedDim: 512, depth: 12, numHeads: 8 },
  base: { embedDim: 768, depth: 12, numHeads: 12 },
  large: { embedDim: 1024, depth: 24, numHeads: 16 },
  huge: { embedDim: 1280, depth: 32, numHeads: 16 },
  giant: { embedDim: 1408, depth: 40, numHeads: 16, mlpRatio: 48 / 11 },
  gigantic: { embedDim: 1664, depth: 48, numHeads: 16, mlpRatio: 64 / 13 },
} as const;

/** A size with the patches and images that it was published for. */
export type PatchesAndImages = readonly [
  size: keyof typeof VIT_SIZES,
  patch: number,
  images: readonly number[],
];

/** Patch and image sizes of the published models. */
const PUBLISHED = [
  ['tiny', 16, [224, 384]],
  ['small', 32, [224, 384]],
  ['small', 16, [224, 384]],
  ['small', 8, [224]],
  ['medium', 16, [224, 384]],
  ['base', 32, [224, 256, 384]],
  ['base', 16, [224, 384]],
  ['base', 8, [224]],
  ['large', 32, [384]],
  ['large', 16, [224, 384]],
  ['large', 14, [224]],
  ['giant', 14, [224]],
  ['gigantic', 14, [224]],
] as const satisfies readonly PatchesAndImages[];

/** Names as `vit_tiny_patch16_224`, one for each image size of each line. */
type NameOf<Line extends PatchesAndImages, Prefix extends string, Mark extends string> = Line extends unknown
  ? `${Prefix}_${Line[0]}${Mark}_patch${Line[1]}_${Line[2][number]}`
  : never;

/** The models of a table by name; `mark` stands behind the size. */
export function namedModels<
  Line extends PatchesAndImages,
  Prefix extends string,
  Mark extends string,
  Config,
>(
  lines: readonly Line[],
  [prefix, mark]: readonly [prefix: Prefix, mark: Mark],
  configOf: (size: Line[0], patchSize: Line[1], imgSize: number) => Config,
): Record<NameOf<Line, Prefix, Mark>, Config> {
  return entriesOf(
    lines.flatMap(([size, patchSize, images]) =>
      images.map((imgSize): [NameOf<Line, Prefix, Mark>, Config] => [
        `${prefix}_${size}${mark}_patch${patchSize}_${imgSize}` as NameOf<Line, Prefix, Mark>,
        configOf(size, patchSize, imgSize),
      ]),
    ),
  );
}

/** Published as features alone, without classes: what timm makes of these names has no head either. */
const HEADLESS = { numClasses: 0 } as const;

const CLIP = { preNorm: true, normEps: 1e-5 } as const;
const DINOV2 = { ...HEADLESS, imgSize: 518, patchSize: 14, initValues: 1e-5 } as const;

const VARIANTS = {
  vit_large_patch32_224: { ...VIT_SIZES.large, ...HEADLESS, patchSize: 32, imgSize: 224 },
  vit_huge_patch14_224: { ...VIT_SIZES.huge, ...HEADLESS, patchSize: 14, imgSize: 224 },
  // Small images: what Tenon trains when no model is named, on `shapes` and on others. Not in timm.
  vit_nano_patch8_32: {
    imgSize: 32,
    patchSize: 8,
    embedDim: 96,
    depth: 4,
    numHeads: 3,
    classToken: false,
    globalPool: 'avg',
  },
  vit_micro_patch4_32: { imgSize: 32, patchSize: 4, embedDim: 96, depth: 6, numHeads: 3 },
  vit_base_patch16_rpn_224: {
    ...VIT_SIZES.base,
    qkvBias: false,
    initValues: 1e-5,
    classToken: false,
    blockNorm: 'post',
    globalPool: 'avg',
  },
  vit_medium_patch16_gap_240: {
    ...VIT_SIZES.medium,
    imgSize: 240,
    classToken: false,
    globalPool: 'avg',
    fcNorm: false,
    qkvBias: false,
    initValues: 1e-6,
  },
  vit_base_patch32_clip_224: { ...VIT_SIZES.base, ...CLIP, patchSize: 32 },
  vit_base_patch16_clip_224: { ...VIT_SIZES.base, ...CLIP },
  vit_large_patch14_clip_224: { ...VIT_SIZES.large, ...CLIP, patchSize: 14 },
  vit_small_patch14_dinov2: { ...VIT_SIZES.small, ...DINOV2 },
  vit_base_patch14_dinov2: { ...VIT_SIZES.base, ...DINOV2 },
  vit_large_patch14_dinov2: { ...VIT_SIZES.large, ...DINOV2 },
  vit_small_patch14_reg4_dinov2: { ...VIT_SIZES.small, ...DINOV2, regTokens: 4, noEmbedClass: true },
  vit_base_patch14_reg4_dinov2: { ...VIT_SIZES.base, ...DINOV2, regTokens: 4, noEmbedClass: true },
  vit_large_patch14_reg4_dinov2: { ...VIT_SIZES.large, ...DINOV2, regTokens: 4, noEmbedClass: true },
} as const satisfies Record<string, Partial<ViTConfig>>;

/** The family of plain Vision Transformers. */
export const VIT = family({
  create: (options: Partial<ViTConfig>) => new VisionTransformer(options),
  count: countViT,
  defaults: DEFAULTS,
  classifiers: ['head'],
  resize: resizeViT,
  layouts: VIT_LAYOUTS,
  input: { ...IMAGENET_INPUT, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] },
  entries: {
    ...namedModels(PUBLISHED, ['vit', ''], (size, patchSize, imgSize) => ({
      ...VIT_SIZES[size],
      patchSize,
      imgSize,
    })),
    ...VARIANTS,
  },
});
