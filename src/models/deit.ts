/**
 * DeiT: the ViT, with a second token that learns from a teacher.
 *
 *   [class, distillation, patches] -> blocks -> norm -> head(class token), head_dist(distillation token)
 *
 * In training each head has a target of its own (`heads`); at inference the prediction is their mean. Without the
 * distillation token a DeiT is a plain ViT. Names and numbers are timm's.
 *
 * Source: Touvron et al., "Training data-efficient image transformers & distillation through attention", 2021;
 * DeiT III (layer scale, positions on patches alone): Touvron et al., 2022.
 */
import { type FloatTensor, Linear, initTruncatedNormal, parameter } from '../nn/index.js';
import { zeros } from '../ops/index.js';
import { fail } from '../tensor/error.js';
import { scope } from '../tensor/index.js';
import { type HeadOptions, type LayerNames, type ModelCount, isPreLogits } from './family.js';
import { type ViTConfig, VisionTransformer, countViT } from './vit.js';

/** A ViT's settings, and whether it has the distillation token. */
export interface DeiTConfig extends ViTConfig {
  readonly distilled: boolean;
}

/**
 * A Vision Transformer with a distillation token and its head.
 *
 * Shapes: images `[B, C, H, W]` -> the mean of both heads' logits `[B, classes]`, or the mean of both tokens `[B, D]`
 * when `numClasses` is 0.
 *
 * @example
 * const model = createModel('deit_tiny_distilled_patch16_224', { numClasses: 10 });
 * const [logits, distLogits] = model.heads(images); // what training compares with the labels, and with the teacher
 */
export class DistilledVisionTransformer extends VisionTransformer {
  /** `[1, 1, D]` */
  readonly distToken: FloatTensor;
  readonly headDist: Linear | undefined;

  /** @throws TensorError VALUE for settings that make no sense, among them pooling by anything but the tokens */
  constructor(options: Partial<ViTConfig> = {}) {
    super(options);
    const { embedDim, numClasses, globalPool, noEmbedClass } = this.config;
    if (globalPool !== 'token' || noEmbedClass) {
      const got = globalPool === 'token' ? 'noEmbedClass' : `globalPool '${globalPool}'`;
      fail('DistilledVisionTransformer', 'VALUE', `expected two class tokens with positions, got ${got}`);
    }
    this.distToken = parameter(zeros([1, 1, embedDim]));
    initTruncatedNormal(this.distToken, 0.02);
    this.headDist = numClasses > 0 ? new Linear(embedDim, numClasses) : undefined;
    if (this.headDist !== undefined) this.initLinear(this.headDist, 'head');
  }

  override get prefixTokens(): number {
    return super.prefixTokens + 1;
  }

  override get noWeightDecay(): readonly string[] {
    return [...super.noWeightDecay, 'dist_token'];
  }

  /** As a ViT's; the distillation token is where the class token is, its head beside the other. */
  override get layerNames(): LayerNames {
    const layers = super.layerNames;
    const [stem, head] = [layers[0], layers[layers.length - 1]];
    return layers.with(0, [...stem, 'dist_token']).with(-1, [...head, 'head_dist']);
  }

  protected override prefix(): FloatTensor[] {
    const [classToken, ...registers] = super.prefix();
    return [classToken, this.distToken, ...registers];
  }

  /** What each head says of its token: the class head's logits and the distillation head's, each `[B, classes]`. */
  heads(images: FloatTensor): [logits: FloatTensor, distLogits: FloatTensor] {
    return scope(() => this.headsOf(this.encodeForHead(images)));
  }

  protected override get headTokens(): number {
    return 2;
  }

  override forwardHead(tokens: FloatTensor, options: HeadOptions = {}): FloatTensor {
    const [a, b] = isPreLogits(options) ? this.features(tokens) : this.headsOf(tokens);
    return a.add(b).mul(0.5);
  }

  private features(tokens: FloatTensor): [FloatTensor, FloatTensor] {
    return [this.headDrop.call(tokens.select(1, 0)), this.headDrop.call(tokens.select(1, 1))];
  }

  private headsOf(tokens: FloatTensor): [FloatTensor, FloatTensor] {
    const [a, b] = this.features(tokens);
    return this.head === undefined || this.headDist === undefined
      ? [a, b]
      : [this.head.call(a), this.headDist.call(b)];
  }
}

/** A DeiT with the distillation token or without. */
export function createDeiT(options: Partial<DeiTConfig>): VisionTransformer {
  const { distilled = false, ...rest } = options;
  return distilled ? new DistilledVisionTransformer(rest) : new VisionTransformer(rest);
}

/** Image size, parameters and multiply-accumulates of a DeiT, from its settings alone. */
export function countDeiT(options: Partial<DeiTConfig>): ModelCount {
  const { distilled = false, ...rest } = options;
  if (!distilled) return countViT(rest);
  // The token itself counts as a register does.
  const count = countViT({ ...rest, regTokens: (rest.regTokens ?? 0) + 1 });
  const { embedDim = 768, numClasses = 1000 } = rest;
  return {
    ...count,
    parameters: count.parameters + (numClasses > 0 ? (embedDim + 1) * numClasses : 0),
    macs: count.macs + embedDim * numClasses,
  };
}
