/**
 * The programs of the guide to ONNX, run as they stand there.
 */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

import test from 'ava';

import { loadPretrained, predict, saveModel } from '../../src/index.js';
import { flat, toSharp } from '../helpers/images.js';
import { TINY_INFO, cliHere, temporaryFolder, tinyModel } from '../helpers/training.js';

const guide = readFileSync(new URL('../../../docs/guides/onnx.md', import.meta.url), 'utf8'); // from dist/test/docs/
const programs = [...guide.matchAll(/```(?:ts|js)\n(.*?)```/gs)].map(([, code]) => code);

test.serial('the programs of the guide export a model, and run it without Tenon', async (t) => {
  const [exporting, running, inBrowser, own] = programs;
  t.true(programs.length === 4 && inBrowser.includes('OffscreenCanvas'));
  const folder = await temporaryFolder(t);
  await mkdir(join(folder, 'runs/photos/checkpoints'), { recursive: true });
  await mkdir(join(folder, 'photos/red'), { recursive: true });
  using model = tinyModel();
  const checkpoint = join(folder, 'runs/photos/checkpoints/best.safetensors');
  await saveModel(checkpoint, model.stateDict(), TINY_INFO);
  await toSharp(flat(20, 30, [200, 20, 20])).toFile(join(folder, 'photos/red/0.jpg'));

  const packages = {
    tenon: new URL('../../src/index.js', import.meta.url).href,
    'onnxruntime-web': import.meta.resolve('onnxruntime-web'),
    sharp: import.meta.resolve('sharp'),
  };
  const run = async (name: string, code: string): Promise<string> => {
    const resolved = Object.entries(packages).reduce(
      (text, [one, place]) => text.replace(`from '${one}'`, `from '${place}'`),
      code,
    );
    await writeFile(join(folder, name), resolved);
    return (await promisify(execFile)(process.execPath, [name], { cwd: folder })).stdout;
  };
  t.is(await run('export.mjs', exporting), "[ 'batch', 3, 8, 8 ] logits\n");
  t.is(await run('own.mjs', own), '');
  const { stdout } = await cliHere(folder, ['export', 'runs/photos', 'photos.onnx', '--json']);
  await writeFile(join(folder, 'photos.json'), stdout);

  const { model: loaded, info } = await loadPretrained(join(folder, 'runs/photos'));
  using kept = loaded;
  const [result] = await predict(kept, info, [join(folder, 'photos/red/0.jpg')]);
  if (!('top' in result)) return void t.fail(result.error);
  // A picture of one colour is the same after any filter, but for what JPEG makes of it.
  const [label, probability] = (await run('run.mjs', running)).trim().split(' ');
  t.is(label, result.top[0].label);
  t.true(Math.abs(Number(probability) - result.top[0].probability) < 0.005, `${probability}`);
});
