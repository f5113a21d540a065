/**
 * RegNetY: stages of bottleneck blocks with grouped convolutions and squeeze-and-excitation, whose widths follow a line.
 *
 *   images [B, C, H, W] -> 3 x 3 convolution of stride 2, norm, ReLU
 *     -> 4 stages, each halving the map, of blocks: relu(x + norm(1x1(SE(relu(norm(grouped 3x3(relu(norm(1x1(x)))))))))
 *     -> mean -> head.fc [B, classes]
 *
 * Names and numbers are timm's. Source: Radosavovic et al., "Designing network design spaces", 2020.
 */
import {
  type AnyModule,
  Conv2d,
  ConvNorm,
  DropPath,
  Dropout,
  type FloatTensor,
  Linear,
  Module,
  SqueezeExcite,
  initConstant,
  initNormal,
} from '../nn/index.js';
import { adaptiveAvgPool2d, relu } from '../ops/index.js';
import { pairOf } from '../ops/operand.js';
import { fail } from '../tensor/error.js';
import { roundEven } from '../tensor/round.js';
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

/** Everything that makes up a RegNetY. */
export interface RegNetConfig extends ModelConfig {
  /** Blocks of each stage. */
  readonly depths: readonly number[];
  /** Channels of each stage, multiples of its group's. */
  readonly widths: readonly number[];
  /** Channels of a group; in a stage that is no wider, one group has them all. */
  readonly groupWidth: number;
  /** Channels between the layers of squeeze-and-excitation, as a share of the block's input. */
  readonly seRatio: number;
  /** Channels after the first convolution. */
  readonly stemWidth: number;
  /** The last norm of each block starts at 0, so that each block starts as the identity. */
  readonly zeroInitLast: boolean;
}

/** The settings that are not given. */
export const DEFAULTS: RegNetConfig = {
  imgSize: 224,
  inChans: 3,
  numClasses: 1000,
  depths: [1, 1, 4, 7],
  widths: [24, 56, 152, 368],
  groupWidth: 8,
  seRatio: 0.25,
  stemWidth: 32,
  zeroInitLast: true,
  dropRate: 0,
  dropPathRate: 0,
};

/** A line of widths: `w0 + wa j` for block j, quantised to powers of `wm`. The names are timm's. */
export interface WidthLine {
  readonly w0: number;
  readonly wa: number;
  readonly wm: number;
  readonly depth: number;
  readonly groupSize: number;
}

/**
 * The stages of a line of widths: block j has `u = w0 + wa j` channels, rounded to `w0 wm^round(log_wm(u / w0))` and then to
 * a multiple of 8; blocks of one width are a stage, whose width becomes a multiple of its group's.
 *
 * @example
 * regnetStages({ w0: 200, wa: 106.23, wm: 2.48, depth: 18, groupSize: 112 }).widths; // [224, 448, 1232, 3024]
 */
export function regnetStages(line: WidthLine): Pick<RegNetConfig, 'widths' | 'depths' | 'groupWidth'> {
  const { w0, wa, wm, depth, groupSize } = line;
  const counts = new Map<number, number>();
  for (let j = 0; j < depth; j++) {
    const exponent = roundEven(Math.log((w0 + wa * j) / w0) / Math.log(wm));
    const width = 8 * roundEven((w0 * wm ** exponent) / 8);
    counts.set(width, (counts.get(width) ?? 0) + 1);
  }
  const whole = (width: number): number => {
    const group = Math.min(groupSize, width);
    return roundEven(width / group) * group;
  };
  return { widths: [...counts.keys()].map(whole), depths: [...counts.values()], groupWidth: groupSize };
}

/** What a block of a RegNetY is made from. */
export interface RegNetBlockShape {
  readonly inChans: number;
  readonly outChans: number;
  readonly stride: number;
  /** Groups of the 3 x 3 convolution. */
  readonly groups: number;
  /** Channels between the layers of squeeze-and-excitation. */
  readonly squeezed: number;
}

function stagesOf({ depths, widths, groupWidth, seRatio, stemWidth }: RegNetConfig): RegNetBlockShape[][] {
  let inChans = stemWidth;
  return depths.map((depth, stage) =>
    Array.from({ length: depth }, (_, i) => {
      const outChans = widths[stage];
      const shape = {
        inChans,
        outChans,
        stride: i === 0 ? 2 : 1,
        groups: outChans / Math.min(groupWidth, outChans),
        squeezed: roundEven(inChans * seRatio),
      };
      inChans = outChans;
      return shape;
    }),
  );
}

