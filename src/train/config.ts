/**
 * The settings of a training run, in one table: the command line's flags, the keys of a configuration file and the
 * `config.json` of a run are made from it. Flags bear timm's names where timm has one.
 */
import { z } from 'zod';

import { type DatasetSpec, parseAugment } from '../data/index.js';
import { type ModelInfo, describeModel, modelEntry } from '../models/index.js';
import { expectOptions } from '../tensor/arguments.js';
import { fail, shown } from '../tensor/error.js';
import { type Device, isDeviceName } from '../tensor/index.js';
import type { Precision } from '../inference/index.js';
import { PRECISIONS } from '../inference/precision.js';
import { EVAL_METRICS } from './eval-metric.js';
import { RECIPES } from './recipes.js';

interface Setting {
  /** On the command line, with its argument. */
  readonly flag: string;
  readonly help: string;
  readonly schema: z.ZodType;
}

const positive = z.number().positive();
const atLeast0 = z.number().min(0);
const probability = z.number().min(0).lt(1);
const share = z.number().min(0).max(1);
const count = z.int().positive();
const rgb = z.tuple([z.number(), z.number(), z.number()], 'expected three numbers');
const deviations = z.tuple([positive, positive, positive], 'expected three numbers');
const range = z
  .tuple([positive, positive], 'expected two numbers')
  .refine(([min, max]) => min <= max, 'expected a first number that is not above the second');
const device = z.custom<Device>(
  (value) => typeof value === 'string' && isDeviceName(value),
  'expected cpu, cuda or cuda:N',
);
const size = z.union([count, z.tuple([count, count])], 'expected a whole number above 0, or two');

/** `none`, or a policy in timm's notation; the policy's own message says what is wrong with another. */
const policy = z.string().superRefine((text, context) => {
  if (text === 'none') return;
  try {
    parseAugment(text);
  } catch (error) {
    const message = (error as Error).message.replace(/^parseAugment: (.*), got '.*'$/, '$1');
    context.addIssue({ code: 'custom', message });
  }
});

