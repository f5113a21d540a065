// `npm run check`: formatting, lint rules, types, docs and layers. Every step runs, beside the others; any failure fails all.
// clang-tidy looks at the changed native sources, and at all of them where CI is set.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';

const bin = (name) => `node_modules/.bin/${name}`;

// As many commands at a time as there are cores; `seconds` is what a command took once it had its turn.
let free = availableParallelism();
const waiting = [];

async function run(command) {
  if (free === 0) await new Promise((resolve) => waiting.push(resolve));
  else free -= 1;
  const started = performance.now();
  const result = await new Promise((resolve) => {
    let output = '';
    const child = spawn(command[0], command.slice(1), { stdio: ['ignore', 'pipe', 'pipe'] });
    child.stdout.on('data', (chunk) => (output += chunk));
    child.stderr.on('data', (chunk) => (output += chunk));
    child.on('error', (error) => resolve({ ok: false, output: error.message }));
    child.on('close', (status) => resolve({ ok: status === 0, output }));
  });
  const next = waiting.shift();
  if (next === undefined) free += 1;
  else next();
  return { ...result, seconds: (performance.now() - started) / 1000 };
}

function git(...args) {
  const { status, stdout, stderr } = spawnSync('git', args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr.trim());
  return stdout.split('\n').filter((line) => line !== '' && existsSync(line));
}

const untracked = ['--others', '--exclude-standard'];
const nativeFiles = git('ls-files', '--cached', ...untracked, 'native').filter((file) =>
  /\.(h|cc|cu)$/.test(file),
);
const changed = new Set([...git('diff', '--name-only', 'HEAD'), ...git('ls-files', ...untracked)]);
// Highway compiles the files of backend/cpu once per instruction set, which clang-tidy's analysis takes minutes for.
const tidyFiles = nativeFiles.filter(
  (file) =>
    /^native\/(core|ops|image|binding)\/.*\.cc$/.test(file) &&
    (process.env.CI !== undefined || changed.has(file)),
);

/** The addon reports its signatures. */
const nativeTypes = () => run(['node', 'scripts/generate-native-types.mjs', '--check']);

async function clangFormat() {
  const { ok, output, seconds } = await run(['clang-format', '--dry-run', '-Werror', ...nativeFiles]);
  const files = new Set([...output.matchAll(/^(\S+?):\d+:\d+: error/gm)].map((match) => match[1]));
  return {
    ok,
    output: files.size > 0 ? `npm run format would change\n  ${[...files].join('\n  ')}` : output,
    seconds,
  };
}

// The compilation database speaks GCC's language where GCC is the compiler.
const tidyFlags = ['--quiet', '-p', 'build/cmake', '--extra-arg=-Wno-unknown-warning-option'];

async function clangTidy() {
  const results = await Promise.all(tidyFiles.map((file) => run(['clang-tidy', ...tidyFlags, file])));
  const failed = results.filter((result) => !result.ok);
  const output = failed.map((result) => result.output).join('');
  return {
    ok: failed.length === 0,
    output: output.replace(/^\d+ warnings.* generated\.\n/gm, ''),
    seconds: results.reduce((sum, { seconds }) => sum + seconds, 0),
  };
}

function clangTool(name, step) {
  const missing = `${name} is missing: run bash scripts/setup.sh --dev`;
  return async () =>
    spawnSync(name, ['--version']).status === 0 ? step() : { ok: false, output: missing, seconds: 0 };
}

const steps = {
  prettier: () => run([bin('prettier'), '--check', '--log-level', 'warn', '.']),
  eslint: () => run([bin('eslint'), '.']),
  tsc: () => run([bin('tsc'), '--noEmit', '-p', 'tsconfig.json', '--incremental', 'false']),
  // Without links to the sources, which a checkout that has no remote lacks.
  docs: () => run([bin('typedoc'), '--emit', 'none', '--disableSources']),
  'native types': nativeTypes,
  'op table': () => run(['node', 'scripts/op-table.mjs', '--check']),
  'native layers': () => run(['node', 'scripts/check-native-layers.mjs']),
  'clang-format': clangTool('clang-format', clangFormat),
  [`clang-tidy (${tidyFiles.length} files)`]: clangTool('clang-tidy', clangTidy),
};

function report(name, { ok, output, seconds }) {
  console.log(`${ok ? 'ok    ' : 'FAILED'} ${name} (${seconds.toFixed(1)} s)`);
  if (ok) return;
  console.log(output.trimEnd());
  process.exitCode = 1;
}

// What the steps below look at: the addon, and the compilation database that its build leaves.
const addon = await run(['node', 'scripts/native.mjs', 'build']);
report('addon', addon);
await Promise.all(Object.entries(steps).map(async ([name, step]) => report(name, await step())));
