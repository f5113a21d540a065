/**
 * The Vision Transformer: an image cut into patches, each a token, and a transformer encoder over them.
 *
 *   images [B, C, H, W] -> patches [B, N, D] -> + class and register tokens, + positions
 *     -> L blocks: x + attention(norm(x)), x + mlp(norm(x)) -> norm -> pool -> head [B, classes]
 *
 * Names and numbers are timm's. Source: Dosovitskiy et al., "An image is worth 16x16 words", 2021; registers:
 * Darcet et al., 2024; layer scale: Touvron et al., 2021.
 */
import {
  Attention,
  type AnyModule,
  type Branch,
  DropPath,
  Dropout,
  type FloatTensor,
  LayerNorm,
  LayerScale,
  Linear,
  Mlp,
  Module,
  ModuleList,
  PatchEmbed,
  initConstant,
  initLecunNormal,
  initNormal,
  initTruncatedNormal,
  initXavierUniform,
  parameter,
} from '../nn/index.js';
import { cat, indexSelect, normal, topk, zeros } from '../ops/index.js';
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
import { type ImageSize, gridOf, refitPositions, resizePositions } from './position.js';

/** Everything that makes up a ViT. The names are timm's. */
export interface ViTConfig extends ModelConfig {
  /** Pixels of a patch's side. */
  readonly patchSize: number;
  /** What the head sees: the class token, or the mean of the patch tokens. */
  readonly globalPool: 'token' | 'avg';
  /** D, the width. */
  readonly embedDim: number;
  /** L, the number of blocks. */
  readonly depth: number;
  readonly numHeads: number;
  /** Hidden units of a block's MLP, in units of D. */
  readonly mlpRatio: number;
  readonly qkvBias: boolean;
  /** Normalise q and k of each head. */
  readonly qkNorm: boolean;
  /** Where a block normalises: before attention and MLP (the usual), or after them. */
  readonly blockNorm: 'pre' | 'post';
  /** First value of each block's layer scale; undefined for none. */
  readonly initValues: number | undefined;
  readonly classToken: boolean;
  /** Register tokens, between the class token and the patches. */
  readonly regTokens: number;
  /** Add positions to the patches alone, before the prefix tokens join. */
  readonly noEmbedClass: boolean;
  /** Normalise after the positions (CLIP's form); the patch projection then has no bias. */
  readonly preNorm: boolean;
  /** Normalise after pooling (`fc_norm`) instead of before (`norm`). Default: with 'avg' pooling. */
  readonly fcNorm: boolean | undefined;
  /** Images of other sizes than `imgSize`, with positions resized for each. */
  readonly dynamicImgSize: boolean;
  readonly normEps: number;
  /** Dropout after the positions. */
  readonly posDropRate: number;
  /** Share of the patches that training leaves out. */
  readonly patchDropRate: number;
  /** Dropout after the attention's output projection and in the MLP. */
  readonly projDropRate: number;
  /** Dropout on the attention weights. */
  readonly attnDropRate: number;
  /** First weights: timm's default, or 'jax' for those of the original implementation. */
  readonly weightInit: 'timm' | 'jax';
}

/** The settings that are not given. */
export const DEFAULTS: ViTConfig = {
  imgSize: 224,
  patchSize: 16,
  inChans: 3,
  numClasses: 1000,
  globalPool: 'token',
  embedDim: 768,
  depth: 12,
  numHeads: 12,
  mlpRatio: 4,
  qkvBias: true,
  qkNorm: false,
  blockNorm: 'pre',
  initValues: undefined,
  classToken: true,
  regTokens: 0,
  noEmbedClass: false,
  preNorm: false,
  fcNorm: undefined,
  dynamicImgSize: false,
  normEps: 1e-6,
  dropRate: 0,
  posDropRate: 0,
  patchDropRate: 0,
  projDropRate: 0,
  attnDropRate: 0,
  dropPathRate: 0,
  weightInit: 'timm',
};

