/**
 * Swin: a transformer whose attention stays inside windows of a map, and whose map shrinks from stage to stage.
 *
 *   images [B, C, H, W] -> patches [B, H/P, W/P, D] -> norm
 *     -> 4 stages: (from the second on) merge 2 x 2 tokens, then blocks whose windows are shifted in every second one:
 *        x + window attention(norm(x)), x + mlp(norm(x))
 *     -> norm -> mean -> head [B, classes]
 *
 * Names and numbers are timm's. Source: Liu et al., "Swin Transformer: hierarchical vision transformer using shifted
 * windows", 2021.
 */
import {
  type AnyModule,
  DropPath,
  Dropout,
  type FloatTensor,
  LayerNorm,
  Linear,
  Mlp,
  Module,
  ModuleList,
  PatchEmbed,
  WindowAttention,
  initConstant,
  initTruncatedNormal,
  parameter,
} from '../nn/index.js';
import { pad, zeros } from '../ops/index.js';
import { pairOf } from '../ops/operand.js';
import { expectTensors } from '../tensor/arguments.js';
import { fail } from '../tensor/error.js';
import {
  type HeadOptions,
  type LayerNames,
  type ModelConfig,
  type ModelCount,
  checkCounts,
  completeConfig,
  dropPathRates,
  isPreLogits,
} from './family.js';
import { type ImageSize, gridOf, refitPositions, resizeBiasTable, resizePositions } from './position.js';

/** Everything that makes up a Swin. The names are timm's. */
export interface SwinConfig extends ModelConfig {
  /** Pixels of a patch's side. */
  readonly patchSize: number;
  /** Width of the first stage; it doubles from stage to stage. */
  readonly embedDim: number;
  /** Blocks of each stage. */
  readonly depths: readonly number[];
  /** Heads of each stage. */
  readonly numHeads: readonly number[];
  /** Tokens of a window's side. Where a stage's map is no larger, the whole map is the window. */
  readonly windowSize: number;
  /** Hidden units of a block's MLP, in units of its width. */
  readonly mlpRatio: number;
  readonly qkvBias: boolean;
  /** Add a learned table of positions to the patches (the paper's `ape`). */
  readonly absolutePositions: boolean;
  /** Images of other sizes than `imgSize`. Windows stay as they are. */
  readonly dynamicImgSize: boolean;
  readonly normEps: number;
  /** Dropout after the patches and their positions. */
  readonly posDropRate: number;
  /** Dropout after the attention's output projection and in the MLP. */
  readonly projDropRate: number;
  /** Dropout on the attention weights. */
  readonly attnDropRate: number;
}

/** The settings that are not given. */
export const DEFAULTS: SwinConfig = {
  imgSize: 224,
  patchSize: 4,
  inChans: 3,
  numClasses: 1000,
  embedDim: 96,
  depths: [2, 2, 6, 2],
  numHeads: [3, 6, 12, 24],
  windowSize: 7,
  mlpRatio: 4,
  qkvBias: true,
  absolutePositions: false,
  dynamicImgSize: false,
  normEps: 1e-5,
  dropRate: 0,
  posDropRate: 0,
  projDropRate: 0,
  attnDropRate: 0,
  dropPathRate: 0,
};

type Size = readonly [height: number, width: number];

/** What a stage is built from. */
interface StageOptions {
  readonly dim: number;
  readonly map: Size;
  readonly depth: number;
  readonly numHeads: number;
  /** Stochastic depth of each block. */
  readonly dropPathRates: readonly number[];
}

/** The stages of a model: width doubles and the map halves, rounded up, from one to the next. */
function stagesOf(config: SwinConfig): StageOptions[] {
  const blocks = config.depths.reduce((sum, depth) => sum + depth, 0);
  const rates = dropPathRates(config.dropPathRate, blocks);
  let map: Size = gridOf('SwinTransformer', config.imgSize, config.patchSize);
  let first = 0;
  return config.depths.map((depth, i) => {
    if (i > 0) map = [Math.ceil(map[0] / 2), Math.ceil(map[1] / 2)];
    const dim = config.embedDim * 2 ** i;
    const own = rates.slice(first, (first += depth));
    return { dim, map, depth, numHeads: config.numHeads[i], dropPathRates: own };
  });
}

/** The window of a stage: along each axis the configured one, or the whole map. */
const windowOf = ({ map }: StageOptions, windowSize: number): Size => [
  Math.min(map[0], windowSize),
  Math.min(map[1], windowSize),
];

