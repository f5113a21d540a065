/**
 * Every op has a case: each file of src/ops that exports ops has a file of cases here, whose `opCases` does not
 * compile while one is missing. And every kernel is reached by an op.
 */
import test from 'ava';
import { existsSync, readFileSync, readdirSync } from 'node:fs';

import * as all from '../../src/ops/index.js';
import { native } from '../../src/native.js';

const folder = (path: string): URL => new URL(path, import.meta.url);
const textOf = (path: string): string => readFileSync(folder(path), 'utf8');
const files = readdirSync(folder('../../src/ops/')).filter(
  (name) => name.endsWith('.js') && name !== 'index.js',
);

for (const file of files) {
  test(`the ops of src/ops/${file.replace('.js', '.ts')} have cases`, async (t) => {
    const module = (await import(folder(`../../src/ops/${file}`).href)) as Record<string, unknown>;
    const ops = Object.keys(module).filter((name) => name in all);
    t.true(
      ops.length === 0 || existsSync(folder(file)),
      `expected test/ops/${file} with cases for ${ops.join(', ')}`,
    );
    if (ops.length > 0) t.regex(textOf(file), new RegExp(`from '../../src/ops/${file}'[^]*opCases\\(`));
  });
}

test('every native op is called', (t) => {
  const sources = ['ops', 'tensor', 'optim', 'data'].flatMap((layer) =>
    readdirSync(folder(`../../src/${layer}/`), { encoding: 'utf8' })
      .filter((name) => name.endsWith('.js'))
      .map((name) => textOf(`../../src/${layer}/${name}`)),
  );
  const text = sources.join('\n');
  const called = (name: string): boolean => new RegExp(`\\b${name}\\b`).test(text);
  const unused = native.schema.map(({ name }) => name).filter((name) => !called(name));
  t.deepEqual(unused, []);
});