/** Every setting, in the order of `tenon train --help`. */
export const SETTINGS = {
  recipe: {
    flag: '--recipe <name>',
    help: `settings to begin with: ${Object.keys(RECIPES).join(', ')}`,
    schema: z.enum(Object.keys(RECIPES)),
  },
  model: { flag: '--model <name>', help: 'model from `tenon models`', schema: z.string() },
  pretrained: {
    flag: '--pretrained <path>',
    help: 'begin with the weights of a model: a folder of transformers or timm, a run, or a file',
    schema: z.string(),
  },
  imgSize: {
    flag: '--img-size <pixels>',
    help: 'image size; two numbers, as in 40,56, are height and width',
    schema: size,
  },
  patchSize: { flag: '--patch-size <pixels>', help: 'patch size', schema: count },
  embedDim: { flag: '--embed-dim <n>', help: 'width of the model', schema: count },
  depth: { flag: '--depth <n>', help: 'number of blocks', schema: count },
  numHeads: { flag: '--num-heads <n>', help: 'attention heads', schema: count },
  globalPool: {
    flag: '--gp <pool>',
    help: 'what the head sees: token or avg',
    schema: z.enum(['token', 'avg']),
  },
  modelKwargs: {
    flag: '--model-kwargs <key=value...>',
    help: 'any other setting of the model, such as regTokens=4',
    schema: z.record(z.string(), z.unknown()),
  },
  drop: { flag: '--drop <p>', help: 'dropout before the head', schema: probability },
  dropPath: { flag: '--drop-path <p>', help: 'stochastic depth of the last block', schema: probability },

  epochs: { flag: '--epochs <n>', help: 'passes over the training images', schema: count },
  evalMetric: {
    flag: '--eval-metric <name>',
    help: 'what makes a validation better: accuracy, balanced (mean of the classes) or loss',
    schema: z.enum(EVAL_METRICS),
  },
  patience: {
    flag: '--patience <epochs>',
    help: 'end after as many epochs without a better validation (0: never before the last)',
    schema: z.int().min(0),
  },
  batchSize: { flag: '-b, --batch-size <n>', help: 'images per batch', schema: count },
  gradAccumSteps: { flag: '--grad-accum-steps <n>', help: 'batches per update', schema: count },
  opt: {
    flag: '--opt <name>',
    help: 'optimizer: adamw, adam or sgd',
    schema: z.enum(['adamw', 'adam', 'sgd']),
  },
  lr: { flag: '--lr <rate>', help: 'highest learning rate', schema: positive },
  lrBase: {
    flag: '--lr-base <rate>',
    help: 'highest learning rate for updates of --lr-base-size images: it grows with their number',
    schema: positive,
  },
  lrBaseSize: { flag: '--lr-base-size <n>', help: 'images of such an update', schema: count },
  minLr: { flag: '--min-lr <rate>', help: 'last learning rate', schema: atLeast0 },
  warmupLr: { flag: '--warmup-lr <rate>', help: 'first learning rate', schema: atLeast0 },
  warmupEpochs: { flag: '--warmup-epochs <n>', help: 'epochs of linear warm-up', schema: atLeast0 },
  weightDecay: { flag: '--weight-decay <x>', help: 'weight decay of matrices', schema: atLeast0 },
  layerDecay: {
    flag: '--layer-decay <x>',
    help: "learning rate of a layer, as a share of the next one's; the head has --lr",
    schema: positive.max(1),
  },
  freezeLayers: {
    flag: '--freeze-layers <n>',
    help: 'the first layers that do not train: how many, or all (but the head)',
    schema: z.union([z.int().min(0), z.literal('all')], 'expected a whole number of at least 0, or all'),
  },
  momentum: { flag: '--momentum <x>', help: 'momentum of sgd', schema: probability },
  optBetas: {
    flag: '--opt-betas <b1,b2>',
    help: 'betas of adam',
    schema: z.tuple([probability, probability]),
  },
  clipGrad: { flag: '--clip-grad <norm>', help: 'largest gradient norm (0: no clipping)', schema: atLeast0 },
  smoothing: { flag: '--smoothing <x>', help: 'label smoothing', schema: probability },
  classWeights: {
    flag: '--class-weights <how>',
    help: 'what an image counts in the loss: none (all alike) or balanced (the more, the fewer its class has)',
    schema: z.enum(['none', 'balanced']),
  },
  bceLoss: {
    flag: '--bce-loss',
    help: 'binary cross-entropy, each class for itself, in place of cross-entropy',
    schema: z.boolean(),
  },
  bceTargetThresh: {
    flag: '--bce-target-thresh <x>',
    help: 'make its targets 1 above x, else 0: after mixing and smoothing',
    schema: probability,
  },
  modelEmaDecay: {
    flag: '--model-ema-decay <x>',
    help: "decay of the weights' moving average (0: none)",
    schema: probability, // 1 would keep the random weights of the beginning
  },
  modelEmaWarmup: {
    flag: '--model-ema-warmup',
    help: 'begin with a smaller decay, 1 - (1 + updates)^(-2/3)',
    schema: z.boolean(),
  },
  seed: { flag: '--seed <n>', help: 'of weights, order, augmentation and dropout', schema: z.int().min(0) },

  cropPadding: {
    flag: '--crop-padding <pixels>',
    help: 'pad and crop at random instead of the random resized crop (0: the latter)',
    schema: z.int().min(0),
  },
  scale: {
    flag: '--scale <min,max>',
    help: 'area of the random resized crop',
    schema: range,
  },
  ratio: { flag: '--ratio <min,max>', help: 'its width / height', schema: range },
  hflip: { flag: '--hflip <p>', help: 'probability of mirroring', schema: share },
  vflip: { flag: '--vflip <p>', help: 'probability of turning upside down', schema: share },
  aa: {
    flag: '--aa <policy>',
    help: 'RandAugment such as rand-m9-mstd0.5-inc1, 3a for 3-Augment, or none',
    schema: policy,
  },
  colorJitter: {
    flag: '--color-jitter <x>',
    help: 'how far brightness, contrast and saturation stray from 1, or one number for each; not beside RandAugment',
    schema: z.union(
      [atLeast0, z.tuple([atLeast0, atLeast0, atLeast0])],
      'expected a number of at least 0, or three',
    ),
  },
  reprob: { flag: '--reprob <p>', help: 'probability of random erasing', schema: share },
  remode: {
    flag: '--remode <mode>',
    help: 'what erased pixels get: const (0), rand (a number per channel) or pixel (per element)',
    schema: z.enum(['const', 'rand', 'pixel']),
  },
  recount: { flag: '--recount <n>', help: 'rectangles to erase', schema: count },
  mixup: {
    flag: '--mixup <alpha>',
    help: "of the distribution of Mixup's shares (0: no Mixup)",
    schema: atLeast0,
  },
  cutmix: { flag: '--cutmix <alpha>', help: 'the same of CutMix (0: no CutMix)', schema: atLeast0 },
  cutmixMinmax: {
    flag: '--cutmix-minmax <min,max>',
    help: "CutMix's sides, as shares of the image, instead of --cutmix",
    schema: z
      .tuple([share, share], 'expected two numbers in [0, 1]')
      .refine(([min, max]) => min < max, 'expected a first number below the second'),
  },
  mixupProb: { flag: '--mixup-prob <p>', help: 'probability that a batch is mixed', schema: share },
  mixupSwitchProb: {
    flag: '--mixup-switch-prob <p>',
    help: 'probability of CutMix, where both may be',
    schema: share,
  },
  mixupMode: {
    flag: '--mixup-mode <mode>',
    help: 'one draw for each batch, pair or elem',
    schema: z.enum(['batch', 'pair', 'elem']),
  },
  mixupOffEpoch: {
    flag: '--mixup-off-epoch <n>',
    help: 'mix only in so many epochs (0: in all)',
    schema: z.int().min(0),
  },
  augRepeats: {
    flag: '--aug-repeats <n>',
    help: 'show each image of an epoch that often; epochs have fewer images (0: once)',
    schema: z.int().min(0),
  },
  noAug: { flag: '--no-aug', help: 'no augmentation and no mixing', schema: z.boolean() },
  interpolation: {
    flag: '--interpolation <filter>',
    help: 'of resizing: bilinear or bicubic',
    schema: z.enum(['bilinear', 'bicubic']),
  },
  cropPct: {
    flag: '--crop-pct <x>',
    help: 'share of the resized image that evaluation crops',
    schema: z.number().gt(0).max(1),
  },
  mean: { flag: '--mean <r,g,b>', help: 'mean of the input, in [0, 1]', schema: rgb },
  std: { flag: '--std <r,g,b>', help: 'standard deviation of the input', schema: deviations },

  cropMode: {
    flag: '--crop-mode <mode>',
    help: 'what evaluation resizes before the crop: center (the shorter side) or squash (both)',
    schema: z.enum(['center', 'squash']),
  },

  teacher: {
    flag: '--teacher <path>',
    help: "learn also from a model of the same classes: a run, or a model's folder or file",
    schema: z.string(),
  },
  teacherModel: {
    flag: '--teacher-model <name>',
    help: "the teacher's name, for weights that do not say it",
    schema: z.string(),
  },
  teacherCache: {
    flag: '--teacher-cache <folder>',
    help: "keep the teacher's logits, for runs with the same images in the same order",
    schema: z.string(),
  },
  distillation: {
    flag: '--distillation <type>',
    help: 'what of the teacher: hard (its class), soft (its probabilities) or none',
    schema: z.enum(['none', 'soft', 'hard']),
  },
  distillationAlpha: {
    flag: '--distillation-alpha <x>',
    help: "the teacher's share in the loss",
    schema: share,
  },
  distillationTau: {
    flag: '--distillation-tau <x>',
    help: 'temperature of soft distillation',
    schema: positive,
  },

  valFraction: {
    flag: '--val-fraction <x>',
    help: 'share of the images to evaluate on, where the data has no such folder',
    schema: z.number().gt(0).lt(1),
  },
  onCorrupt: {
    flag: '--on-corrupt <action>',
    help: 'a damaged image: skip it or stop with an error',
    schema: z.enum(['skip', 'error']),
  },
  workers: { flag: '-j, --workers <n>', help: 'threads that decode images', schema: z.int().min(0) },
  recoveryInterval: {
    flag: '--recovery-interval <updates>',
    help: 'save also within an epoch (0: no)',
    schema: z.int().min(0),
  },
  precision: {
    flag: '--precision <name>',
    help: 'of matrix products and attention: float32, bf16 or fp16',
    schema: z.enum(Object.keys(PRECISIONS) as [Precision, ...Precision[]]),
  },
  noGraph: {
    flag: '--no-graph',
    help: "launch a training step's kernels one by one on a GPU, not as one CUDA graph",
    schema: z.boolean(),
  },
  device: { flag: '--device <name>', help: 'where to compute: cpu, cuda or cuda:N', schema: device },
  output: { flag: '--output <folder>', help: 'folder of the runs', schema: z.string() },
  name: {
    flag: '--name <name>',
    help: "the run's folder in it",
    schema: z.string().regex(/^(?!\.{0,2}$)[^/\\]+$/, 'expected the name of a folder'),
  },
} as const satisfies Record<string, Setting>;