/** One layer of the encoder: attention and MLP, each a residual branch. */
export class Block extends Module<[x: FloatTensor, tokens?: number | undefined], FloatTensor> {
  readonly norm1: LayerNorm;
  readonly attn: Attention;
  readonly ls1: LayerScale | undefined;
  readonly dropPath1: DropPath;
  readonly norm2: LayerNorm;
  readonly mlp: Mlp;
  readonly ls2: LayerScale | undefined;
  readonly dropPath2: DropPath;
  private readonly post: boolean;
  private readonly draws: boolean;

  constructor(config: ViTConfig, dropPathRate: number) {
    super();
    const { embedDim, normEps: eps, initValues } = config;
    this.post = config.blockNorm === 'post';
    this.draws = config.attnDropRate > 0 || config.projDropRate > 0;
    const scaled = initValues !== undefined && !this.post;
    const lower = !this.post; // a product reads what the norms give, or else the residual is added to it
    this.norm1 = new LayerNorm(embedDim, { eps, lower });
    this.attn = new Attention(embedDim, {
      numHeads: config.numHeads,
      qkvBias: config.qkvBias,
      qkNorm: config.qkNorm,
      attnDropout: config.attnDropRate,
      projDropout: config.projDropRate,
      eps,
    });
    this.ls1 = scaled ? new LayerScale(embedDim, initValues) : undefined;
    this.dropPath1 = new DropPath(dropPathRate);
    this.norm2 = new LayerNorm(embedDim, { eps, lower });
    this.mlp = new Mlp(embedDim, Math.trunc(embedDim * config.mlpRatio), { dropout: config.projDropRate });
    this.ls2 = scaled ? new LayerScale(embedDim, initValues) : undefined;
    this.dropPath2 = new DropPath(dropPathRate);
  }

  /** `[B, N, D]` -> `[B, N, D]`, or only the first `tokens` of the result, `[B, tokens, D]`. */
  override forward(x: FloatTensor, tokens?: number): FloatTensor {
    const { attn, mlp, ls1, ls2, norm1, norm2, post, draws } = this;
    const own = tokens === undefined ? x : x.narrow(1, 0, tokens);
    // Where nothing comes after it, the last matrix product of a branch takes the residual along.
    const attend: Branch = (z, residual) => {
      if (post) return plus(norm1.call(attn.call(z, { queries: tokens })), residual);
      const y = norm1.call(z);
      if (ls1 === undefined) return attn.call(y, { queries: tokens, residual });
      return plus(ls1.call(attn.call(y, { queries: tokens })), residual);
    };
    const feed: Branch = (z, residual) => {
      if (post) return plus(norm2.call(mlp.call(z)), residual);
      if (ls2 === undefined) return mlp.call(norm2.call(z), residual);
      return plus(ls2.call(mlp.call(norm2.call(z))), residual);
    };
    const y = this.dropPath1.residual(own, attend, { from: x, draws });
    return this.dropPath2.residual(y, feed, { draws });
  }
}

const plus = (y: FloatTensor, residual: FloatTensor | undefined): FloatTensor =>
  residual === undefined ? y : residual.add(y);

/**
 * A Vision Transformer.
 *
 * Shapes: images `[B, C, H, W]` -> logits `[B, classes]`, or pooled features `[B, D]` when `numClasses` is 0.
 *
 * @example
 * const model = new VisionTransformer({ imgSize: 32, patchSize: 4, embedDim: 96, depth: 6, numHeads: 3, numClasses: 10 });
 * const logits = model.call(images);
 */
export class VisionTransformer extends Module<[images: FloatTensor], FloatTensor> {
  readonly config: ViTConfig;
  /** `[1, 1, D]` */
  readonly clsToken: FloatTensor | undefined;
  /** `[1, R, D]` */
  readonly regToken: FloatTensor | undefined;
  /** `[1, prefix + N, D]`, or `[1, N, D]` with `noEmbedClass`. */
  readonly posEmbed: FloatTensor;
  readonly patchEmbed: PatchEmbed;
  readonly posDrop: Dropout;
  readonly normPre: LayerNorm | undefined;
  readonly blocks: ModuleList<Block>;
  readonly norm: LayerNorm | undefined;
  readonly fcNorm: LayerNorm | undefined;
  readonly headDrop: Dropout;
  readonly head: Linear | undefined;