/**
 * Joins each 2 x 2 tokens to one of twice the width.
 *
 * Shapes: x `[B, H, W, C]` -> `[B, ceil(H / 2), ceil(W / 2), 2 C]`. The four tokens' features are joined in the order
 * (even row, even column), (odd, even), (even, odd), (odd, odd); zeros fill up odd sizes.
 */
export class PatchMerging extends Module<[x: FloatTensor], FloatTensor> {
  readonly norm: LayerNorm;
  readonly reduction: Linear;

  constructor(channels: number, eps: number) {
    super();
    this.norm = new LayerNorm(4 * channels, { eps, lower: true });
    this.reduction = new Linear(4 * channels, 2 * channels, { bias: false });
  }

  override forward(x: FloatTensor): FloatTensor {
    expectTensors('PatchMerging', x);
    const [batch, height, width, channels] = x.shape;
    const odd = height % 2 !== 0 || width % 2 !== 0;
    const even = odd
      ? pad(x, [
          [0, 0],
          [0, height % 2],
          [0, width % 2],
          [0, 0],
        ])
      : x;
    const [rows, columns] = [even.shape[1] / 2, even.shape[2] / 2];
    const joined = even
      .reshape([batch, rows, 2, columns, 2, channels])
      .permute([0, 1, 3, 4, 2, 5])
      .reshape([batch, rows, columns, 4 * channels]);
    return this.reduction.call(this.norm.call(joined));
  }
}

/** One layer: attention inside windows and an MLP, each a residual branch. */
export class SwinBlock extends Module<[x: FloatTensor], FloatTensor> {
  readonly norm1: LayerNorm;
  readonly attn: WindowAttention;
  readonly dropPath1: DropPath;
  readonly norm2: LayerNorm;
  readonly mlp: Mlp;
  readonly dropPath2: DropPath;
  private readonly draws: boolean;

  constructor(config: SwinConfig, stage: StageOptions, index: number) {
    super();
    const { dim, map, numHeads } = stage;
    const { windowSize, normEps: eps } = config;
    this.draws = config.attnDropRate > 0 || config.projDropRate > 0;
    const shift = (size: number): number =>
      index % 2 === 0 || size <= windowSize ? 0 : Math.floor(windowSize / 2);
    this.norm1 = new LayerNorm(dim, { eps, lower: true });
    this.attn = new WindowAttention(dim, {
      numHeads,
      window: windowOf(stage, windowSize),
      shift: [shift(map[0]), shift(map[1])],
      qkvBias: config.qkvBias,
      attnDropout: config.attnDropRate,
      projDropout: config.projDropRate,
    });
    this.dropPath1 = new DropPath(stage.dropPathRates[index]);
    this.norm2 = new LayerNorm(dim, { eps, lower: true });
    this.mlp = new Mlp(dim, Math.trunc(dim * config.mlpRatio), { dropout: config.projDropRate });
    this.dropPath2 = new DropPath(stage.dropPathRates[index]);
  }

  override forward(x: FloatTensor): FloatTensor {
    // The sums ride in the last matrix product of each branch.
    const { attn, mlp, norm1, norm2, draws } = this;
    const y = this.dropPath1.residual(x, (z, residual) => attn.call(norm1.call(z), residual), { draws });
    return this.dropPath2.residual(y, (z, residual) => mlp.call(norm2.call(z), residual), { draws });
  }
}

/** Merging (except in the first stage), then blocks with windows in place and shifted in turn. */
export class SwinStage extends Module<[x: FloatTensor], FloatTensor> {
  readonly downsample: PatchMerging | undefined;
  readonly blocks: ModuleList<SwinBlock>;

  constructor(config: SwinConfig, stage: StageOptions, first: boolean) {
    super();
    this.downsample = first ? undefined : new PatchMerging(stage.dim / 2, config.normEps);
    this.blocks = new ModuleList(
      Array.from({ length: stage.depth }, (_, i) => new SwinBlock(config, stage, i)),
    );
  }

  override forward(x: FloatTensor): FloatTensor {
    let y = this.downsample === undefined ? x : this.downsample.call(x);
    for (const block of this.blocks) y = block.call(y);
    return y;
  }
}

/** The mean of the map, dropout, and a linear layer to classes (left out where there are none). */
export class SwinHead extends Module<[x: FloatTensor, preLogits?: boolean], FloatTensor> {
  readonly drop: Dropout;
  readonly fc: Linear | undefined;

