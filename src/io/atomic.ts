/**
 * Writing files so that a reader, a full disk or a kill at any moment finds the file of before or the new one, each
 * whole: into a temporary file beside it, flushed to the disk, then renamed.
 */
import { open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

import { fail } from '../tensor/error.js';

/** Text, bytes, or pieces of a file in order. */
export type FileContent = string | Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

let counter = 0;

/**
 * Writes a file in one step: see above. Nothing is left behind when it fails.
 *
 * @throws TensorError IO with the path and the reason; whatever an iterable throws
 * @example
 * await writeFileAtomic('runs/demo/summary.json', JSON.stringify(summary));
 */
export async function writeFileAtomic(path: string, content: FileContent): Promise<void> {
  counter += 1;
  const temporary = join(dirname(path), `.${basename(path)}.${process.pid}.${counter}.tmp`);
  const chunks =
    typeof content === 'string'
      ? [Buffer.from(content)]
      : content instanceof Uint8Array
        ? [content]
        : content;
  try {
    const file = await open(temporary, 'wx');
    try {
      for await (const chunk of chunks) await writeAll(file, chunk);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    await syncFolder(dirname(path));
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined); // what failed first is what matters
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === undefined || !/^E[A-Z]+$/.test(code)) throw error; // not the file system's
    fail('writeFileAtomic', 'IO', `expected to write ${path}, got ${reason(code, message)}`);
  }
}

async function writeAll(
  file: { write(data: Uint8Array, offset: number): Promise<{ bytesWritten: number }> },
  chunk: Uint8Array,
): Promise<void> {
  for (let offset = 0; offset < chunk.length;) {
    offset += (await file.write(chunk, offset)).bytesWritten;
  }
}

/** Makes a rename last through a power cut. Some systems cannot open folders; there the rename alone must do. */
async function syncFolder(path: string): Promise<void> {
  if (process.platform === 'win32') return;
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

function reason(code: string, message: string): string {
  switch (code) {
    case 'ENOSPC':
      return 'no space left on the disk';
    case 'EACCES':
    case 'EPERM':
      return 'no permission';
    case 'ENOENT':
      return 'no such folder';
    case 'EFBIG':
      return 'a file larger than the limit';
    case 'EROFS':
      return 'a read-only file system';
    default:
      return message;
  }
}
