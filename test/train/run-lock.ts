import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { text } from 'node:stream/consumers';

import test from 'ava';

import { withLock } from '../../src/train/run-lock.js';

const folder = await mkdtemp(join(tmpdir(), 'tenon-lock-'));
test.after.always(() => rm(folder, { recursive: true, force: true }));

const refused = (pid: number): string =>
  `test: expected a run that nothing else trains, got ${folder}, which process ${pid} trains ` +
  `(if that is another program, remove ${join(folder, `.${pid}.lock`)})`;

test.serial('of processes that begin at once, exactly one trains', async (t) => {
  const program = `
    const { withLock } = await import(${JSON.stringify(new URL('../../src/train/run-lock.js', import.meta.url))});
    process.stdout.write('ready');
    await new Promise((resolve) => process.stdin.once('data', resolve));
    const work = () => new Promise((resolve) => setTimeout(resolve, 500, 'trains'));
    console.log(await withLock('test', ${JSON.stringify(folder)}, work).catch(() => 'refused'));
    process.exit();`;
  for (let round = 0; round < 3; round++) {
    const children = Array.from({ length: 4 }, () =>
      spawn(process.execPath, ['--input-type=module', '--eval', program], {
        stdio: ['pipe', 'pipe', 'inherit'],
      }),
    );
    await Promise.all(children.map(({ stdout }) => once(stdout, 'readable')));
    for (const { stdin } of children) stdin.write('go');
    const outcomes = await Promise.all(children.map(({ stdout }) => text(stdout)));
    t.deepEqual(outcomes.sort(), ['readyrefused\n', 'readyrefused\n', 'readyrefused\n', 'readytrains\n']);
    t.deepEqual(await readdir(folder), []);
  }
});

test.serial('a lower process id goes first, and a higher one that came before it', async (t) => {
  const lower = process.ppid; // lives, as does the one below
  const child = spawn(process.execPath, ['--eval', 'setInterval(() => {}, 1000)']);
  const higher = child.pid!;
  const lock = (pid: number): string => join(folder, `.${pid}.lock`);
  const work = (): Promise<string> => Promise.resolve('trained');
  t.teardown(() => child.kill());
  if (lower > process.pid || process.pid > higher) {
    t.pass('the system has begun its ids again');
    return;
  }

  await writeFile(lock(lower), '');
  t.is((await t.throwsAsync(withLock('test', folder, work))).message, refused(lower));
  await rm(lock(lower));

  await writeFile(lock(higher), '');
  const first = withLock('test', folder, work);
  await delay(50);
  await rm(lock(higher)); // it has given up
  t.is(await first, 'trained');

  await writeFile(lock(higher), '');
  const second = withLock('test', folder, work);
  await delay(50);
  await writeFile(lock(higher), 'held');
  t.is((await t.throwsAsync(second)).message, refused(higher));
  t.deepEqual(await readdir(folder), [`.${higher}.lock`]);
});
