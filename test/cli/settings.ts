/**
 * Flags of settings: what a command line says, beside files and recipes.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import test from 'ava';
import { Command } from 'commander';

import { addSettings, settingsOf } from '../../src/cli/settings.js';
import { SETTINGS } from '../../src/train/index.js';
import { cli } from '../helpers/training.js';

function parsed(...flags: string[]): unknown {
  const command = new Command();
  addSettings(command);
  return settingsOf(command.parse(flags, { from: 'user' }).opts());
}

/** Those that are on or off. */
const switches = Object.entries(SETTINGS).filter(([, { flag }]) => !flag.includes('<'));

test('a flag without an argument has an opposite, and the last of the two counts', (t) => {
  t.deepEqual(parsed(), {});
  t.true(switches.length >= 4);
  for (const [key, { flag }] of switches) {
    const opposite = flag.startsWith('--no-') ? flag.replace('--no-', '--') : flag.replace('--', '--no-');
    t.deepEqual(parsed(flag), { [key]: true });
    t.deepEqual(parsed(opposite), { [key]: false });
    t.deepEqual(parsed(flag, opposite), { [key]: false });
    t.deepEqual(parsed(opposite, flag), { [key]: true });
  }
  t.deepEqual(parsed('--no-aug', '--no-bce-loss', '--epochs', '3'), {
    noAug: true,
    bceLoss: false,
    epochs: 3,
  });
});

test('the help lists each setting once', (t) => {
  const command = new Command();
  addSettings(command);
  const help = command.helpInformation();
  for (const [, { flag }] of switches) t.is(help.split(`${flag} `).length, 2, flag);
  t.false(/--(no-bce-loss|aug|graph) /.test(help));
});

test('a flag takes back what a file or a recipe says', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'tenon-test-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  await writeFile(join(folder, 'mine.yaml'), 'bceLoss: true\nnoAug: true\nmodelEmaWarmup: true\n');
  const args = ['train', 'shapes', '--config', 'mine.yaml', '--print-config'];
  const kept = await cli(folder, args);
  t.is(kept.code, 0, kept.stderr);
  for (const line of ['bceLoss: true', 'noAug: true', 'modelEmaWarmup: true'])
    t.true(kept.stdout.includes(`\n${line}\n`), kept.stdout);
  const changed = await cli(folder, [...args, '--no-bce-loss', '--aug']);
  t.is(changed.code, 0, changed.stderr);
  for (const line of ['bceLoss: false', 'noAug: false', 'modelEmaWarmup: true'])
    t.true(changed.stdout.includes(`\n${line}\n`), changed.stdout);
});
