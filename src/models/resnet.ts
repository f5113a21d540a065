/**
 * ResNet: stages of residual blocks of convolutions, on a map that halves from stage to stage.
 *
 *   images [B, C, H, W] -> 7 x 7 convolution, norm, ReLU, max pool
 *     -> 4 stages of blocks: relu(x + norm(conv(relu(norm(conv(x))))))
 *     -> mean -> fc [B, classes]
 *
 * Names and numbers are timm's and torchvision's: the stride of a bottleneck is in its 3 x 3 convolution ("v1.5").
 * Source: He et al., "Deep residual learning for image recognition", 2016.
 */
import {
  BatchNorm2d,
  Conv2d,
  type ConvNormOwner,
  type ConvNormPair,
  DropPath,
  Dropout,
  type AnyModule,
  type FloatTensor,
  Linear,
  MaxPool2d,
  Module,
  Sequential,
  convNorm,
  initConstant,
  initNormal,
} from '../nn/index.js';
import { adaptiveAvgPool2d, relu } from '../ops/index.js';
import { pairOf } from '../ops/operand.js';
import { fail } from '../tensor/error.js';
import { ConvCounter } from './conv-count.js';
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

/** Everything that makes up a ResNet. The names are timm's where it has one. */
export interface ResNetConfig extends ModelConfig {
  /** Two 3 x 3 convolutions, or a 3 x 3 between two 1 x 1 of which the last widens four times. */
  readonly block: 'basic' | 'bottleneck';
  /** Blocks of each stage. */
  readonly layers: readonly number[];
  /** Width of each stage, before a bottleneck's widening. */
  readonly channels: readonly number[];
  /** Channels after the first convolution. */
  readonly stemWidth: number;
  /** A 7 x 7 convolution of stride 2 and a max pool, or for small images a 3 x 3 convolution alone. */
  readonly stem: '7x7' | '3x3';
  /** Where a bottleneck's stride is: in its 3 x 3 convolution, or as in the first version of the paper in its first. */
  readonly strideIn: '3x3' | '1x1';
  /** Halve the map in the first stage too (an option of transformers). */
  readonly downsampleFirst: boolean;
  /** The last norm of each block starts at 0, so that each block starts as the identity. */
  readonly zeroInitLast: boolean;
}

/** The settings that are not given. */
export const DEFAULTS: ResNetConfig = {
  imgSize: 224,
  inChans: 3,
  numClasses: 1000,
  block: 'basic',
  layers: [2, 2, 2, 2],
  channels: [64, 128, 256, 512],
  stemWidth: 64,
  stem: '7x7',
  strideIn: '3x3',
  downsampleFirst: false,
  zeroInitLast: true,
  dropRate: 0,
  dropPathRate: 0,
};

const EXPANSION = { basic: 1, bottleneck: 4 } as const;

/** One convolution of a block. */
export interface ResNetConvShape {
  readonly inChans: number;
  readonly outChans: number;
  readonly kernel: number;
  readonly stride: number;
}

/** A block: its convolutions, and that of its shortcut where the shape changes. */
export interface ResNetBlockShape {
  readonly convs: readonly ResNetConvShape[];
  readonly shortcut: ResNetConvShape | undefined;
}

/** The blocks of each stage. */
function stagesOf(config: ResNetConfig): ResNetBlockShape[][] {
  const { block, layers, channels, strideIn, downsampleFirst } = config;
  let inChans = config.stemWidth;
  return layers.map((depth, stage) =>
    Array.from({ length: depth }, (_, i) => {
      const width = channels[stage];
      const outChans = width * EXPANSION[block];
      const stride = i === 0 && (stage > 0 || downsampleFirst) ? 2 : 1;
      const first = strideIn === '1x1' ? stride : 1;
      const convs: ResNetConvShape[] =
        block === 'basic'
          ? [
              { inChans, outChans, kernel: 3, stride },
              { inChans: outChans, outChans, kernel: 3, stride: 1 },
            ]
          : [
              { inChans, outChans: width, kernel: 1, stride: first },
              { inChans: width, outChans: width, kernel: 3, stride: stride / first },
              { inChans: width, outChans, kernel: 1, stride: 1 },
            ];
      const shortcut =
        stride !== 1 || inChans !== outChans ? { inChans, outChans, kernel: 1, stride } : undefined;
      inChans = outChans;
      return { convs, shortcut };
    }),
  );
}

