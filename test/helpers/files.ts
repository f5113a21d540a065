/**
 * Files for a test, gone when it ends.
 */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

import type { ExecutionContext } from 'ava';

/** A folder of its own for a test, with the files given by their paths in it. */
export async function temporaryFolder(
  t: ExecutionContext,
  files: Readonly<Record<string, Uint8Array | string>> = {},
): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), 'tenon-test-'));
  t.teardown(() => rm(root, { recursive: true, force: true }));
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), content);
  }
  return root;
}