const changesShape = ({ inChans, outChans, stride }: RegNetBlockShape): boolean =>
  stride !== 1 || inChans !== outChans;

/** A residual block: 1 x 1, grouped 3 x 3, squeeze-and-excitation, 1 x 1. */
export class RegNetBlock extends Module<[x: FloatTensor], FloatTensor> {
  readonly conv1: ConvNorm;
  readonly conv2: ConvNorm;
  readonly se: SqueezeExcite;
  readonly conv3: ConvNorm;
  readonly downsample: ConvNorm | undefined;
  readonly dropPath: DropPath;

  constructor(shape: RegNetBlockShape, dropPathRate: number) {
    super();
    const { inChans, outChans, stride, groups, squeezed } = shape;
    this.conv1 = new ConvNorm(inChans, outChans, 1);
    this.conv2 = new ConvNorm(outChans, outChans, 3, { stride, padding: 1, groups });
    this.se = new SqueezeExcite(outChans, squeezed);
    this.conv3 = new ConvNorm(outChans, outChans, 1);
    this.downsample = changesShape(shape) ? new ConvNorm(inChans, outChans, 1, { stride }) : undefined;
    this.dropPath = new DropPath(dropPathRate);
  }

  override forward(x: FloatTensor): FloatTensor {
    const residual = this.downsample === undefined ? x : this.downsample.call(x);
    let y = this.conv1.call(x, { activation: 'relu' });
    y = this.se.call(this.conv2.call(y, { activation: 'relu' }));
    if (!this.dropPath.active) return this.conv3.call(y, { residual, activation: 'relu' });
    return relu(this.dropPath.call(this.conv3.call(y)).add(residual));
  }
}

/** Blocks in a row: `b1`, `b2`, ... */
export class RegNetStage extends Module<[x: FloatTensor], FloatTensor> {
  readonly blocks: readonly RegNetBlock[];

  constructor(blocks: readonly RegNetBlock[]) {
    super();
    this.blocks = blocks;
  }

  override children(): [name: string, module: AnyModule][] {
    return this.blocks.map((block, i): [string, AnyModule] => [`b${i + 1}`, block]);
  }

  override forward(x: FloatTensor): FloatTensor {
    return this.blocks.reduce((y, block) => block.call(y), x);
  }
}

/** The mean of the map, dropout, and a linear layer to classes (left out where there are none). */
export class RegNetHead extends Module<[x: FloatTensor, preLogits?: boolean], FloatTensor> {
  readonly drop: Dropout;
  readonly fc: Linear | undefined;

  constructor(channels: number, { dropRate, numClasses }: RegNetConfig) {
    super();
    this.drop = new Dropout(dropRate);
    this.fc = numClasses > 0 ? new Linear(channels, numClasses) : undefined;
  }

  override forward(x: FloatTensor, preLogits = false): FloatTensor {
    const pooled = this.drop.call(adaptiveAvgPool2d(x, 1).flatten(1));
    return this.fc === undefined || preLogits ? pooled : this.fc.call(pooled);
  }
}

/**
 * A RegNetY.
 *
 * Shapes: images `[B, C, H, W]`, of any size, -> logits `[B, classes]`, or pooled features when `numClasses` is 0.
 *
 * @example
 * const teacher = createModel('regnety_160');
 * const logits = teacher.call(images);
 */
export class RegNet extends Module<[images: FloatTensor], FloatTensor> {
  readonly config: RegNetConfig;
  readonly stem: ConvNorm;
  /** `s1`, `s2`, ... */
  readonly stages: readonly RegNetStage[];
  readonly head: RegNetHead;

  /** @throws TensorError VALUE for settings that make no sense */
  constructor(options: Partial<RegNetConfig> = {}) {
    super();
    const config = completeConfig('RegNet', DEFAULTS, options);
    this.config = config;
    check(config);
    this.stem = new ConvNorm(config.inChans, config.stemWidth, 3, { stride: 2, padding: 1 });
    const stages = stagesOf(config);
    const rates = dropPathRates(config.dropPathRate, stages.flat().length);
    let index = 0;
    this.stages = stages.map(
      (shapes) => new RegNetStage(shapes.map((shape) => new RegNetBlock(shape, rates[index++]))),
    );
    this.head = new RegNetHead(config.widths[config.widths.length - 1], config);
    this.initWeights();
  }

