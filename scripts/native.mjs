// Builds and tests the native code: CMake, run through cmake-js.
//
//   node scripts/native.mjs build                         build/Release/tenon.node (CMake works in build/cmake), and
//                                                         tenon_cuda.so where there are nvcc and an NVIDIA driver
//   node scripts/native.mjs test [--sanitize LIST] [...]  the GoogleTest harnesses; LIST as in TENON_SANITIZE, e.g.
//                                                         address,undefined, built apart; more goes to the harnesses
//   node scripts/native.mjs cuda [--all]                  build/Release/tenon_cuda.so with nvcc, for sm_80 and sm_90 or
//                                                         for all architectures; fails where a kernel spills registers, or
//                                                         where the assembler makes Hopper's products wait for each other
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const cmakeJs = createRequire(import.meta.url).resolve('cmake-js/bin/cmake-js');

const addonOptions = { CMAKE_LIBRARY_OUTPUT_DIRECTORY: join(root, 'build', 'Release') };

/** What Ninja says of a step: [3/64] Building ... */
const STEP = /^\[\d+\/\d+\] /;

/** What Ninja says where there is nothing to do. */
const NOTHING = /^(ninja: no work to do\.|\[\d+\/\d+\] Re-checking globbed directories\.\.\.)$/;

/** Shows a line of a build; on a terminal, a step takes the place of the one before. */
function write(line) {
  const { isTTY, columns } = process.stdout;
  if (isTTY && STEP.test(line)) process.stdout.write(`\r\x1b[2K${line.slice(0, (columns || 80) - 1)}`);
  else console.log(isTTY ? `\r\x1b[2K${line}` : line);
}

/** Runs a command and returns its exit status; a quiet one's standard output is shown only where it fails. */
async function runInRoot(command, args, { env = {}, quiet = false } = {}) {
  const child = spawn(command, args, {
    cwd: root,
    stdio: ['inherit', 'pipe', 'inherit'],
    env: { ...process.env, ...env },
  });
  let held = '';
  const show = async () => {
    for await (const line of createInterface({ input: child.stdout })) {
      if (quiet) held += `${line}\n`;
      else if (!NOTHING.test(line)) write(line);
    }
  };
  const [[status]] = await Promise.all([once(child, 'close'), show()]);
  if (process.stdout.isTTY && !quiet) process.stdout.write('\r\x1b[2K');
  if (status !== 0) process.stderr.write(held);
  return status ?? 1; // null: ended by a signal
}

/** True where the folder is configured with these options already: a build with nothing to do must be quick. */
function isConfigured(folder, options) {
  const cache = join(root, folder, 'CMakeCache.txt');
  if (!existsSync(cache)) return false;
  const lines = readFileSync(cache, 'utf8').split('\n');
  return Object.entries(options).every(([name, value]) =>
    lines.some((line) => line.startsWith(`${name}:`) && line.endsWith(`=${value}`)),
  );
}

async function cmake(command, folder, ...args) {
  // Ninja runs in parallel by itself, make does not.
  const env = {
    CMAKE_BUILD_PARALLEL_LEVEL: process.env.CMAKE_BUILD_PARALLEL_LEVEL ?? `${availableParallelism()}`,
  };
  const flags = ['--directory', 'native', '--out', folder, '--log-level', 'warn'];
  const quiet = command === 'configure'; // ten lines on compilers that were found
  const status = await runInRoot(process.execPath, [cmakeJs, command, ...flags, ...args], { env, quiet });
  if (status !== 0) throw new Error(`native: cmake could not ${command} ${folder}, see above`);
}

async function configure(folder, options) {
  if (isConfigured(folder, options)) return;
  await cmake('configure', folder, ...Object.entries(options).map(([name, value]) => `--CD${name}=${value}`));
}

export async function buildAddon() {
  await configure('build/cmake', addonOptions);
  await cmake('build', 'build/cmake', '--target', 'tenon');
}

/** Builds the plugin whose GPUs are emulated, for Node's tests, and returns its path. */
export async function buildEmulatedPlugin() {
  await configure('build/cmake', { ...addonOptions, TENON_BUILD_TESTS: 'ON' });
  await cmake('build', 'build/cmake', '--target', 'tenon_cuda_emulated');
  return join(root, 'build', 'Release', 'tenon_cuda_emulated.so');
}

/**
 * Builds and runs the GoogleTest harnesses, the CPU's and that of CUDA's kernels on the emulator, and counts their tests;
 * a crash counts as one failure. The thread sanitizer gets the emulator's alone: it knows nothing of OpenMP's barriers.
 */
export async function testNative({ sanitize, args = [] } = {}) {
  // Without sanitizers the harness shares the addon's objects.
  const folder = sanitize === undefined ? 'build/cmake' : `build/${sanitize.replaceAll(',', '-')}`;
  const options =
    sanitize === undefined ? addonOptions : { TENON_SANITIZE: sanitize, TENON_BUILD_ADDON: 'OFF' };
  const harnesses = sanitize === 'thread' ? ['tenon_cuda_tests'] : ['tenon_tests', 'tenon_cuda_tests'];
  await configure(folder, { ...options, TENON_BUILD_TESTS: 'ON' });
  const total = { passed: 0, failed: 0 };
  for (const harness of harnesses) {
    await cmake('build', folder, '--target', harness);
    // The emulator runs on one thread: a process for each core takes one of these parts after the other.
    const shards = harness === 'tenon_cuda_tests' ? 4 * availableParallelism() : 1;
    const path = join(root, folder, harness);
    const results = [];
    let next = 0;
    const takeShards = async () => {
      while (next < shards) results.push(await runShard(path, args, next++, shards));
    };
    await Promise.all(Array.from({ length: availableParallelism() }, takeShards));
    for (const { passed, failed } of results) {
      total.passed += passed;
      total.failed += failed;
    }
  }
  return total;
}