  constructor(channels: number, { dropRate, numClasses }: SwinConfig) {
    super();
    this.drop = new Dropout(dropRate);
    this.fc = numClasses > 0 ? new Linear(channels, numClasses) : undefined;
  }

  override forward(x: FloatTensor, preLogits = false): FloatTensor {
    const features = this.drop.call(x.mean({ dim: [1, 2] }));
    return this.fc === undefined || preLogits ? features : this.fc.call(features);
  }
}

/**
 * A Swin Transformer.
 *
 * Shapes: images `[B, C, H, W]` -> logits `[B, classes]`, or pooled features `[B, 8 D]` (for four stages) when
 * `numClasses` is 0.
 *
 * @example
 * const model = new SwinTransformer({ imgSize: 32, patchSize: 2, windowSize: 4, embedDim: 48, numClasses: 10 });
 * const logits = model.call(images);
 */
export class SwinTransformer extends Module<[images: FloatTensor], FloatTensor> {
  readonly config: SwinConfig;
  readonly patchEmbed: PatchEmbed;
  /** `[1, N, D]`, with `absolutePositions`. */
  readonly absolutePosEmbed: FloatTensor | undefined;
  readonly posDrop: Dropout;
  readonly layers: ModuleList<SwinStage>;
  readonly norm: LayerNorm;
  readonly head: SwinHead;

  /** @throws TensorError VALUE for settings that make no sense */
  constructor(options: Partial<SwinConfig> = {}) {
    super();
    const config = completeConfig('SwinTransformer', DEFAULTS, options);
    this.config = config;
    check(config);
    const { embedDim, normEps } = config;
    const stages = stagesOf(config);
    const [rows, columns] = stages[0].map;
    this.patchEmbed = new PatchEmbed({
      patchSize: config.patchSize,
      inChans: config.inChans,
      embedDim,
      normEps,
    });
    this.absolutePosEmbed = config.absolutePositions
      ? parameter(zeros([1, rows * columns, embedDim]))
      : undefined;
    this.posDrop = new Dropout(config.posDropRate);
    this.layers = new ModuleList(stages.map((stage, i) => new SwinStage(config, stage, i === 0)));
    const width = stages[stages.length - 1].dim;
    this.norm = new LayerNorm(width, { eps: normEps });
    this.head = new SwinHead(width, config);
    if (this.absolutePosEmbed !== undefined) initTruncatedNormal(this.absolutePosEmbed, 0.02);
    this.apply((module: AnyModule) => {
      if (!(module instanceof Linear)) return;
      initTruncatedNormal(module.weight, 0.02);
      if (module.bias !== undefined) initConstant(module.bias, 0);
    });
  }

  /** Names of the parameters that no weight decay touches, besides biases and norms: positions, absolute and relative. */
  get noWeightDecay(): readonly string[] {
    return this.namedParameters()
      .map(([name]) => name)
      .filter((name) => /(^absolute_pos_embed|\.relative_position_bias_table)$/.test(name));
  }

  /**
   * The layers as SimMIM counts them: the patches, each block, and the head with the norm before it. Merging belongs to the
   * last block before it, and absolute positions to the last layer.
   */
  get layerNames(): LayerNames {
    const { depths } = this.config;
    const blocks = depths.flatMap((depth, stage) =>
      Array.from({ length: depth }, (_, i) => [
        `layers.${stage}.blocks.${i}`,
        ...(i === depth - 1 ? [`layers.${stage + 1}.downsample`] : []),
      ]),
    );
    return [['patch_embed', 'pos_drop'], ...blocks, ['head']];
  }

  /** The map of patches, `[B, H / P, W / P, D]`. */
  private embed(images: FloatTensor): FloatTensor {
    expectTensors('SwinTransformer', images);
    const { imgSize, patchSize, embedDim, dynamicImgSize } = this.config;
    const [height, width] = images.shape.slice(-2);
    const grid = [height / patchSize, width / patchSize] as const;
    const own = gridOf('SwinTransformer', imgSize, patchSize);
    const isOwnSize = grid[0] === own[0] && grid[1] === own[1];
    if (!isOwnSize && !dynamicImgSize) {
      fail(
        'SwinTransformer',
        'SHAPE',
        `expected images of ${own.map((n) => n * patchSize).join(' x ')} pixels, got [${images.shape.join(', ')}]; ` +
          'dynamicImgSize allows other sizes',
      );
    }
    const patches = this.patchEmbed.call(images);
    const table = this.absolutePosEmbed;
    const tokens =
      table === undefined ? patches : patches.add(isOwnSize ? table : resizePositions(table, own, grid, 0));
    return this.posDrop.call(tokens).reshape([images.shape[0], ...grid, embedDim]);
  }

