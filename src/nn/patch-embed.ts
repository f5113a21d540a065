import { linear } from '../ops/linear.js';
import { uniform } from '../ops/random.js';
import { type OptionNames, expectOptions, expectTensors } from '../tensor/arguments.js';
import { fail } from '../tensor/error.js';
import { LayerNorm } from './layer-norm.js';
import { type FloatTensor, Module, parameter } from './module.js';

/** A convolution whose stride is its kernel: a linear layer on patches. */
export class PatchProjection extends Module<[patches: FloatTensor], FloatTensor> {
  /** `[D, C, P, P]` */
  readonly weight: FloatTensor;
  /** `[D]` */
  readonly bias: FloatTensor | undefined;

  constructor(inChans: number, embedDim: number, patch: number, bias: boolean) {
    super();
    const bound = 1 / Math.sqrt(inChans * patch * patch);
    this.weight = parameter(uniform([embedDim, inChans, patch, patch], { low: -bound, high: bound }));
    this.bias = bias ? parameter(uniform([embedDim], { low: -bound, high: bound })) : undefined;
  }

  override forward(patches: FloatTensor): FloatTensor {
    return linear(patches, this.weight.reshape([this.weight.shape[0], -1]), this.bias);
  }
}

/** Sizes of the patches and of their embedding. */
export interface PatchEmbedOptions {
  readonly patchSize: number;
  readonly inChans: number;
  readonly embedDim: number;
  /** Default true. */
  readonly bias?: boolean;
  /** Normalise the tokens, with this eps. Default: no norm. */
  readonly normEps?: number | undefined;
}

const OPTIONS = {
  patchSize: true,
  inChans: true,
  embedDim: true,
  bias: true,
  normEps: true,
} satisfies OptionNames<PatchEmbedOptions>;

/**
 * Cuts images into square patches and projects each to a token.
 *
 * Shapes: images `[B, C, H, W]`, H and W multiples of the patch -> `[B, H / P * W / P, D]`, row by row. A patch's
 * features are ordered (channel, y, x), so that the weight is that of a convolution `[D, C, P, P]`.
 */
export class PatchEmbed extends Module<[images: FloatTensor], FloatTensor> {
  readonly proj: PatchProjection;
  readonly norm: LayerNorm | undefined;
  readonly patchSize: number;
  readonly inChans: number;

  constructor(options: PatchEmbedOptions) {
    super();
    expectOptions('PatchEmbed', options, OPTIONS);
    this.patchSize = options.patchSize;
    this.inChans = options.inChans;
    this.proj = new PatchProjection(
      options.inChans,
      options.embedDim,
      options.patchSize,
      options.bias ?? true,
    );
    const { normEps: eps } = options;
    this.norm = eps === undefined ? undefined : new LayerNorm(options.embedDim, { eps });
  }

  override forward(images: FloatTensor): FloatTensor {
    expectTensors('PatchEmbed', images);
    const p = this.patchSize;
    const [batch, channels, height, width] = images.shape;
    if (images.ndim !== 4 || channels !== this.inChans || height % p !== 0 || width % p !== 0) {
      fail(
        'PatchEmbed',
        'SHAPE',
        `expected images [B, ${this.inChans}, H, W] with H and W multiples of ${p}, got [${images.shape.join(', ')}]`,
      );
    }
    const rows = height / p;
    const columns = width / p;
    const patches = images
      .reshape([batch, channels, rows, p, columns, p])
      .permute([0, 2, 4, 1, 3, 5])
      .reshape([batch, rows * columns, channels * p * p]);
    const tokens = this.proj.call(patches);
    return this.norm === undefined ? tokens : this.norm.call(tokens);
  }
}