/** Any settings, as a configuration file or the command line gives them. */
export type TrainSettings = {
  readonly [K in keyof typeof SETTINGS]?: z.infer<(typeof SETTINGS)[K]['schema']> | undefined;
};

/** What settings are unless they are given, where it does not depend on the data. */
export const DEFAULTS = {
  opt: 'adamw',
  batchSize: 128,
  gradAccumSteps: 1,
  epochs: 30,
  evalMetric: 'accuracy',
  patience: 0,
  lr: 1e-3,
  lrBaseSize: 512,
  minLr: 0,
  warmupLr: 1e-6,
  warmupEpochs: 1,
  weightDecay: 0.05,
  layerDecay: 1,
  freezeLayers: 0,
  momentum: 0.9,
  optBetas: [0.9, 0.999],
  clipGrad: 1,
  smoothing: 0.1,
  classWeights: 'none',
  bceLoss: false,
  modelEmaDecay: 0,
  modelEmaWarmup: false,
  seed: 0,
  drop: 0,
  dropPath: 0,
  modelKwargs: {},
  scale: [0.08, 1],
  ratio: [3 / 4, 4 / 3],
  hflip: 0.5,
  vflip: 0,
  aa: 'none',
  colorJitter: 0,
  reprob: 0,
  remode: 'pixel',
  recount: 1,
  mixup: 0,
  cutmix: 0,
  mixupProb: 1,
  mixupSwitchProb: 0.5,
  mixupMode: 'batch',
  mixupOffEpoch: 0,
  augRepeats: 0,
  noAug: false,
  interpolation: 'bicubic',
  mean: [0.5, 0.5, 0.5],
  std: [0.5, 0.5, 0.5],
  cropMode: 'center',
  distillationAlpha: 0.5,
  distillationTau: 1,
  valFraction: 0.2,
  onCorrupt: 'skip',
  recoveryInterval: 0,
  precision: 'float32',
  noGraph: false,
  device: 'cpu',
  output: 'runs',
} as const satisfies TrainSettings;

