// `npm run check`: formatting, lint rules, types, docs and layers; every step runs, and any failure fails the command.
// clang-tidy looks at the changed native sources, and at all of them where CI is set.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';

const bin = (name) => `node_modules/.bin/${name}`;

function run(command) {
  return new Promise((resolve) => {
    let output = '';
    const child = spawn(command[0], command.slice(1), { stdio: ['ignore', 'pipe', 'pipe'] });
    child.stdout.on('data', (chunk) => (output += chunk));
    child.stderr.on('data', (chunk) => (output += chunk));
    child.on('error', (error) => resolve({ ok: false, output: error.message }));
    child.on('close', (status) => resolve({ ok: status === 0, output }));
  });
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
    /^native\/(core|ops|binding)\/.*\.cc$/.test(file) && (process.env.CI !== undefined || changed.has(file)),
);

/** The addon reports its signatures, so it is built first. */
async function nativeTypes() {
  const built = await run(['node', 'scripts/native.mjs', 'build']);
  return built.ok ? run(['node', 'scripts/generate-native-types.mjs', '--check']) : built;
}

async function clangFormat() {
  const { ok, output } = await run(['clang-format', '--dry-run', '-Werror', ...nativeFiles]);
  const files = new Set([...output.matchAll(/^(\S+?):\d+:\d+: error/gm)].map((match) => match[1]));
  return {
    ok,
    output: files.size > 0 ? `npm run format would change\n  ${[...files].join('\n  ')}` : output,
  };
}

// The compilation database speaks GCC's language where GCC is the compiler.
const tidyFlags = ['--quiet', '-p', 'build/cmake', '--extra-arg=-Wno-unknown-warning-option'];

async function clangTidy() {
  const configured = await run(['node', 'scripts/native.mjs', 'configure']);
  if (!configured.ok) return configured;
  const queue = [...tidyFiles];
  const results = [];
  const worker = async () => {
    for (let file = queue.pop(); file !== undefined; file = queue.pop()) {
      results.push(await run(['clang-tidy', ...tidyFlags, file]));
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
  const failed = results.filter((result) => !result.ok);
  const output = failed.map((result) => result.output).join('');
  return { ok: failed.length === 0, output: output.replace(/^\d+ warnings.* generated\.\n/gm, '') };
}

function clangTool(name, step) {
  const missing = `${name} is missing: run bash scripts/setup.sh --dev`;
  return async () => (spawnSync(name, ['--version']).status === 0 ? step() : { ok: false, output: missing });
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

for (const [name, step] of Object.entries(steps)) {
  const started = performance.now();
  const { ok, output } = await step();
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  console.log(`${ok ? 'ok    ' : 'FAILED'} ${name} (${seconds} s)`);
  if (!ok) {
    console.log(output.trimEnd());
    process.exitCode = 1;
  }
}
