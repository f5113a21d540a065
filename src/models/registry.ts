/**
 * Models by name: timm's names, and the sizes that they stand for.
 */
import { fail } from '../tensor/error.js';
import { type ViTConfig, VisionTransformer, countViT } from './vit.js';

/** Any model that the registry makes. */
export type Model = VisionTransformer;

/** What a named model may be made with: every setting of its family. */
export type ModelOptions = Partial<ViTConfig>;

/** A line of the registry. */
export interface ModelEntry {
  readonly name: string;
  readonly family: 'vit';
  readonly config: Partial<ViTConfig>;
}

/** Width, depth and heads. Source: Dosovitskiy et al. 2021, table 1; Touvron et al. 2021, table 1; Zhai et al. 2022, table 2. */
const SIZES = {
  tiny: { embedDim: 192, depth: 12, numHeads: 3 },
  small: { embedDim: 384, depth: 12, numHeads: 6 },
  medium: { embedDim: 512, depth: 12, numHeads: 8 },
  base: { embedDim: 768, depth: 12, numHeads: 12 },
  large: { embedDim: 1024, depth: 24, numHeads: 16 },
  huge: { embedDim: 1280, depth: 32, numHeads: 16 },
  giant: { embedDim: 1408, depth: 40, numHeads: 16, mlpRatio: 48 / 11 },
  gigantic: { embedDim: 1664, depth: 48, numHeads: 16, mlpRatio: 64 / 13 },
} as const;

/** Patch and image sizes of the published models. */
const PUBLISHED: readonly [size: keyof typeof SIZES, patch: number, images: readonly number[]][] = [
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
];

/** Published as features alone, without classes: what timm makes of these names has no head either. */
const HEADLESS = { numClasses: 0 } as const;

const CLIP = { preNorm: true, normEps: 1e-5 } as const;
const DINOV2 = { ...HEADLESS, imgSize: 518, patchSize: 14, initValues: 1e-5 } as const;

const VARIANTS: Record<string, Partial<ViTConfig>> = {
  vit_large_patch32_224: { ...SIZES.large, ...HEADLESS, patchSize: 32, imgSize: 224 },
  vit_huge_patch14_224: { ...SIZES.huge, ...HEADLESS, patchSize: 14, imgSize: 224 },
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
    ...SIZES.base,
    qkvBias: false,
    initValues: 1e-5,
    classToken: false,
    blockNorm: 'post',
    globalPool: 'avg',
  },
  vit_medium_patch16_gap_240: {
    ...SIZES.medium,
    imgSize: 240,
    classToken: false,
    globalPool: 'avg',
    fcNorm: false,
    qkvBias: false,
    initValues: 1e-6,
  },
  vit_base_patch32_clip_224: { ...SIZES.base, ...CLIP, patchSize: 32 },
  vit_base_patch16_clip_224: { ...SIZES.base, ...CLIP },
  vit_large_patch14_clip_224: { ...SIZES.large, ...CLIP, patchSize: 14 },
  vit_small_patch14_dinov2: { ...SIZES.small, ...DINOV2 },
  vit_base_patch14_dinov2: { ...SIZES.base, ...DINOV2 },
  vit_large_patch14_dinov2: { ...SIZES.large, ...DINOV2 },
  vit_small_patch14_reg4_dinov2: { ...SIZES.small, ...DINOV2, regTokens: 4, noEmbedClass: true },
  vit_base_patch14_reg4_dinov2: { ...SIZES.base, ...DINOV2, regTokens: 4, noEmbedClass: true },
  vit_large_patch14_reg4_dinov2: { ...SIZES.large, ...DINOV2, regTokens: 4, noEmbedClass: true },
};

const REGISTRY = new Map<string, ModelEntry>(
  [
    ...PUBLISHED.flatMap(([size, patchSize, images]) =>
      images.map((imgSize): [string, Partial<ViTConfig>] => [
        `vit_${size}_patch${patchSize}_${imgSize}`,
        { ...SIZES[size], patchSize, imgSize },
      ]),
    ),
    ...Object.entries(VARIANTS),
  ].map(([name, config]) => [name, { name, family: 'vit', config }]),
);

/** The registered models, in the order of the registry; `filter` is a part of the name, with `*` for anything. */
export function listModels(filter = '*'): ModelEntry[] {
  const words = filter.split('*').map((word) => word.replace(/[.+?^${}()|[\]\\]/g, '\\$&'));
  const pattern = new RegExp(filter.includes('*') ? `^${words.join('.*')}$` : words[0]);
  return [...REGISTRY.values()].filter(({ name }) => pattern.test(name));
}

/**
 * Makes a model by its timm name, with random weights; options override the named settings.
 *
 * @throws TensorError VALUE for an unknown name, with the nearest ones
 * @example
 * const model = createModel('vit_tiny_patch16_224', { numClasses: 10, imgSize: 96 });
 */
export function createModel(name: string, options: ModelOptions = {}): Model {
  return new VisionTransformer({ ...modelConfig(name), ...options });
}

/** The settings behind a name. @throws TensorError VALUE */
export function modelConfig(name: string): ModelOptions {
  const entry = REGISTRY.get(name);
  if (entry !== undefined) return entry.config;
  const near = [...REGISTRY.keys()]
    .map((known): [string, number] => [known, editDistance(name, known)])
    .sort((a, b) => a[1] - b[1])
    .slice(0, 3)
    .map(([known]) => known);
  return fail(
    'createModel',
    'VALUE',
    `expected a registered model such as ${near.join(', ')}, got '${name}'`,
  );
}

/** Levenshtein's distance: the insertions, deletions and replacements from a to b. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length];
}

/** A registered model in numbers. */
export interface ModelDescription {
  readonly name: string;
  readonly family: ModelEntry['family'];
  /** Height and width, in pixels. */
  readonly imgSize: readonly [number, number];
  readonly parameters: number;
  /** Billions of floating-point operations for one image: two for each multiply-accumulate. */
  readonly gflops: number;
  readonly config: Partial<ViTConfig>;
}

/** Parameters and operations of a registered model, counted without making it. */
export function describeModel(entry: ModelEntry): ModelDescription {
  const { imgSize, parameters, macs } = countViT(entry.config);
  return { ...entry, imgSize, parameters, gflops: (2 * macs) / 1e9 };
}
