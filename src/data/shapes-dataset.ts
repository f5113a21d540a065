/**
 * The built-in `shapes` as a data set: drawn when read, nothing is stored.
 */
import { type OptionNames, expectOptions } from '../tensor/options.js';
import type { Dataset } from './dataset.js';
import { checkIndex } from './labels.js';
import { SHAPE_CLASSES, drawShape } from './shapes.js';

/** Pictures of `shapes` as a data set: which ones, and how large. */
export interface ShapesSpec {
  readonly kind: 'shapes';
  /** The first picture; parts that must not share pictures begin at different ones. */
  readonly first: number;
  readonly length: number;
  /** Pixels of a side. */
  readonly size: number;
  readonly seed: number;
}

/** Where validation begins: far beyond any training set. */
const VAL_FIRST = 1_000_000_000;

/** How many pictures of `shapes`, how large, and which. */
export interface ShapesOptions {
  /** Pixels of a side. Default 32. */
  readonly size?: number;
  /** Default 0. */
  readonly seed?: number;
  /** Training pictures. Default 20000. */
  readonly train?: number;
  /** Validation pictures. Default 2000. */
  readonly val?: number;
}

const OPTIONS = { size: true, seed: true, train: true, val: true } satisfies OptionNames<ShapesOptions>;

/** Training and validation pictures. */
export function shapesData(options: ShapesOptions = {}): { train: ShapesSpec; val: ShapesSpec } {
  expectOptions('shapesData', options, OPTIONS);
  const { size = 32, seed = 0, train = 20_000, val = 2000 } = options;
  const common = { kind: 'shapes', size, seed } as const;
  return {
    train: { ...common, first: 0, length: train },
    val: { ...common, first: VAL_FIRST, length: val },
  };
}

/** @internal */
export function openShapes(spec: ShapesSpec): Promise<Dataset> {
  const { first, length, size, seed } = spec;
  return Promise.resolve({
    name: 'shapes',
    classes: SHAPE_CLASSES,
    length,
    spec,
    label: (index) => (first + index) % SHAPE_CLASSES.length,
    where: (index) => `shapes: picture ${index}`,
    read(index) {
      checkIndex('shapes', index, length);
      return Promise.resolve(drawShape(seed, first + index, size).image);
    },
    close: () => Promise.resolve(),
  });
}