/**
 * The defaults of the built-in data: its pictures come at random places, sizes and turns already, so that mirroring is all
 * the augmentation they need. 98 % on validation pictures.
 */
const SHAPES: TrainSettings = {
  model: 'vit_nano_patch8_32',
  epochs: 8,
  batchSize: 64,
  lr: 2e-3,
  cropPadding: 0,
  scale: [1, 1],
  ratio: [1, 1],
};

/** The learning rate of weights that know something already. */
const FINE_TUNING_LR = 1e-4;

/** Images at most this large (in pixels of the longer side) are small: kept as they are, cropped with a padding. */
const SMALL = 64;

/** A run's settings with nothing left open; what `config.json` holds. */
export type TrainConfig = { readonly data: string } & {
  readonly [K in keyof TrainSettings]-?: K extends
    | 'recipe'
    | 'pretrained'
    | 'patchSize'
    | 'embedDim'
    | 'depth'
    | 'numHeads'
    | 'globalPool'
    | 'lrBase'
    | 'bceTargetThresh'
    | 'cutmixMinmax'
    | 'teacher'
    | 'teacherModel'
    | 'teacherCache'
    | 'workers'
    ? TrainSettings[K]
    : Exclude<TrainSettings[K], undefined>;
};

/** A run's whole config may be given back as settings; its `data` then counts for nothing. */
const NAMES = Object.fromEntries([...Object.keys(SETTINGS), 'data'].map((name) => [name, true as const]));

