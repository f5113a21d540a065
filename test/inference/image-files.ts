/**
 * Files that are read in threads, a batch ahead: the same answers in the same order, whoever read them.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import test from 'ava';

import { type ModelInfo, explainFiles, predict } from '../../src/index.js';
import { flat, toSharp } from '../helpers/images.js';
import { TINY_INFO, temporaryFolder, tinyModel } from '../helpers/training.js';

const info: ModelInfo = TINY_INFO;

/** Nine files: seven images of other colours, one of them named twice, and one that is no image. */
async function someFiles(folder: string): Promise<string[]> {
  const files = Array.from({ length: 7 }, (_, i) => join(folder, `${i}.png`));
  for (const [i, file] of files.entries()) {
    await toSharp(flat(9 + i, 30 - i, [(i * 37) % 256, (i * 91) % 256, (i * 53) % 256])).toFile(file);
  }
  const broken = join(folder, 'broken.png');
  await writeFile(broken, 'no image');
  return [...files.slice(0, 2), broken, ...files.slice(2), files[0]];
}

test('predict gives the same to the last bit with any number of threads', async (t) => {
  const model = tinyModel();
  const files = await someFiles(await temporaryFolder(t));
  const alone = await predict(model, info, files, { batchSize: 3, workers: 0 });
  t.deepEqual(
    alone.map(({ path }) => path),
    files,
  );
  t.deepEqual(alone.map((result) => 'error' in result), [false, false, true, ...Array<boolean>(6).fill(false)]); // prettier-ignore
  t.regex('error' in alone[2] ? alone[2].error : '', /^decodeImage: expected .* in .*broken\.png, got /);
  t.is(new Set(alone.map((result) => ('top' in result ? result.top[0].probability : 0))).size, 8);
  for (const workers of [1, 3])
    t.deepEqual(await predict(model, info, files, { batchSize: 3, workers }), alone);
  t.deepEqual(await predict(model, info, []), []);
  model.dispose();
});

test('files are explained in their order; who has seen enough lets the threads go', async (t) => {
  const model = tinyModel();
  const files = await someFiles(await temporaryFolder(t));
  const seen: string[] = [];
  for await (const one of explainFiles(model, info, files, { batchSize: 2, workers: 2 })) {
    seen.push('error' in one ? `${one.path}: broken` : one.path);
    if (seen.length === 5) break;
  }
  t.deepEqual(
    seen,
    files.slice(0, 5).map((path) => (path.endsWith('broken.png') ? `${path}: broken` : path)),
  );
  model.dispose();
});

test('options that make no sense are refused', async (t) => {
  const model = tinyModel();
  for (const [options, message] of [
    [{ batchSize: 0 }, 'predict: expected batchSize to be a whole number of at least 1, got 0'],
    [{ workers: -1 }, 'predict: expected workers to be a whole number of at least 0, got -1'],
    [{ topk: 1.5 }, 'predict: expected topk to be a whole number of at least 1, got 1.5'],
  ] as const) {
    await t.throwsAsync(predict(model, info, ['a.png'], options), { code: 'VALUE', message } as object);
  }
  model.dispose();
});
