/**
 * What the models of one architecture have in common: how they are made and counted, and what they are called. The
 * registry joins the families; training, files and the command line know models by these interfaces alone.
 */
import type { FloatTensor, Module } from '../nn/index.js';
import { type OptionNames, expectOptions } from '../tensor/arguments.js';
import { fail } from '../tensor/error.js';
import type { Preprocessing } from './input.js';
import type { Layout } from './layouts/layout.js';
import type { ImageSize } from './position.js';

/** The settings that every family has. The names are timm's. */
export interface ModelConfig {
  /** Pixels of the images: one number for a square, or [height, width]. */
  readonly imgSize: ImageSize;
  readonly inChans: number;
  /** Classes; 0 for no head: the model returns pooled features. */
  readonly numClasses: number;
  /** Dropout before the head. */
  readonly dropRate: number;
  /** Stochastic depth of the last block; it grows linearly from 0. */
  readonly dropPathRate: number;
}

/**
 * The layers of a model, from the images to the classes, each by the names of its parameters and modules in the state dict;
 * what is below a module belongs to it, and no name is in two layers. The first holds all that comes before the blocks, the
 * last names what ends in classes. What no layer names, such as the norm before the head, counts to the last one too.
 */
export type LayerNames = readonly (readonly string[])[];

/** A model of any family: from images `[B, C, H, W]` to logits `[B, classes]`. */
export interface Model extends Module<[images: FloatTensor], FloatTensor> {
  readonly config: ModelConfig;
  /** Names of the parameters that no weight decay touches, besides vectors. */
  readonly noWeightDecay: readonly string[];
  /** Its layers in order: what a layer-wise learning rate goes by. */
  readonly layerNames: LayerNames;
  /** What the head sees: tokens `[B, N, D]`, or a map; each family says its own. */
  forwardFeatures(images: FloatTensor): FloatTensor;
  /** From that to logits `[B, classes]`, or with `preLogits` to pooled features `[B, D]`, to compare images by. */
  forwardHead(features: FloatTensor, options?: HeadOptions): FloatTensor;
}

/** What `forwardHead` of a model gives. */
export interface HeadOptions {
  /** Pooled features in place of logits. Default false. */
  readonly preLogits?: boolean;
}

const HEAD_OPTIONS = { preLogits: true } satisfies OptionNames<HeadOptions>;

/** A model in numbers, from its settings alone. */
export interface ModelCount {
  /** Pixels. */
  readonly imgSize: readonly [height: number, width: number];
  readonly parameters: number;
  /** Multiply-accumulates for one image: the matrix products and convolutions. */
  readonly macs: number;
}

/** A family of models. Its name begins the name of each of its models, and of no other family's. */
export interface Family<
  Config extends ModelConfig = ModelConfig,
  M extends Model = Model,
  Name extends string = string,
> {
  /** Makes a model with random weights; settings left out have the family's defaults. @throws TensorError VALUE */
  create(options: Partial<Config>): M;
  /** Counts a model without making it. */
  count(options: Partial<Config>): ModelCount;
  /** Every setting, as it is where it is not given. */
  readonly defaults: Config;
  /** The modules that end in classes, by their names in the state dict. */
  readonly classifiers: readonly string[];
  /**
   * A checkpoint's tensor in the shape that the model has: position tables, for another grid; undefined for others.
   * `from` holds the settings that the checkpoint was made with.
   */
  resize?(name: string, value: FloatTensor, model: M, from: Partial<Config>): FloatTensor | undefined;
  /** What its tensors are called elsewhere. */
  readonly layouts?: readonly Layout[];
  /** What the published models' images went through, as timm has it. Default: ImageNet's mean and deviation. */
  readonly input?: Preprocessing;
  /** The named models: the settings of each that differ from the defaults. */
  readonly entries: Readonly<Record<Name, Partial<Config>>>;
}

/** A family whose type has the names of its entries. */
export function family<Config extends ModelConfig, M extends Model, Name extends string>(
  of: Family<Config, M, Name>,
): Family<Config, M, Name> {
  return of;
}

/** Entries from pairs of a name and its settings. */
export function entriesOf<Name extends string, Config>(
  pairs: readonly (readonly [name: Name, config: Config])[],
): Record<Name, Config> {
  return Object.fromEntries(pairs) as Record<Name, Config>;
}

/** Settings with their defaults filled in. @throws TensorError VALUE for a name that the defaults lack */
export function completeConfig<Config extends object>(
  op: string,
  defaults: Config,
  options: Partial<Config>,
): Config {
  const stranger = Object.keys(options).find((key) => !(key in defaults));
  if (stranger !== undefined) {
    fail(op, 'VALUE', `expected settings among ${Object.keys(defaults).join(', ')}, got '${stranger}'`);
  }
  return { ...defaults, ...options };
}

/** Whether `forwardHead` is to give pooled features. @throws TensorError VALUE for what are no options of it */
export function isPreLogits(options: HeadOptions): boolean {
  expectOptions('forwardHead', options, HEAD_OPTIONS);
  return options.preLogits === true;
}

/** Settings that count something, each with the least that it may be. @throws TensorError VALUE for another */
export function checkCounts(
  op: string,
  counts: Readonly<Record<string, readonly [value: number, least: number]>>,
): void {
  for (const [name, [value, least]] of Object.entries(counts)) {
    if (!Number.isInteger(value) || value < least) {
      fail(op, 'VALUE', `expected ${name} to be a whole number of at least ${least}, got ${value}`);
    }
  }
}

/** The stochastic depth of each block of a model: it grows linearly from 0 to that of the last. */
export function dropPathRates(last: number, blocks: number): number[] {
  return Array.from({ length: blocks }, (_, i) => (blocks > 1 ? (last * i) / (blocks - 1) : 0));
}
