// `npm test`: builds what changed, runs AVA, then the native tests. The last line sums both; what failed in AVA comes again
// above it, because the native tests stand between.
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
  child.stdout.setEncoding('utf8');
  child.stdout.on('data', (chunk) => {
    process.stdout.write(chunk);
    output += chunk;
  });
  const status = await new Promise((resolve, reject) => child.on('error', reject).on('close', resolve));
  output = stripVTControlCharacters(output);
  const count = (what) => Number(output.match(new RegExp(`^\\s*(\\d+) ${what}`, 'm'))?.[1] ?? 0);
  const failed = count('tests? failed') + count('uncaught exceptions?') + count('unhandled rejections?');
  return {
    passed: output.match(/^\s*✔/gm)?.length ?? 0, // AVA sums them up only where all pass
    failed: failed === 0 && status !== 0 ? 1 : failed,
    report: status === 0 ? '' : failures(output),
  };
}

/** What AVA says of failures: a line each where they happened, and the differences, after its last test. */
function failures(output) {
  const end = output.indexOf('\n  ─\n');
  const lines = output.slice(0, end === -1 ? undefined : end).split('\n');
  return `${lines.filter((line) => line.includes('✘')).join('\n')}${end === -1 ? '' : output.slice(end)}`;
}

const args = process.argv.slice(2);
let passed = 0;
let failed = 0;
let report = '';
const add = (result) => {
  passed += result.passed;
  failed += result.failed;
  report += result.report ?? '';
};
try {
  await buildAddon();
  await buildEmulatedPlugin();
  buildTypeScript();
  add(await testTypeScript(args));
  if (args.length === 0) add(await testNative({ args: ['--gtest_brief=1'] }));
} catch (error) {
  console.error(error.message);
  failed += 1;
}
if (report !== '' && args.length === 0) console.log(`\nfailed in AVA:\n${report}`);
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
