/**
 * What npm packs: all that an installation needs and its documents link to, and nothing that only developers run.
 */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import test from 'ava';

const root = fileURLToPath(new URL('../../../', import.meta.url)); // from dist/test/docs/

/** The files of the package, by their paths in it. */
async function packed(): Promise<string[]> {
  const args = ['pack', '--dry-run', '--json', '--ignore-scripts'];
  const { stdout } = await promisify(execFile)('npm', args, { cwd: root });
  const [{ files }] = JSON.parse(stdout) as { files: { path: string }[] }[];
  return files.map(({ path }) => path);
}

test('a package holds what builds and runs it, and no source maps, tests or other scripts', async (t) => {
  const files = await packed();
  for (const path of [
    'binding.gyp',
    'native/CMakeLists.txt',
    'native/package.json',
    'native/backend/cuda/CMakeLists.txt',
    'dist/src/index.js',
    'dist/src/index.d.ts',
    'dist/src/cli/main.js',
    'dist/src/data/loader-worker.js',
    'dist/src/data/preprocessor-worker.js',
  ])
    t.true(files.includes(path), path);
  const starting = (start: string): string[] => files.filter((path) => path.startsWith(start));
  t.deepEqual(starting('scripts/'), ['scripts/native.mjs']);
  t.deepEqual(starting('dist/'), starting('dist/src/'));
  t.deepEqual(starting('native/test/'), []);
  t.deepEqual(
    files.filter((path) => path.endsWith('.map')),
    [],
  );
});

test('the links of the packed documents lead to packed files', async (t) => {
  const files = await packed();
  const isPacked = (path: string): boolean =>
    files.includes(path) || files.some((file) => file.startsWith(`${path.replace(/\/$/, '')}/`));
  // What bench/ is, is told to all; its programs are those of a checkout.
  const documents = files.filter((path) => path.endsWith('.md') && !path.startsWith('bench/'));
  t.true(documents.length > 20, documents.join());
  let links = 0;
  for (const document of documents) {
    const text = await readFile(`${root}/${document}`, 'utf8');
    for (const [, link] of text.matchAll(/\]\((?!https?:|#)([^)#]+)/g)) {
      links += 1;
      const path = posix.join(posix.dirname(document), link);
      t.true(isPacked(path), `${document} links to ${link}`);
    }
  }
  t.true(links > 40, `${links} links`);
});
