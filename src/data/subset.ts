/**
 * Some images of a data set, as a data set of its own.
 */
import type { Dataset, DatasetSpec } from './dataset.js';
import { checkIndex, sharedInt32 } from './labels.js';

/** A data set and the images of it that count, by their index there. */
export interface SubsetSpec {
  readonly kind: 'subset';
  readonly of: DatasetSpec;
  readonly indices: Int32Array;
}

/**
 * Some images of a data set, in the order of `indices`; its classes stay. `openDataset` of it throws TensorError INDEX
 * where an index is none of the data set's.
 *
 * @example
 * const { train } = await findData('photos');
 * const few = await openDataset(subsetData(train, [0, 7, 42]));
 */
export function subsetData(of: DatasetSpec, indices: readonly number[] | Int32Array): SubsetSpec {
  return { kind: 'subset', of, indices: sharedInt32(indices) };
}

/** @internal */
export function openSubset(spec: SubsetSpec, whole: Dataset): Dataset {
  const { indices } = spec;
  for (const index of indices) checkIndex(whole.name, index, whole.length);
  const name = `${indices.length} images of ${whole.name}`;
  const indexOf = (index: number): number => {
    checkIndex(name, index, indices.length);
    return indices[index];
  };
  return {
    name,
    classes: whole.classes,
    length: indices.length,
    spec,
    label: (index) => whole.label(indexOf(index)),
    where: (index) => whole.where(indexOf(index)),
    read: async (index) => whole.read(indexOf(index)),
    close: () => whole.close(),
  };
}