  constructor(options: Partial<ViTConfig> = {}) {
    super();
    const config = completeConfig('VisionTransformer', DEFAULTS, options);
    this.config = config;
    const { embedDim: dim, depth, normEps: eps } = config;
    check(config);
    const [rows, columns] = gridOf('VisionTransformer', config.imgSize, config.patchSize);
    this.clsToken = config.classToken ? parameter(zeros([1, 1, dim])) : undefined;
    this.regToken = config.regTokens > 0 ? parameter(zeros([1, config.regTokens, dim])) : undefined;
    const positions = rows * columns + this.tablePrefix;
    this.posEmbed = parameter(zeros([1, positions, dim]));
    this.patchEmbed = new PatchEmbed({
      patchSize: config.patchSize,
      inChans: config.inChans,
      embedDim: dim,
      bias: !config.preNorm,
    });
    this.posDrop = new Dropout(config.posDropRate);
    this.normPre = config.preNorm ? new LayerNorm(dim, { eps }) : undefined;
    this.blocks = new ModuleList(
      dropPathRates(config.dropPathRate, depth).map((rate) => new Block(config, rate)),
    );
    const fcNorm = config.fcNorm ?? config.globalPool === 'avg';
    this.norm = fcNorm ? undefined : new LayerNorm(dim, { eps });
    this.fcNorm = fcNorm ? new LayerNorm(dim, { eps }) : undefined;
    this.headDrop = new Dropout(config.dropRate);
    this.head = config.numClasses > 0 ? new Linear(dim, config.numClasses) : undefined;
    this.initWeights();
  }

  /** How many tokens come before the patches. */
  get prefixTokens(): number {
    return (this.config.classToken ? 1 : 0) + this.config.regTokens;
  }

  /** Names of the parameters that no weight decay touches, besides biases and norms. */
  get noWeightDecay(): readonly string[] {
    return ['pos_embed', 'cls_token', 'reg_token'];
  }

  /** How many of them have a position. */
  get tablePrefix(): number {
    return this.config.noEmbedClass ? 0 : this.prefixTokens;
  }

  /**
   * The layers as MAE and BEiT count them: what comes before the blocks, each block, and the head with the norm before it.
   * Registers, which those lack, are where the class token is.
   */
  get layerNames(): LayerNames {
    const stem = ['cls_token', 'reg_token', 'pos_embed', 'patch_embed', 'pos_drop', 'norm_pre'];
    const blocks = Array.from({ length: this.config.depth }, (_, i) => [`blocks.${i}`]);
    return [stem, ...blocks, ['head_drop', 'head']];
  }

  private initWeights(): void {
    const jax = this.config.weightInit === 'jax';
    if (this.clsToken !== undefined) initNormal(this.clsToken, 1e-6);
    if (this.regToken !== undefined) initNormal(this.regToken, 1e-6);
    initTruncatedNormal(this.posEmbed, 0.02);
    if (jax) {
      initLecunNormal(this.patchEmbed.proj.weight);
      if (this.patchEmbed.proj.bias !== undefined) initConstant(this.patchEmbed.proj.bias, 0);
    }
    this.apply((module: AnyModule, name: string) => {
      if (module instanceof Linear) this.initLinear(module, name);
    });
    if (this.config.blockNorm === 'post' && this.config.initValues !== undefined) {
      for (const block of this.blocks) {
        for (const { weight } of [block.norm1, block.norm2]) {
          if (weight !== undefined) initConstant(weight, this.config.initValues);
        }
      }
    }
  }

  /** First weights of a linear layer: a head's, by the name 'head', start at zero in the original. */
  protected initLinear({ weight, bias }: Linear, name: string): void {
    const jax = this.config.weightInit === 'jax';
    if (bias !== undefined) {
      if (jax && name.includes('.mlp.')) initNormal(bias, 1e-6);
      else initConstant(bias, 0);
    }
    if (!jax) initTruncatedNormal(weight, 0.02);
    else if (name === 'head') initConstant(weight, 0);
    else initXavierUniform(weight);
  }