/** Checks settings that a program gives. @throws TensorError VALUE for a name that is no setting's, or a value that it does not take */
export function expectSettings(op: string, settings: TrainSettings): void {
  expectOptions(op, settings, NAMES);
  const { data: _, ...own } = settings as Partial<TrainConfig>;
  parseSettings(own, op);
}

const schema = z.strictObject(
  Object.fromEntries(Object.entries(SETTINGS).map(([key, setting]) => [key, setting.schema.optional()])),
);

/**
 * Checks settings from outside.
 *
 * @param origin where they come from, for messages
 * @throws TensorError VALUE for an unknown key or a value that it does not take
 */
export function parseSettings(values: unknown, origin: string): TrainSettings {
  const result = schema.safeParse(values);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const path = issue.path.map(String).join('.');
  const got = path === '' ? '' : `, got ${textOf(valueAt(values, issue.path))}`;
  return fail(origin, 'VALUE', `${path === '' ? '' : `${path}: `}${describeIssue(issue)}${got}`);
}

/** As a configuration file would have it, where it could. */
function textOf(value: unknown): string {
  return typeof value === 'object' || typeof value === 'string' ? JSON.stringify(value) : shown(value);
}

/** What a schema expected, as the middle of a sentence: `expected number to be >0`. */
export function describeIssue({ message }: { readonly message: string }): string {
  const core = message
    .replace(/^(Invalid input|Invalid option|Too small|Too big): /, '')
    .replace(/, received .*$/, '');
  return core.charAt(0).toLowerCase() + core.slice(1);
}

function valueAt(values: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (value, key) => (value as Record<PropertyKey, unknown> | undefined)?.[key],
    values,
  );
}

/** What the data decides. */
export interface DataFacts {
  readonly kind: DatasetSpec['kind'];
  /** For the run's name and defaults: 'shapes', or the folder's name. */
  readonly name: string;
  /** Of a first image. */
  readonly height: number;
  readonly width: number;
}

/**
 * Fills in what was left open: what was given goes before the recipe, the recipe before what follows from the data and the
 * size of its images, and that before the fixed defaults. Whichever of them says something of the learning rate decides it.
 * A pretrained model brings its settings and its preprocessing, which go before the recipe's.
 */
export function resolveConfig(
  data: string,
  settings: TrainSettings,
  facts: DataFacts,
  pretrained?: ModelInfo,
): TrainConfig {
  const longer = Math.max(facts.height, facts.width);
  const small = longer <= SMALL;
  const openSize = (): ReturnType<typeof sizeOf> => {
    if (small) return Math.ceil(longer / 4) * 4;
    return settings.model === undefined ? 224 : sizeOf(describeModel(modelEntry(settings.model)).imgSize);
  };
  const imgSize = settings.imgSize ?? (pretrained && sizeOf(pretrained.input.size)) ?? openSize();
  const [height] = typeof imgSize === 'number' ? [imgSize] : imgSize;
  const derived: TrainSettings = {
    model: small ? 'vit_micro_patch4_32' : 'vit_tiny_patch16_224',
    imgSize,
    cropPadding: small ? Math.round(height / 8) : 0,
    cropPct: small ? 1 : 0.9,
    name: facts.name,
    distillation: settings.teacher === undefined ? 'none' : 'hard',
    ...(facts.kind === 'shapes' && SHAPES),
    ...(pretrained && { lr: FINE_TUNING_LR }),
  };
  const given = Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined));
  const { batchSize, gradAccumSteps } = { ...DEFAULTS, ...derived, ...given } as TrainConfig;
  const batch = batchSize * gradAccumSteps;
  const recipe = settings.recipe === undefined ? {} : RECIPES[settings.recipe]({ batch, small });
  const begun = pretrained === undefined ? {} : pretrainedSettings(pretrained);
  const layers: readonly TrainSettings[] = [DEFAULTS, derived, recipe, begun, given];
  const config = Object.assign({ data }, ...layers, { data }) as TrainConfig;
  checkTogether(config, settings, recipe);
  const rates = layers.findLast(({ lr, lrBase }) => lr !== undefined || lrBase !== undefined);
  const lr = rates?.lr ?? ((rates?.lrBase ?? config.lr) * batch) / config.lrBaseSize;
  const modelKwargs = { ...begun.modelKwargs, ...config.modelKwargs };
  for (const key of MODEL_FLAGS) if (settings[key] !== undefined) delete modelKwargs[key];
  return { ...config, lr, modelKwargs };
}

