/**
 * The programs of the guide to shipping, run as they stand there.
 */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

import test from 'ava';
import sharp from 'sharp';

import { saveModel } from '../../src/index.js';
import { flat, toSharp } from '../helpers/images.js';
import { temporaryFolder, tinyModel } from '../helpers/training.js';

const guide = readFileSync(new URL('../../../docs/guides/shipping.md', import.meta.url), 'utf8'); // from dist/test/docs/
const programs = [...guide.matchAll(/```ts\n(.*?)```/gs)].map(([, code]) => code);

test('the programs of the guide run, and say what a model thinks', async (t) => {
  t.is(programs.length, 2);
  const folder = await temporaryFolder(t);
  await mkdir(join(folder, 'runs/photos/checkpoints'), { recursive: true });
  await mkdir(join(folder, 'photos/red'), { recursive: true });
  const options = { imgSize: 8, patchSize: 4, embedDim: 16, depth: 1, numHeads: 2, numClasses: 3 };
  const half = [0.5, 0.5, 0.5];
  const model = tinyModel();
  await saveModel(join(folder, 'runs/photos/checkpoints/best.safetensors'), model.stateDict(), {
    name: 'vit_micro_patch4_32',
    options,
    classes: ['blue', 'green', 'red'],
    input: { size: [8, 8], mean: half, std: half, interpolation: 'bicubic', cropPct: 1 },
  });
  model.dispose();
  await toSharp(flat(8, 8, [200, 20, 20])).toFile(join(folder, 'photos/red/0.jpg'));

  const index = new URL('../../src/index.js', import.meta.url).href;
  const run = async (name: string, code: string): Promise<string> => {
    await writeFile(join(folder, name), code.replace("from 'tenon'", `from '${index}'`));
    return (await promisify(execFile)(process.execPath, [name], { cwd: folder })).stdout;
  };
  const predicted = (await run('predict.mjs', programs[0])).trim().split('\n');
  const rows = predicted.map((line) => /^(blue|green|red) (0\.\d{3})$/.exec(line));
  t.deepEqual(rows.map((row) => row?.[1]).sort(), ['blue', 'green', 'red']);
  t.true(Math.abs(rows.reduce((sum, row) => sum + Number(row?.[2]), 0) - 1) < 2e-3);

  const explained = /^(\w+) (0\.\d+)\n$/.exec(await run('explain.mjs', programs[1]));
  t.is(explained?.[1], rows[0]?.[1]);
  t.true(Math.abs(Number(explained?.[2]) - Number(rows[0]?.[2])) < 1e-3);
  const { format, width, height } = await sharp(await readFile(join(folder, 'seen.png'))).metadata();
  t.deepEqual([format, width, height], ['png', 224, 224]);
});
