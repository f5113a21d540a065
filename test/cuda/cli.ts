/**
 * The command line on an emulated GPU: what it trains, evaluates and predicts there is what the CPU gives.
 */
import '../helpers/emulated-cuda.js';

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import test from 'ava';

import { devices } from '../../src/index.js';
import { relativeError } from '../helpers/golden.js';
import { TINY_FLAGS, cliHere, oneSentence, temporaryFolder, tinyPhotos } from '../helpers/training.js';

test.serial('train, eval and predict give on cuda what they give on the CPU', async (t) => {
  const folder = await temporaryFolder(t);
  await tinyPhotos(join(folder, 'photos'));
  const run = async (...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await cliHere(folder, args);
    t.is(code, 0, stderr);
    return stdout;
  };
  const found: Record<string, number[]> = {};
  for (const device of ['cpu', 'cuda']) {
    const options = ['--seed', '3', '--device', device, '--name', device, ...TINY_FLAGS, '--epochs', '1'];
    await run('train', 'photos', '--lr', '1e-2', ...options);
    const metrics = JSON.parse(await readFile(join(folder, `runs/${device}/metrics.jsonl`), 'utf8')) as {
      trainLoss: number;
      valLoss: number;
    };
    found[device] = [metrics.trainLoss, metrics.valLoss];
    // What was trained on one device runs on the other.
    const other = device === 'cpu' ? 'cuda' : 'cpu';
    const trained = ['--checkpoint', `runs/${device}`, '--json', '--device', other];
    const { loss } = JSON.parse(await run('eval', 'photos', '-j', '0', ...trained)) as { loss: number };
    const [{ top }] = JSON.parse(await run('predict', 'photos/red/0.jpg', ...trained)) as {
      top: { probability: number }[];
    }[];
    found[device].push(loss, ...top.map(({ probability }) => probability));
  }
  t.true(relativeError(found['cuda'], found['cpu']) < 1e-4, JSON.stringify(found));
  oneSentence(
    t,
    await cliHere(folder, ['train', 'photos', '--device', 'cuda:99', ...TINY_FLAGS]),
    new RegExp(`expected one of ${devices().join(', ')}, got 'cuda:99'`),
  );
});
