// Builds and tests the native code through cmake-js.
//
//   node scripts/native.mjs build                       build/Release/tenon.node, built in build/cmake
//   node scripts/native.mjs test [--sanitize LIST] [...] the GoogleTest harness; LIST as in TENON_SANITIZE, e.g.
//                                                        address,undefined, built apart; more goes to the harness
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const cmakeJs = createRequire(import.meta.url).resolve('cmake-js/bin/cmake-js');

function run(command, args, env = {}) {
  const { status, error } = spawnSync(command, args, {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, ...env },
  });
  if (error) throw error;
  if (status !== 0) process.exit(status ?? 1);
}

/** True where the folder is configured with these options already: a build with nothing to do must be quick. */
function configured(folder, options) {
  const cache = join(root, folder, 'CMakeCache.txt');
  if (!existsSync(cache)) return false;
  const lines = readFileSync(cache, 'utf8').split('\n');
  return Object.entries(options).every(([name, value]) =>
    lines.some((line) => line.startsWith(`${name}:`) && line.endsWith(`=${value}`)),
  );
}

function build(folder, target, options) {
  const flags = ['--directory', 'native', '--out', folder, '--log-level', 'warn'];
  const defines = Object.entries(options).map(([name, value]) => `--CD${name}=${value}`);
  const env = { CMAKE_BUILD_PARALLEL_LEVEL: process.env.CMAKE_BUILD_PARALLEL_LEVEL ?? `${availableParallelism()}` };
  if (!configured(folder, options)) run(process.execPath, [cmakeJs, 'configure', ...flags, ...defines], env);
  run(process.execPath, [cmakeJs, 'build', ...flags, '--target', target], env);
}

const [command, ...rest] = process.argv.slice(2);
const addon = { CMAKE_LIBRARY_OUTPUT_DIRECTORY: join(root, 'build', 'Release') };
if (command === 'build' && rest.length === 0) {
  build('build/cmake', 'tenon', addon);
} else if (command === 'test') {
  const sanitize = rest[0] === '--sanitize' ? rest.splice(0, 2)[1] : undefined;
  const folder = sanitize === undefined ? 'build/cmake' : `build/${sanitize.replaceAll(',', '-')}`;
  const options =
    sanitize === undefined ? addon : { TENON_SANITIZE: sanitize, TENON_BUILD_ADDON: 'OFF' };
  build(folder, 'tenon_tests', { ...options, TENON_BUILD_TESTS: 'ON' });
  run(join(root, folder, 'tenon_tests'), rest, { UBSAN_OPTIONS: 'print_stacktrace=1' });
} else {
  console.error('usage: node scripts/native.mjs build | test [--sanitize LIST] [harness options]');
  process.exit(2);
}