  /** The tokens before the patches, each `[1, n, D]`. */
  protected prefix(): FloatTensor[] {
    return [this.clsToken, this.regToken].filter((token) => token !== undefined);
  }

  /** Tokens with positions, `[B, prefix + N, D]`. */
  private embed(images: FloatTensor): FloatTensor {
    expectTensors('VisionTransformer', images);
    const { config } = this;
    if (images.ndim !== 4 || images.shape[1] !== config.inChans) {
      const expected = `expected images [B, ${config.inChans}, H, W]`;
      fail('VisionTransformer', 'SHAPE', `${expected}, got [${images.shape.join(', ')}]`);
    }
    const [, , height, width] = images.shape;
    const grid = [height / config.patchSize, width / config.patchSize] as const;
    const own = gridOf('VisionTransformer', config.imgSize, config.patchSize);
    const isOwnSize = grid[0] === own[0] && grid[1] === own[1];
    if (!isOwnSize && !config.dynamicImgSize) {
      fail(
        'VisionTransformer',
        'SHAPE',
        `expected images of ${own.map((n) => n * config.patchSize).join(' x ')} pixels, got [${images.shape.join(', ')}]; ` +
          'dynamicImgSize allows other sizes',
      );
    }
    const positions = isOwnSize ? this.posEmbed : resizePositions(this.posEmbed, own, grid, this.tablePrefix);
    const patches = this.patchEmbed.call(images);
    const prefix = this.prefix().map((token) => token.expand([patches.shape[0], -1, -1]));
    const tokens = config.noEmbedClass
      ? cat([...prefix, patches.add(positions)], 1)
      : cat([...prefix, patches], 1).add(positions);
    return this.dropPatches(this.posDrop.call(tokens));
  }

  /** In training, keeps a random share of each image's patches; the prefix stays. Source: Liu et al., "PatchDropout", 2023. */
  private dropPatches(tokens: FloatTensor): FloatTensor {
    const { patchDropRate } = this.config;
    // In the mode of what it leaves out: frozen patches are all seen.
    if (!this.patchEmbed.training || patchDropRate === 0) return tokens;
    const [batch, n, dim] = tokens.shape;
    const prefix = this.prefixTokens;
    const kept = Math.max(1, Math.trunc((n - prefix) * (1 - patchDropRate)));
    const { indices } = topk(normal([batch, n - prefix], { device: tokens.device }), kept);
    const starts = cat(
      Array.from({ length: batch }, (_, i) => indices.narrow(0, i, 1).add(i * n + prefix)),
      0,
    );
    const rows = indexSelect(tokens.reshape([batch * n, dim]), 0, starts.reshape([-1]));
    return cat([tokens.narrow(1, 0, prefix), rows.reshape([batch, kept, dim])], 1);
  }

  /** Tokens after the last block and norm, `[B, prefix + N, D]`. */
  forwardFeatures(images: FloatTensor): FloatTensor {
    return this.encode(images);
  }

  /** Tokens after the last block and norm: all, or only the first `tokens`, which is all that the last block computes. */
  private encode(images: FloatTensor, tokens?: number): FloatTensor {
    let x = this.embed(images);
    if (this.normPre !== undefined) x = this.normPre.call(x);
    const last = this.blocks.at(-1);
    for (const block of this.blocks) x = block === last ? block.call(x, tokens) : block.call(x);
    return this.norm === undefined ? x : this.norm.call(x);
  }

  /** How many tokens the head reads of the last block, from the first on; undefined for all. */
  protected get headTokens(): number | undefined {
    return this.config.globalPool === 'token' ? 1 : undefined;
  }

  /** From tokens to logits, or with `preLogits` to pooled features `[B, D]`. */
  forwardHead(tokens: FloatTensor, options: HeadOptions = {}): FloatTensor {
    const preLogits = isPreLogits(options);
    const pooled =
      this.config.globalPool === 'token'
        ? tokens.select(1, 0)
        : tokens.narrow(1, this.prefixTokens, tokens.shape[1] - this.prefixTokens).mean({ dim: 1 });
    const features = this.headDrop.call(this.fcNorm === undefined ? pooled : this.fcNorm.call(pooled));
    return this.head === undefined || preLogits ? features : this.head.call(features);
  }