/** Runs one of `shards` equal parts of a harness's tests. */
async function runShard(path, args, shard, shards) {
  const report = `${path}-${shard}.json`;
  rmSync(report, { force: true });
  const child = spawn(path, [`--gtest_output=json:${report}`, ...args], {
    cwd: root,
    stdio: 'inherit',
    env: {
      ...process.env,
      UBSAN_OPTIONS: 'print_stacktrace=1',
      GTEST_TOTAL_SHARDS: `${shards}`,
      GTEST_SHARD_INDEX: `${shard}`,
    },
  });
  const status = await new Promise((resolve, reject) => child.on('error', reject).on('close', resolve));
  if (!existsSync(report)) return { passed: 0, failed: 1 };
  const { tests, failures, errors, disabled } = JSON.parse(readFileSync(report, 'utf8'));
  const failed = failures + errors;
  // A sanitizer may end the process after the last test has passed.
  return { passed: tests - failed - disabled, failed: failed === 0 && status !== 0 ? 1 : failed };
}

const BLACKWELL = ['sm_100', 'sm_120'];

/**
 * Kernels that may spill: on sm_75 three of attention's gradients; on sm_100 and sm_120 what their assembler (CUDA 13.0) does not
 * fit where the others' do: float64, pooling's gradients, maxima of bytes, and layer norm's gradient by 8 bytes.
 */
const SPILLS = [
  { architectures: ['sm_75'], kernels: /gradients_on_tensor_cores/, bytes: 36 },
  // float64 is there to check gradients with
  { architectures: BLACKWELL, kernels: /forward_plain\w+EdLi|_wideId|unary\w+EdEEddL/, bytes: 40 },
  { architectures: BLACKWELL, kernels: /pool2d\w+(max|mean)_backward/, bytes: 40 },
  { architectures: ['sm_120'], kernels: /layer_norm\w+backward_in_registersIfLi1E/, bytes: 8 },
  { architectures: ['sm_120'], kernels: /reduce\w+(merge|reduce)_kernel\w+Extreme/, bytes: 168 }, // of uint8 and bool
];

/** The bytes that a kernel may spill. */
function mostSpilled(architecture, name) {
  const allowed = SPILLS.filter(
    ({ architectures, kernels }) => architectures.includes(architecture) && kernels.test(name),
  );
  return Math.max(0, ...allowed.map(({ bytes }) => bytes));
}

/** Builds tenon_cuda.so and holds its kernels to registers: a spill or a stack frame costs more than any tuning gains. */
export async function buildCuda(architectures) {
  const folder = `build/cuda-${architectures.join('-')}`;
  await configure(folder, {
    ...addonOptions,
    TENON_BUILD_ADDON: 'OFF',
    TENON_CUDA: 'ON',
    CMAKE_CUDA_ARCHITECTURES: architectures.join(';'),
  });
  // From the beginning, because the assembler tells of registers only when it runs.
  const build = ['--build', folder, '--target', 'tenon_cuda', '--clean-first'];
  const { status, stdout, stderr } = spawnSync('cmake', build, {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 2 ** 28, // the assembler tells much of many kernels
  });
  if (status !== 0) throw new Error(`native: nvcc failed\n${stdout}${stderr}`);
  const serialized = /^.*\(C75\d\d\).*$/m.exec(`${stdout}${stderr}`);
  if (serialized !== null) throw new Error(`native: ${serialized[0]}`);
  let kernels = 0;
  let spilling = 0;
  const refused = [];
  const report =
    /for '(\w+)'\s[^']*?Function properties for (\S+)\s+(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/g;
  for (const [, architecture, name, ...bytes] of `${stdout}${stderr}`.matchAll(report)) {
    kernels += 1;
    const worst = Math.max(...bytes.map(Number));
    spilling += worst > 0 ? 1 : 0;
    if (worst > mostSpilled(architecture, name)) {
      refused.push(`${name} for ${architecture}: ${bytes.join(' + ')} bytes of stack and spills`);
    }
  }
  if (refused.length > 0) {
    throw new Error(`native: expected kernels that stay in registers, got\n${refused.join('\n')}`);
  }
  if (kernels === 0) throw new Error(`native: found no CUDA kernel in ${folder}`);
  const spills = spilling === 0 ? 'none spills' : `${spilling} spill a few bytes, as they may`;
  console.log(`${kernels} CUDA kernels for ${architectures.join(', ')}, ${spills}`);
}

// The code of the architectures that users have; the last one also as PTX, for those to come.
const CUDA_ALL = ['75-real', '80-real', '86-real', '89-real', '90-real', '100-real', '120'];
const CUDA_QUICK = ['80-real', '90-real'];

async function main([command, ...rest]) {
  if (command === 'build' && rest.length === 0) return buildAddon();
  if (command === 'cuda' && (rest.length === 0 || rest.join() === '--all')) {
    return buildCuda(rest.length === 0 ? CUDA_QUICK : CUDA_ALL);
  }
  if (command === 'test') {
    const sanitize = rest[0] === '--sanitize' ? rest.splice(0, 2)[1] : undefined;
    const { passed, failed } = await testNative({ sanitize, args: rest });
    console.log(`${passed} passed, ${failed} failed`);
    process.exitCode = failed === 0 ? 0 : 1;
    return;
  }
  console.error('usage: node scripts/native.mjs build | cuda [--all] | test [--sanitize LIST] [options]');
  process.exitCode = 2;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    await main(process.argv.slice(2));
  } catch (error) {
    console.error(error.message);
    process.exitCode = 1;
  }
}
