/**
 * Tenon's loader, as a user writes it: `load` in tasks.ts.
 */
import {
  DataLoader,
  type DatasetSpec,
  IMAGENET_MEAN,
  IMAGENET_STD,
  type Transform,
  type TransformStep,
  listFolder,
  memoryData,
  openDataset,
  parseAugment,
  scope,
  subsetData,
  tensor,
} from '../src/index.js';
import type { Prepared } from './system.js';
import type { TaskOf } from './tasks.js';

const FLIP: TransformStep = { kind: 'horizontalFlip', p: 0.5 };
const CROP: TransformStep = { kind: 'randomResizedCrop', size: 224, mode: 'bicubic' };
const AUGMENT: TransformStep = {
  kind: 'augment',
  policy: parseAugment('rand-m9-mstd0.5-inc1'),
  mode: 'bicubic',
  fill: [124, 116, 104],
};

const transform = (size: number, ...steps: readonly TransformStep[]): Transform => ({
  steps,
  size: [size, size],
  mean: IMAGENET_MEAN,
  std: IMAGENET_STD,
});

const TRANSFORMS: Readonly<Record<TaskOf<'load'>['transform'], Transform>> = {
  crop: transform(224, CROP, FLIP),
  augment: { ...transform(224, CROP, FLIP, AUGMENT), erasing: { p: 0.25, mode: 'pixel' } },
  center: transform(224, { kind: 'resize', size: 256, mode: 'bicubic' }, { kind: 'centerCrop', size: 224 }),
  cifar: transform(32, { kind: 'randomCrop', size: 32, padding: 4 }, FLIP),
};

/** So many images of 32 x 32 pixels in memory, or the photographs again and again. */
async function images({ photographs }: TaskOf<'load'>, count: number): Promise<DatasetSpec> {
  if (photographs === undefined) {
    const pixels = Uint8Array.from({ length: count * 32 * 32 * 3 }, () => 256 * Math.random());
    const labels = Array.from({ length: count }, (_, i) => i % 2);
    return memoryData({ classes: ['a', 'b'], pixels, height: 32, width: 32, labels });
  }
  const folder = await listFolder(photographs);
  const indices = Int32Array.from({ length: count }, (_, i) => i % folder.files.length);
  return subsetData(folder, indices);
}

/** An epoch in which each worker makes the task's batches. */
export async function prepareLoader(task: TaskOf<'load'>, workers: number): Promise<Prepared> {
  const batches = task.batchesPerWorker * workers;
  const dataset = await openDataset(await images(task, batches * task.batch));
  const loader = new DataLoader(dataset, {
    batchSize: task.batch,
    transform: TRANSFORMS[task.transform],
    shuffle: true,
    workers,
  });
  let epoch = 0;
  return {
    async run() {
      let count = 0;
      for await (const { images, size, shape, release } of loader.epoch(epoch++)) {
        scope(() => void tensor(images, { shape: [size, ...shape] }));
        release();
        count += size;
      }
      return count;
    },
    portion: batches,
    dispose: () => loader.close(),
  };
}
