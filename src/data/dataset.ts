/**
 * Sets of labelled images: what they have in common, and how a worker thread opens one again.
 */
import { fail } from '../tensor/error.js';
import { type KindNames, expectKind } from '../tensor/options.js';
import { type CifarSpec, openCifar } from './cifar.js';
import { type FolderSpec, openFolder } from './folder.js';
import type { Image } from './image.js';
import { MEMORY_DATA, type MemorySpec, openMemory } from './memory.js';
import { type ModuleSpec, openModule } from './module.js';
import { type ShapesSpec, openShapes } from './shapes-dataset.js';
import { type DatasetSource, openSource } from './source.js';
import { type SubsetSpec, openSubset } from './subset.js';
import { type TarSpec, openTar } from './tar.js';

/**
 * What a data set is, as plain data: worker threads open the same set from it. Large parts lie in shared memory.
 */
export type DatasetSpec =
  FolderSpec | TarSpec | CifarSpec | MemorySpec | ShapesSpec | SubsetSpec | ModuleSpec;

const SPECS = {
  folder: { kind: true, path: true, classes: true, files: true, labels: true },
  tar: {
    kind: true,
    shards: true,
    classes: true,
    names: true,
    shard: true,
    offset: true,
    size: true,
    labels: true,
  },
  cifar: { kind: true, path: true, classes: true, planes: true, labels: true },
  memory: { kind: true, ...MEMORY_DATA },
  shapes: { kind: true, first: true, length: true, size: true, seed: true },
  module: { kind: true, url: true, name: true, args: true },
  subset: { kind: true, of: true, indices: true },
} satisfies KindNames<DatasetSpec>;

/** A set of labelled images. */
export interface Dataset {
  /** For messages. */
  readonly name: string;
  readonly classes: readonly string[];
  readonly length: number;
  /** What threads open the same set from. Without it images are decoded on the calling thread. */
  readonly spec?: DatasetSpec | undefined;
  /** The class of an image. */
  label(index: number): number;
  /** Where an image is, for messages. */
  where(index: number): string;
  /** @throws TensorError IO when the image is damaged */
  read(index: number): Promise<Image>;
  /** Lets go of open files. */
  close(): Promise<void>;
}

/**
 * Opens a data set: of a specification, as `findData`, `memoryData` or `moduleData` make them, or of images of your own.
 *
 * @throws TensorError IO when it is empty or its files cannot be read; VALUE for images of your own with a label that is no
 *   class
 * @example
 * const { train } = await findData('photos');
 * const dataset = await openDataset(train);
 */
export async function openDataset(data: DatasetSpec | DatasetSource): Promise<Dataset> {
  const dataset = 'kind' in data ? await open(data) : openSource(data);
  if (dataset.length === 0) fail('openDataset', 'IO', `expected images in ${dataset.name}, found none`);
  return dataset;
}

async function open(spec: DatasetSpec): Promise<Dataset> {
  expectKind('openDataset', spec, SPECS);
  switch (spec.kind) {
    case 'folder':
      return openFolder(spec);
    case 'tar':
      return openTar(spec);
    case 'cifar':
      return openCifar(spec);
    case 'memory':
      return openMemory(spec);
    case 'shapes':
      return openShapes(spec);
    case 'module':
      return openModule(spec);
    case 'subset':
      return openSubset(spec, await open(spec.of));
  }
}