function makePair({ inChans, outChans, kernel, stride }: ResNetConvShape): ConvNormPair {
  const padding = Math.floor(kernel / 2);
  return [new Conv2d(inChans, outChans, kernel, { stride, padding, bias: false }), new BatchNorm2d(outChans)];
}

/** The shortcut of a block whose shape changes: `downsample.0` and `downsample.1`. */
export class ResNetShortcut extends Module<[x: FloatTensor], FloatTensor> implements ConvNormOwner {
  readonly convNorms: readonly ConvNormPair[];

  constructor(shape: ResNetConvShape) {
    super();
    this.convNorms = [makePair(shape)];
  }

  override children(): [name: string, module: AnyModule][] {
    return this.convNorms.flat().map((module, i): [string, AnyModule] => [`${i}`, module]);
  }

  override forward(x: FloatTensor): FloatTensor {
    return convNorm(this.convNorms[0], x);
  }
}

/** A residual block: convolutions with their norms, ReLU between them and after the sum with the shortcut. */
export class ResNetBlock extends Module<[x: FloatTensor], FloatTensor> implements ConvNormOwner {
  readonly convNorms: readonly ConvNormPair[];
  readonly downsample: ResNetShortcut | undefined;
  readonly dropPath: DropPath;

  constructor(shape: ResNetBlockShape, dropPathRate: number) {
    super();
    this.convNorms = shape.convs.map(makePair);
    this.downsample = shape.shortcut && new ResNetShortcut(shape.shortcut);
    this.dropPath = new DropPath(dropPathRate);
  }

  override children(): [name: string, module: AnyModule][] {
    const own = this.convNorms.flatMap(([conv, norm], i): [string, AnyModule][] => [
      [`conv${i + 1}`, conv],
      [`bn${i + 1}`, norm],
    ]);
    return [...own, ...super.children()];
  }

  override forward(x: FloatTensor): FloatTensor {
    const residual = this.downsample === undefined ? x : this.downsample.call(x);
    const last = this.convNorms.length - 1;
    let y = x;
    for (const pair of this.convNorms.slice(0, last)) y = convNorm(pair, y, { activation: 'relu' });
    if (!this.dropPath.active) return convNorm(this.convNorms[last], y, { residual, activation: 'relu' });
    return relu(this.dropPath.call(convNorm(this.convNorms[last], y)).add(residual));
  }
}

/**
 * A residual network.
 *
 * Shapes: images `[B, C, H, W]`, of any size, -> logits `[B, classes]`, or pooled features when `numClasses` is 0.
 *
 * @example
 * const model = createModel('resnet18', { numClasses: 10 });
 * const logits = model.call(images);
 */
export class ResNet extends Module<[images: FloatTensor], FloatTensor> implements ConvNormOwner {
  readonly config: ResNetConfig;
  readonly conv1: Conv2d;
  readonly bn1: BatchNorm2d;
  readonly maxpool: MaxPool2d | undefined;
  /** `layer1`, `layer2`, ... */
  readonly stages: readonly Sequential[];
  readonly headDrop: Dropout;
  readonly fc: Linear | undefined;

  /** @throws TensorError VALUE for settings that make no sense */
  constructor(options: Partial<ResNetConfig> = {}) {
    super();
    const config = completeConfig('ResNet', DEFAULTS, options);
    this.config = config;
    check(config);
    const { inChans, stemWidth, stem, numClasses, dropPathRate } = config;
    const large = stem === '7x7';
    [this.conv1, this.bn1] = makePair({
      inChans,
      outChans: stemWidth,
      kernel: large ? 7 : 3,
      stride: large ? 2 : 1,
    });
    this.maxpool = large ? new MaxPool2d(3, { stride: 2, padding: 1 }) : undefined;
    const stages = stagesOf(config);
    const rates = dropPathRates(dropPathRate, stages.flat().length);
    let index = 0;
    this.stages = stages.map(
      (blocks) => new Sequential(blocks.map((shape) => new ResNetBlock(shape, rates[index++]))),
    );
    this.headDrop = new Dropout(config.dropRate);
    this.fc = numClasses > 0 ? new Linear(widthOf(config), numClasses) : undefined;
    this.initWeights();
  }

  override children(): [name: string, module: AnyModule][] {
    const stages = this.stages.map((stage, i): [string, AnyModule] => [`layer${i + 1}`, stage]);
    return [...super.children(), ...stages];
  }

