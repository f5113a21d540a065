/**
 * What the experiment trains: models of similar size, on shares of the training images, each with the same budget.
 */
import {
  type ModelCount,
  type ModelOptions,
  type Precision,
  familyOf,
  modelEntry,
} from '../../../src/index.js';

/** What is compared: the teacher, transformers that learn from labels alone, and DeiTs that learn from the teacher too. */
export const KINDS = ['cnn', 'vit', 'swin', 'deit-soft', 'deit-hard'] as const;
export type Kind = (typeof KINDS)[number];

/** A registered model and the settings that differ. */
export interface ModelChoice {
  readonly name: string;
  readonly options: ModelOptions;
}

/** How every model is trained: by AdamW, with a warm-up and a cosine. The names are the trainer's. */
export interface Recipe {
  /** Images that a run sees. */
  readonly images: number;
  readonly batchSize: number;
  /** The highest learning rate. Convolutions with batch norm take a higher one. */
  readonly lr: { readonly cnn: number; readonly transformer: number };
  /** Share of the run in which the learning rate rises. */
  readonly warmup: number;
  readonly weightDecay: number;
  readonly clipGrad: number;
  readonly precision: Precision;
}

/** A share of the training images, and on how many subsets of that size each model is trained. */
export interface Setting {
  readonly share: number;
  readonly seeds: number;
}

export interface Scale {
  readonly models: Readonly<Record<Kind, ModelChoice>>;
  readonly recipe: Recipe;
  /** In the order in which they are run. */
  readonly settings: readonly Setting[];
}

/** One training. */
export interface Run {
  readonly kind: Kind;
  readonly share: number;
  readonly seed: number;
}

/** A ViT with the first weights of the original, and the DeiT that is the same but for its second token and head. */
function transformers(size: ModelOptions): Pick<Scale['models'], 'vit' | 'deit-soft' | 'deit-hard'> {
  const options = { imgSize: 32, weightInit: 'jax', ...size };
  const deit = { name: 'deit_tiny_distilled_patch16_224', options };
  return { vit: { name: 'vit_micro_patch4_32', options }, 'deit-soft': deit, 'deit-hard': deit };
}

/** 0.3 to 0.5 million parameters each. */
const SMALL_MODELS: Scale['models'] = {
  cnn: {
    name: 'resnet_nano_32',
    options: { layers: [1, 1, 1], channels: [32, 64, 128], downsampleFirst: true },
  },
  swin: {
    name: 'swin_micro_patch2_window4_32',
    options: { patchSize: 4, embedDim: 32, depths: [2, 4, 1], numHeads: [1, 2, 4] },
  },
  ...transformers({ patchSize: 8, embedDim: 96, depth: 4, numHeads: 3 }),
};

/** 2.6 to 2.8 million parameters each. */
const LARGE_MODELS: Scale['models'] = {
  cnn: {
    name: 'resnet_nano_32',
    options: { layers: [2, 2, 2, 2], channels: [32, 64, 128, 256], stemWidth: 32 },
  },
  swin: {
    name: 'swin_micro_patch2_window4_32',
    options: { embedDim: 64, depths: [2, 4, 2], numHeads: [2, 4, 8] },
  },
  ...transformers({ patchSize: 4, embedDim: 192, depth: 6, numHeads: 3 }),
};

const SMALL_RECIPE: Recipe = {
  images: 100_000,
  batchSize: 50,
  lr: { cnn: 5e-3, transformer: 1e-3 },
  warmup: 0.05,
  weightDecay: 0.05,
  clipGrad: 1,
  precision: 'float32',
};

/** The scales by name: minutes, under an hour on two cores, and hours on a GPU. */
export const SCALES = {
  quick: {
    models: SMALL_MODELS,
    recipe: { ...SMALL_RECIPE, images: 10_000 },
    settings: [
      { share: 0.02, seeds: 2 },
      { share: 0.1, seeds: 2 },
    ],
  },
  small: {
    models: SMALL_MODELS,
    recipe: SMALL_RECIPE,
    settings: [
      { share: 0.1, seeds: 3 },
      { share: 0.02, seeds: 3 },
      { share: 1, seeds: 1 },
    ],
  },
  full: {
    models: LARGE_MODELS,
    recipe: { ...SMALL_RECIPE, images: 5_000_000, batchSize: 100, precision: 'bf16' },
    settings: [
      { share: 0.02, seeds: 5 },
      { share: 0.1, seeds: 5 },
      { share: 1, seeds: 3 },
    ],
  },
} as const satisfies Readonly<Record<string, Scale>>;
export type ScaleName = keyof typeof SCALES;

/** Whether a model learns from the teacher. */
export function isTaught(kind: Kind): kind is 'deit-soft' | 'deit-hard' {
  return kind === 'deit-soft' || kind === 'deit-hard';
}

/** All runs in order: the models of one subset one after the other, its teacher first. */
export function runsOf({ settings }: Scale): Run[] {
  return settings.flatMap(({ share, seeds }) =>
    Array.from({ length: seeds }, (_, seed) => KINDS.map((kind): Run => ({ kind, share, seed }))).flat(),
  );
}

/** Passes over a subset that show as many images as the recipe says, as nearly as whole passes can. */
export function epochsOf({ images }: Recipe, subset: number): number {
  return Math.max(1, Math.round(images / subset));
}

/** Parameters and multiply-accumulates of a model, without making it. */
export function countModel({ name, options }: ModelChoice, classes: number): ModelCount {
  const { family, config } = modelEntry(name);
  return familyOf(family).count({ ...config, ...options, numClasses: classes });
}
