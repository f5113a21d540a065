import type { Pair } from '../ops/operand.js';
import {
  AVG_OPTIONS,
  type AvgPoolOptions,
  MAX_OPTIONS,
  type MaxPoolOptions,
  adaptiveAvgPool2d,
  avgPool2d,
  maxPool2d,
} from '../ops/pool2d.js';
import { expectOptions } from '../tensor/arguments.js';
import { type FloatTensor, Module } from './module.js';

/** The largest element under each window: `maxPool2d` as a layer. */
export class MaxPool2d extends Module<[x: FloatTensor], FloatTensor> {
  readonly kernel: Pair;
  readonly options: MaxPoolOptions;

  constructor(kernel: Pair, options: MaxPoolOptions = {}) {
    super();
    expectOptions('MaxPool2d', options, MAX_OPTIONS);
    this.kernel = kernel;
    this.options = options;
  }

  override forward(x: FloatTensor): FloatTensor {
    return maxPool2d(x, this.kernel, this.options);
  }
}

/** The mean under each window: `avgPool2d` as a layer. */
export class AvgPool2d extends Module<[x: FloatTensor], FloatTensor> {
  readonly kernel: Pair;
  readonly options: AvgPoolOptions;

  constructor(kernel: Pair, options: AvgPoolOptions = {}) {
    super();
    expectOptions('AvgPool2d', options, AVG_OPTIONS);
    this.kernel = kernel;
    this.options = options;
  }

  override forward(x: FloatTensor): FloatTensor {
    return avgPool2d(x, this.kernel, this.options);
  }
}

/** Averages an image to a given size: `adaptiveAvgPool2d` as a layer. */
export class AdaptiveAvgPool2d extends Module<[x: FloatTensor], FloatTensor> {
  readonly size: Pair;

  constructor(size: Pair) {
    super();
    this.size = size;
  }

  override forward(x: FloatTensor): FloatTensor {
    return adaptiveAvgPool2d(x, this.size);
  }
}