  /** The map after the last stage and norm, `[B, H, W, C]`. */
  forwardFeatures(images: FloatTensor): FloatTensor {
    let x = this.embed(images);
    for (const stage of this.layers) x = stage.call(x);
    return this.norm.call(x);
  }

  /** From the map to logits, or with `preLogits` to pooled features `[B, C]`. */
  forwardHead(features: FloatTensor, options: HeadOptions = {}): FloatTensor {
    return this.head.call(features, isPreLogits(options));
  }

  override forward(images: FloatTensor): FloatTensor {
    return this.forwardHead(this.forwardFeatures(images));
  }
}

/** A checkpoint's tensor for this model's windows or grid; undefined for all but position tables. */
export function resizeSwin(
  name: string,
  value: FloatTensor,
  model: SwinTransformer,
  from: Partial<SwinConfig>,
): FloatTensor | undefined {
  const { imgSize, patchSize } = model.config;
  const grid = (size: ImageSize): ReturnType<typeof gridOf> => gridOf('SwinTransformer', size, patchSize);
  if (name === 'absolute_pos_embed') {
    const own = from.imgSize === undefined ? undefined : grid(from.imgSize);
    return refitPositions(value, grid(imgSize), 0, own);
  }
  const attention = model
    .namedModules()
    .find(([path]) => `${path}.relative_position_bias_table` === name)?.[1];
  return attention instanceof WindowAttention ? resizeBiasTable(value, attention.window) : undefined;
}

/** Image size, parameters and multiply-accumulates of a Swin, from its settings alone. */
export function countSwin(options: Partial<SwinConfig>): ModelCount {
  const config: SwinConfig = { ...DEFAULTS, ...options };
  const { patchSize, inChans, embedDim, numClasses, imgSize, windowSize } = config;
  const stages = stagesOf(config);
  const [rows, columns] = stages[0].map;
  const patch = inChans * patchSize ** 2 * embedDim;
  let parameters = patch + 3 * embedDim + (config.absolutePositions ? rows * columns * embedDim : 0);
  let macs = rows * columns * patch;
  for (const [i, stage] of stages.entries()) {
    const { dim, map, depth, numHeads } = stage;
    const tokens = map[0] * map[1];
    const hidden = Math.trunc(dim * config.mlpRatio);
    const [h, w] = windowOf(stage, windowSize);
    const windows = Math.ceil(map[0] / h) * Math.ceil(map[1] / w);
    const weights = 4 * dim * dim + 2 * dim * hidden; // qkv, proj, fc1 and fc2
    const biases = (config.qkvBias ? 4 : 1) * dim + hidden + dim;
    const table = (2 * h - 1) * (2 * w - 1) * numHeads;
    parameters += depth * (weights + biases + 4 * dim + table);
    macs += depth * (tokens * weights + 2 * windows * (h * w) ** 2 * dim);
    if (i > 0) {
      parameters += 4 * dim + 2 * dim * dim; // the norm of 4 C and the reduction to 2 C, for C = dim / 2
      macs += tokens * 2 * dim * dim;
    }
  }
  const { dim } = stages[stages.length - 1];
  parameters += 2 * dim + (numClasses > 0 ? (dim + 1) * numClasses : 0);
  macs += dim * numClasses;
  return { imgSize: pairOf('SwinTransformer', 'imgSize', imgSize), parameters, macs };
}

function check(config: SwinConfig): void {
  const { depths, numHeads } = config;
  checkCounts('SwinTransformer', {
    patchSize: [config.patchSize, 1],
    inChans: [config.inChans, 1],
    embedDim: [config.embedDim, 1],
    numClasses: [config.numClasses, 0],
    windowSize: [config.windowSize, 1],
    'the number of stages': [depths.length, 1],
    ...Object.fromEntries(depths.map((depth, i) => [`depths[${i}]`, [depth, 1] as const])),
  });
  if (numHeads.length !== depths.length) {
    fail('SwinTransformer', 'VALUE', `expected numHeads for ${depths.length} stages, got ${numHeads.length}`);
  }
}
