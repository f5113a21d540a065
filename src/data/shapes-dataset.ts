/**
 * The built-in `shapes` as a data set: drawn when read, nothing is stored.
 */
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

/** Training and validation pictures. */
export function shapesData(
  options: {
    readonly size?: number;
    readonly seed?: number;
    readonly train?: number;
    readonly val?: number;
  } = {},
): { train: ShapesSpec; val: ShapesSpec } {
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