/** A setting's flag: `--lr`. */
export function flagOf(key: keyof typeof SETTINGS): string {
  return /--[\w-]+/.exec(SETTINGS[key].flag)?.[0] ?? key;
}

/** Settings of a model that have flags, and bear their names. */
export const MODEL_FLAGS = ['patchSize', 'embedDim', 'depth', 'numHeads', 'globalPool'] as const;

/** Settings of a model that the data or other flags decide, and what that is. */
const DECIDED: Readonly<Record<string, string>> = {
  numClasses: 'the number of classes from the data',
  imgSize: `${flagOf('imgSize')} for imgSize`,
  dropRate: `${flagOf('drop')} for dropRate`,
  dropPathRate: `${flagOf('dropPath')} for dropPathRate`,
};

/** Settings that make no sense beside the others. @throws TensorError VALUE, with their flags */
function checkTogether(config: TrainConfig, given: TrainSettings, recipe: TrainSettings): void {
  const { epochs, warmupEpochs } = config;
  if (warmupEpochs > epochs) {
    const byRecipe = given.warmupEpochs === undefined && recipe.warmupEpochs !== undefined;
    fail(
      'train',
      'VALUE',
      `expected --warmup-epochs within ${epochs} ${epochs === 1 ? 'epoch' : 'epochs'}, got ${warmupEpochs}` +
        (byRecipe ? `, which --recipe ${config.recipe} sets` : ''),
    );
  }
  if (given.bceTargetThresh !== undefined && !config.bceLoss) {
    fail('train', 'VALUE', 'expected --bce-loss beside --bce-target-thresh, got none');
  }
  for (const [key, value] of Object.entries(given.modelKwargs ?? {})) {
    if (!Object.hasOwn(DECIDED, key)) continue;
    fail('train', 'VALUE', `expected ${DECIDED[key]}, got ${key}=${textOf(value)} in --model-kwargs`);
  }
  const twice = MODEL_FLAGS.find((key) => given[key] !== undefined && given.modelKwargs?.[key] !== undefined);
  if (twice !== undefined) {
    const value = textOf(given.modelKwargs?.[twice]);
    fail(
      'train',
      'VALUE',
      `expected ${flagOf(twice)} alone, got ${twice}=${value} in --model-kwargs beside it`,
    );
  }
  // `distillation: none` switches it off, and leaves the rest of a configuration file as it is.
  if (given.teacher !== undefined || given.distillation === 'none') return;
  const alone = (['teacherModel', 'teacherCache', 'distillationAlpha', 'distillationTau'] as const).find(
    (key) => given[key] !== undefined,
  );
  if (alone !== undefined) fail('train', 'VALUE', `expected --teacher beside ${flagOf(alone)}, got none`);
}

/** One number for a square. */
function sizeOf([height, width]: readonly [number, number]): number | [height: number, width: number] {
  return height === width ? height : [height, width];
}

/** What a pretrained model settles: what it is, and how its images are prepared. */
function pretrainedSettings({ name, options, input }: ModelInfo): TrainSettings {
  const { mean, std, interpolation, cropPct, cropMode = 'center' } = input;
  const [[r, g, b], [sr, sg, sb]] = [mean, std];
  return {
    model: name,
    modelKwargs: Object.fromEntries(Object.entries(options).filter(([key]) => !Object.hasOwn(DECIDED, key))),
    mean: [r, g, b],
    std: [sr, sg, sb],
    interpolation,
    cropPct,
    cropMode,
  };
}
