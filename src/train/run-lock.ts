/**
 * One process at a time on a run's folder.
 *
 * Whoever trains in it keeps an empty file `.PID.lock` there, then looks for those of others: of two that begin at once, at
 * least one sees the other. A lock counts as long as its process lives, so that a kill leaves no obstacle. A process id that
 * the system has given to another program since is told by the time: a lock from before the machine's start, or with our
 * own id from before ours, is nobody's. What is left of that, and the rare id given twice since the start, the message
 * leaves to the user. Processes of other machines, which a shared folder may have, are not seen.
 */
import { readdir, rm, stat, writeFile } from 'node:fs/promises';
import { uptime } from 'node:os';
import { join } from 'node:path';

import { fail } from '../tensor/error.js';

/** Does some work in a folder that no other process works in. @throws TensorError IO where one does */
export async function withLock<T>(op: string, folder: string, work: () => Promise<T>): Promise<T> {
  const own = `.${process.pid}.lock`;
  await expectFree(op, folder);
  try {
    await writeFile(join(folder, own), '', { flag: 'wx' });
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') refuse(op, folder, own); // this process, at the same moment
    return fail(op, 'IO', `expected to write ${join(folder, own)}, got ${message}`);
  }
  try {
    await expectFree(op, folder, own);
    return await work();
  } finally {
    await rm(join(folder, own), { force: true });
  }
}

/** Removes the locks of dead processes. @throws TensorError IO for one of a living process, other than `own` */
async function expectFree(op: string, folder: string, own?: string): Promise<void> {
  for (const name of await readdir(folder)) {
    const pid = /^\.(\d+)\.lock$/.exec(name)?.[1];
    if (pid === undefined || name === own) continue;
    const path = join(folder, name);
    if (await isHeld(path, Number(pid))) refuse(op, folder, name);
    await rm(path, { force: true });
  }
}

async function isHeld(path: string, pid: number): Promise<boolean> {
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

function refuse(op: string, folder: string, name: string): never {
  const pid = name.split('.')[1];
  return fail(
    op,
    'IO',
    `expected a run that nothing else trains, got ${folder}, which process ${pid} trains ` +
      `(if that is another program, remove ${join(folder, name)})`,
  );
}