  get convNorms(): ConvNormPair[] {
    return [[this.conv1, this.bn1]];
  }

  /** No parameter but the vectors, biases and norms, is spared weight decay. */
  get noWeightDecay(): readonly string[] {
    return [];
  }

  /** The layers: the first convolution, each block, the head. */
  get layerNames(): LayerNames {
    const blocks = this.config.layers.flatMap((depth, stage) =>
      Array.from({ length: depth }, (_, i) => [`layer${stage + 1}.${i}`]),
    );
    return [['conv1', 'bn1'], ...blocks, ['head_drop', 'fc']];
  }

  /** Convolutions are normal with variance 2 / (kh kw O): He et al., 2015. */
  private initWeights(): void {
    this.apply((module: AnyModule) => {
      if (module instanceof Conv2d) {
        const [out, , height, width] = module.weight.shape;
        initNormal(module.weight, Math.sqrt(2 / (out * height * width)));
      } else if (module instanceof ResNetBlock && this.config.zeroInitLast) {
        const [, last] = module.convNorms[module.convNorms.length - 1];
        initConstant(last.weight, 0);
      }
    });
  }

  /** The map after the last stage, `[B, C, h, w]`. */
  forwardFeatures(images: FloatTensor): FloatTensor {
    let x = convNorm([this.conv1, this.bn1], images, { activation: 'relu' });
    if (this.maxpool !== undefined) x = this.maxpool.call(x);
    for (const stage of this.stages) x = stage.call(x);
    return x;
  }

  /** From the map to logits, or with `preLogits` to pooled features `[B, C]`. */
  forwardHead(features: FloatTensor, options: HeadOptions = {}): FloatTensor {
    const preLogits = isPreLogits(options);
    const pooled = this.headDrop.call(adaptiveAvgPool2d(features, 1).flatten(1));
    return this.fc === undefined || preLogits ? pooled : this.fc.call(pooled);
  }

  override forward(images: FloatTensor): FloatTensor {
    return this.forwardHead(this.forwardFeatures(images));
  }
}

/** Channels of the last map. */
const widthOf = ({ block, channels, layers }: ResNetConfig): number =>
  channels[layers.length - 1] * EXPANSION[block];

/** Image size, parameters and multiply-accumulates of a ResNet, from its settings alone. */
export function countResNet(options: Partial<ResNetConfig>): ModelCount {
  const config: ResNetConfig = { ...DEFAULTS, ...options };
  const imgSize = pairOf('ResNet', 'imgSize', config.imgSize);
  const counter = new ConvCounter(imgSize);
  const large = config.stem === '7x7';
  counter.conv(config.inChans, config.stemWidth, { kernel: large ? 7 : 3, stride: large ? 2 : 1 });
  if (large) counter.shrink(3, 2);
  for (const { convs, shortcut } of stagesOf(config).flat()) {
    if (shortcut !== undefined) {
      counter.aside(() => counter.conv(shortcut.inChans, shortcut.outChans, shortcut));
    }
    for (const conv of convs) counter.conv(conv.inChans, conv.outChans, conv);
  }
  counter.head(widthOf(config), config.numClasses);
  return { imgSize, parameters: counter.parameters, macs: counter.macs };
}

function check(config: ResNetConfig): void {
  const { layers, channels } = config;
  checkCounts('ResNet', {
    inChans: [config.inChans, 1],
    numClasses: [config.numClasses, 0],
    stemWidth: [config.stemWidth, 1],
    'the number of stages': [layers.length, 1],
    ...Object.fromEntries(layers.map((depth, i) => [`layers[${i}]`, [depth, 1] as const])),
    ...Object.fromEntries(channels.map((width, i) => [`channels[${i}]`, [width, 1] as const])),
  });
  if (channels.length !== layers.length) {
    fail('ResNet', 'VALUE', `expected channels for ${layers.length} stages, got ${channels.length}`);
  }
  const choices = { block: ['basic', 'bottleneck'], stem: ['7x7', '3x3'], strideIn: ['3x3', '1x1'] } as const;
  for (const [name, known] of Object.entries(choices)) {
    const value = config[name as keyof typeof choices];
    if (!(known as readonly string[]).includes(value)) {
      fail('ResNet', 'VALUE', `expected ${name} to be ${known.join(' or ')}, got '${value}'`);
    }
  }
}
