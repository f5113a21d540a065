import { statSync } from 'node:fs';
import { join } from 'node:path';

import { imagesBelow } from '../data/folder.js';
import { fail } from '../tensor/error.js';

/** The images that a command's paths name: files, and those in folders as training sees them, in order. */
export async function imageFiles(command: string, paths: readonly string[]): Promise<string[]> {
  const files: string[] = [];
  for (const path of paths) {
    const stat = statSync(path, { throwIfNoEntry: false });
    if (stat === undefined)
      return fail(command, 'IO', `expected an image or a folder, got ${path}, which does not exist`);
    const found = stat.isDirectory() ? (await imagesBelow(path)).map((file) => join(path, file)) : [path];
    if (found.length === 0) fail(command, 'IO', `expected images in ${path}, found none`);
    files.push(...found);
  }
  return files;
}

/** Says which files could not be read, and sets the exit code. */
export function reportUnread(results: readonly (object | { readonly error: string })[]): void {
  for (const result of results) {
    if (!('error' in result)) continue;
    console.error(`tenon: ${result.error}`);
    process.exitCode = 1;
  }
}
