/**
 * Where files are to be written.
 */
import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';

import { fail } from '../tensor/error.js';

/**
 * Looks before the work, which would be in vain, whether a file can be written.
 *
 * @param op what the path was given to, for messages
 * @throws TensorError IO for a folder, or a path in one that does not exist
 */
export async function expectPlace(op: string, path: string): Promise<void> {
  const isFolder = async (place: string): Promise<boolean> =>
    (await stat(place).catch(() => undefined))?.isDirectory() === true;
  const folder = dirname(path);
  if (!(await isFolder(folder))) fail(op, 'IO', `expected a folder that exists, got ${folder}`);
  if (await isFolder(path)) fail(op, 'IO', `expected a file, got the folder ${path}`);
}
