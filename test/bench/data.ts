/**
 * The `data` suite: its photographs, and Tenon's loader of them.
 */
import test from 'ava';
import sharp from 'sharp';

import { makePhotograph, writePhotographs } from '../../bench/photographs.js';
import { prepareLoader } from '../../bench/tenon-data.js';
import { temporaryFolder } from '../helpers/training.js';

test('a photograph is the same each time, and as large as one', async (t) => {
  const files = await Promise.all([0, 1, 2, 1].map(makePhotograph));
  t.deepEqual(files[1], files[3]);
  t.notDeepEqual(files[0], files[1]);
  for (const file of files) t.true(file.length > 40_000 && file.length < 80_000, `${file.length} bytes`);
  const { format, width, height, chromaSubsampling } = await sharp(files[0]).metadata();
  t.deepEqual([format, width, height, chromaSubsampling], ['jpeg', 500, 375, '4:2:0']);
});

test('a run is an epoch with the batches of each worker, and another can follow', async (t) => {
  const photographs = await temporaryFolder(t);
  await writePhotographs(photographs, 3);
  for (const transform of ['crop', 'augment', 'center', 'cifar'] as const) {
    const task = { kind: 'load', transform, batch: 4, batchesPerWorker: 3 } as const;
    const loader = await prepareLoader(transform === 'cifar' ? task : { ...task, photographs }, 2);
    t.is(loader.portion, 6);
    t.is(await loader.run(), 24, transform);
    t.is(await loader.run(), 24);
    await loader.dispose?.();
  }
});