  /** Tokens for the head, of which the last block computes no more than it reads, unless a hook in it looks on. */
  protected encodeForHead(images: FloatTensor): FloatTensor {
    const isWatched = this.blocks.at(-1)?.isHooked === true;
    return this.encode(images, isWatched ? undefined : this.headTokens);
  }

  override forward(images: FloatTensor): FloatTensor {
    return this.forwardHead(this.encodeForHead(images));
  }

  /** Multiply-accumulates for one image of `imgSize`: the matrix products of projections, attention and head. */
  get macs(): number {
    return countViT(this.config).macs;
  }
}

/** A checkpoint's tensor for this model's grid; undefined for all but the positions. */
export function resizeViT(
  name: string,
  value: FloatTensor,
  model: VisionTransformer,
  from: Partial<ViTConfig>,
): FloatTensor | undefined {
  if (name !== 'pos_embed') return undefined;
  const { imgSize, patchSize } = model.config;
  const grid = (size: ImageSize): ReturnType<typeof gridOf> => gridOf('VisionTransformer', size, patchSize);
  const own = from.imgSize === undefined ? undefined : grid(from.imgSize);
  return refitPositions(value, grid(imgSize), model.tablePrefix, own);
}

/** Image size, parameters and multiply-accumulates of a ViT, from its settings alone. */
export function countViT(options: Partial<ViTConfig>): ModelCount {
  const config: ViTConfig = { ...DEFAULTS, ...options };
  const { embedDim: dim, depth, numHeads, patchSize, inChans, numClasses, imgSize } = config;
  const [rows, columns] = gridOf('VisionTransformer', imgSize, patchSize);
  const hidden = Math.trunc(dim * config.mlpRatio);
  const prefix = (config.classToken ? 1 : 0) + config.regTokens;
  const n = rows * columns + prefix;
  const block =
    4 * dim * dim +
    (config.qkvBias ? 4 : 1) * dim + // qkv and proj
    (config.qkNorm ? 4 * (dim / numHeads) : 0) +
    2 * dim * hidden +
    hidden +
    dim + // fc1 and fc2
    4 * dim + // norms
    (config.initValues !== undefined && config.blockNorm === 'pre' ? 2 * dim : 0);
  const embed =
    inChans * patchSize ** 2 * dim +
    (config.preNorm ? 2 : 1) * dim + // bias, or a norm's scale and shift
    prefix * dim +
    (rows * columns + (config.noEmbedClass ? 0 : prefix)) * dim;
  const head = 2 * dim + (numClasses > 0 ? (dim + 1) * numClasses : 0);
  const blockMacs = 4 * n * dim * dim + 2 * n * n * dim + 2 * n * dim * hidden;
  return {
    imgSize: pairOf('VisionTransformer', 'imgSize', imgSize),
    parameters: embed + depth * block + head,
    macs: rows * columns * inChans * patchSize ** 2 * dim + depth * blockMacs + dim * numClasses,
  };
}

function check(config: ViTConfig): void {
  checkCounts('VisionTransformer', {
    patchSize: [config.patchSize, 1],
    inChans: [config.inChans, 1],
    embedDim: [config.embedDim, 1],
    depth: [config.depth, 1],
    numHeads: [config.numHeads, 1],
    numClasses: [config.numClasses, 0],
    regTokens: [config.regTokens, 0],
  });
  if (config.globalPool === 'token' && !config.classToken) {
    fail('VisionTransformer', 'VALUE', "expected globalPool 'avg' without a class token, got 'token'");
  }
  if (!(config.patchDropRate >= 0 && config.patchDropRate < 1)) {
    fail('VisionTransformer', 'VALUE', `expected a patchDropRate in [0, 1), got ${config.patchDropRate}`);
  }
}
