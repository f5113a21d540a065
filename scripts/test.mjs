// `npm test`: builds what changed, runs AVA, then the native tests. The last line sums both.
// Arguments go to AVA (`npm test -- test/ops/matmul.ts`), and then the native tests are left out.
import { spawn, spawnSync } from 'node:child_process';
import { stripVTControlCharacters } from 'node:util';

import { buildAddon, buildEmulatedPlugin, testNative } from './native.mjs';

function buildTypeScript() {
  const { status } = spawnSync('node_modules/.bin/tsc', ['-p', 'tsconfig.json'], { stdio: 'inherit' });
  if (status !== 0) throw new Error('test: tsc found errors, see above');
}

/** Runs AVA, shows its output and counts its tests; whatever else made it fail (a crash, a timeout) counts once. */
async function testTypeScript(args) {
  const child = spawn('node_modules/.bin/ava', args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  child.stdout.on('data', (chunk) => {
    process.stdout.write(chunk);
    output += chunk;
  });
  const status = await new Promise((resolve, reject) => child.on('error', reject).on('close', resolve));
  const count = (what) => {
    const found = stripVTControlCharacters(output).match(new RegExp(`^\\s*(\\d+) ${what}`, 'm'));
    return found ? Number(found[1]) : 0;
  };
  const failed = count('tests? failed') + count('uncaught exceptions?') + count('unhandled rejections?');
  return { passed: count('tests? passed'), failed: failed === 0 && status !== 0 ? 1 : failed };
}

const args = process.argv.slice(2);
let passed = 0;
let failed = 0;
const add = (result) => {
  passed += result.passed;
  failed += result.failed;
};
try {
  buildAddon();
  buildEmulatedPlugin();
  buildTypeScript();
  add(await testTypeScript(args));
  if (args.length === 0) add(await testNative({ args: ['--gtest_brief=1'] }));
} catch (error) {
  console.error(error.message);
  failed += 1;
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