  override children(): [name: string, module: AnyModule][] {
    const stages = this.stages.map((stage, i): [string, AnyModule] => [`s${i + 1}`, stage]);
    return [...super.children(), ...stages];
  }

  /** No parameter but the vectors, biases and norms, is spared weight decay. */
  get noWeightDecay(): readonly string[] {
    return [];
  }

  /** The layers: the first convolution, each block, the head. */
  get layerNames(): LayerNames {
    const blocks = this.config.depths.flatMap((depth, stage) =>
      Array.from({ length: depth }, (_, i) => [`s${stage + 1}.b${i + 1}`]),
    );
    return [['stem'], ...blocks, ['head']];
  }

  /** Convolutions are normal with variance 2 / (kh kw O / groups), the head with deviation 0.01. */
  private initWeights(): void {
    this.apply((module: AnyModule) => {
      if (module instanceof Conv2d) {
        const [out, , height, width] = module.weight.shape;
        const fanOut = (height * width * out) / (module.window.groups ?? 1);
        initNormal(module.weight, Math.sqrt(2 / fanOut));
        if (module.bias !== undefined) initConstant(module.bias, 0);
      } else if (module instanceof Linear) {
        initNormal(module.weight, 0.01);
        if (module.bias !== undefined) initConstant(module.bias, 0);
      } else if (module instanceof RegNetBlock && this.config.zeroInitLast) {
        initConstant(module.conv3.bn.weight, 0);
      }
    });
  }

  /** The map after the last stage, `[B, C, h, w]`. */
  forwardFeatures(images: FloatTensor): FloatTensor {
    let x = this.stem.call(images, { activation: 'relu' });
    for (const stage of this.stages) x = stage.call(x);
    return x;
  }

  /** From the map to logits, or with `preLogits` to pooled features `[B, C]`. */
  forwardHead(features: FloatTensor, options: HeadOptions = {}): FloatTensor {
    return this.head.call(features, isPreLogits(options));
  }

  override forward(images: FloatTensor): FloatTensor {
    return this.forwardHead(this.forwardFeatures(images));
  }
}

/** Image size, parameters and multiply-accumulates of a RegNetY, from its settings alone. */
export function countRegNet(options: Partial<RegNetConfig>): ModelCount {
  const config: RegNetConfig = { ...DEFAULTS, ...options };
  const imgSize = pairOf('RegNet', 'imgSize', config.imgSize);
  const counter = new ConvCounter(imgSize);
  counter.conv(config.inChans, config.stemWidth, { kernel: 3, stride: 2 });
  for (const shape of stagesOf(config).flat()) {
    const { inChans, outChans, stride, groups, squeezed } = shape;
    if (changesShape(shape)) counter.aside(() => counter.conv(inChans, outChans, { kernel: 1, stride }));
    counter.conv(inChans, outChans, { kernel: 1 });
    counter.conv(outChans, outChans, { kernel: 3, stride, groups });
    counter.aside(() => {
      counter.map = [1, 1];
      counter.conv(outChans, squeezed, { kernel: 1, bias: true, norm: false });
      counter.conv(squeezed, outChans, { kernel: 1, bias: true, norm: false });
    });
    counter.conv(outChans, outChans, { kernel: 1 });
  }
  counter.head(config.widths[config.widths.length - 1], config.numClasses);
  return { imgSize, parameters: counter.parameters, macs: counter.macs };
}

function check(config: RegNetConfig): void {
  const { depths, widths, groupWidth } = config;
  checkCounts('RegNet', {
    inChans: [config.inChans, 1],
    numClasses: [config.numClasses, 0],
    stemWidth: [config.stemWidth, 1],
    groupWidth: [groupWidth, 1],
    'the number of stages': [depths.length, 1],
    ...Object.fromEntries(depths.map((depth, i) => [`depths[${i}]`, [depth, 1] as const])),
  });
  if (widths.length !== depths.length) {
    fail('RegNet', 'VALUE', `expected widths for ${depths.length} stages, got ${widths.length}`);
  }
  for (const width of widths) {
    if (!(width > 0) || width % Math.min(groupWidth, width) !== 0) {
      fail('RegNet', 'VALUE', `expected widths that groups of ${groupWidth} divide, got ${width}`);
    }
  }
}
