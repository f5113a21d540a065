/**
 * One process at a time on a run's folder.
 *
 * Whoever wants to train in it writes an empty file `.PID.lock` there, then looks for those of others: of two that begin at
 * once, at least one sees the other. Who sees a lower process id, or a lock that says `held`, gives up; who sees higher ones
 * alone waits until they have given up, or one holds: so that exactly one does. A lock counts as long as its process lives, so
 * that a kill leaves no obstacle. A process id that the system has given to another program since is told by the time: a lock
 * from before the machine's start, or with our own id from before ours, is nobody's. What is left of that, and the rare id
 * given twice since the start, the message leaves to the user. Processes of other machines, which a shared folder may have,
 * are not seen.
 */
import { readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { uptime } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import { fail } from '../tensor/error.js';

/** Another process's lock on its way takes milliseconds; one that stays is of a program that was given its id. */
const PATIENCE = 10_000;

/** Does some work in a folder that no other process works in. @throws TensorError IO where one does */
export async function withLock<T>(op: string, folder: string, work: () => Promise<T>): Promise<T> {
  const own = `.${process.pid}.lock`;
  await othersIn(folder); // an old lock with our id is no longer there
  try {
    await writeFile(join(folder, own), '', { flag: 'wx' });
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') refuse(op, folder, process.pid);
    return fail(op, 'IO', `expected to write ${join(folder, own)}, got ${message}`);
  }
  try {
    const end = Date.now() + PATIENCE;
    for (let others = await othersIn(folder); others.length > 0; others = await othersIn(folder)) {
      const first = others.find(({ pid, held }) => held || pid < process.pid || Date.now() > end);
      if (first !== undefined) refuse(op, folder, first.pid);
      await delay(5);
    }
    await writeFile(join(folder, own), 'held');
    return await work();
  } finally {
    await rm(join(folder, own), { force: true });
  }
}

/** The locks of other living processes, and whether they hold the folder. Removes those of dead ones. */
async function othersIn(folder: string): Promise<{ readonly pid: number; readonly held: boolean }[]> {
  const others = [];
  for (const name of await readdir(folder)) {
    const pid = Number(/^\.(\d+)\.lock$/.exec(name)?.[1]);
    if (Number.isNaN(pid)) continue;
    const path = join(folder, name);
    if (!(await isLive(path, pid))) await rm(path, { force: true });
    else if (pid !== process.pid)
      others.push({ pid, held: (await readFile(path, 'utf8').catch(() => '')) === 'held' });
  }
  return others;
}

async function isLive(path: string, pid: number): Promise<boolean> {
  const status = await stat(path).catch(() => undefined); // it may be gone by now
  const seconds = pid === process.pid ? process.uptime() : uptime();
  return status !== undefined && status.mtimeMs >= Date.now() - 1000 * seconds && isAlive(pid);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0); // sends nothing
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'; // another user's
  }
}

function refuse(op: string, folder: string, pid: number): never {
  return fail(
    op,
    'IO',
    `expected a run that nothing else trains, got ${folder}, which process ${pid} trains ` +
      `(if that is another program, remove ${join(folder, `.${pid}.lock`)})`,
  );
}
