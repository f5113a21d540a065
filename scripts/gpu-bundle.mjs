// `npm run gpu:bundle`: packs Node, the built addon and CUDA plugin, tests and benchmarks for a machine with an NVIDIA driver and
// CUDA's libraries but no Node, compiler or network. There: tar xf tenon-gpu.tar.xz && tenon-gpu/run.sh
//
//   node scripts/gpu-bundle.mjs [--no-build] [--out FILE]    --no-build packs what build/ and dist/ hold
import { execFileSync, spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { buildAddon, buildCuda } from './native.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const MOST_BYTES = 45e6;
/** Hopper, and PTX for what comes after it. */
const ARCHITECTURES = ['90'];
/** What no program there needs. */
const LEFT_OUT = new RegExp(
  [
    String.raw`\.(map|d\.ts|d\.mts|d\.cts|md|tsbuildinfo)$`,
    '/echarts/(dist|types|i18n|ssr)$',
    '/zod/src$',
    String.raw`/lodash/(?!lodash\.js$|package\.json$)`, // benchmark.js takes the one file
  ].join('|'),
);
/** Packages that build, and do not run. */
const BUILD_ONLY = new Set(['cmake-js', 'node-gyp', 'node-addon-api', 'node-api-headers']);

const read = (path) => JSON.parse(readFileSync(path, 'utf8'));
const output = (command, ...args) => execFileSync(command, args, { cwd: root, encoding: 'utf8' });

/** The folders of packages and of all that they need, found as Node finds them. */
function packages(names) {
  const found = new Set();
  const visit = (name, from) => {
    for (let folder = from; ; folder = dirname(folder)) {
      const place = join(folder, 'node_modules', name);
      if (existsSync(place)) {
        if (found.has(place)) return;
        found.add(place);
        const { dependencies = {}, optionalDependencies = {} } = read(join(place, 'package.json'));
        for (const next of Object.keys({ ...dependencies, ...optionalDependencies })) visit(next, place);
        return;
      }
      if (folder === root) return; // an optional one for another platform
    }
  };
  for (const name of names) visit(name, root);
  return [...found];
}

/** The shared libraries of a program, but for the C library's own and those that are packed already. */
function libraries(file) {
  return output('ldd', file)
    .split('\n')
    .map((line) => /=> (\/\S+)/.exec(line)?.[1])
    .filter(
      (path) =>
        path !== undefined && !/\/(libc|libm|libdl|libpthread|librt|libresolv|ld-linux[^/]*)\.so/.test(path),
    );
}

function copy(from, to) {
  cpSync(from, to, { recursive: true, dereference: true, filter: (path) => !LEFT_OUT.test(path) });
}

function strip(file) {
  spawnSync('strip', ['--strip-unneeded', file]); // smaller where there is strip
}

async function build() {
  await buildAddon();
  await buildCuda(ARCHITECTURES);
  execFileSync('node_modules/.bin/tsc', ['-p', 'tsconfig.json'], { cwd: root, stdio: 'inherit' });
}

async function main() {
  const { values } = parseArgs({
    options: { 'no-build': { type: 'boolean' }, out: { type: 'string', default: 'build/tenon-gpu.tar.xz' } },
  });
  if (!values['no-build']) await build();
  const stage = join(root, 'build', 'tenon-gpu');
  rmSync(stage, { recursive: true, force: true });
  for (const folder of ['bin', 'lib/cxx', 'build/Release'])
    mkdirSync(join(stage, folder), { recursive: true });

  cpSync(process.execPath, join(stage, 'bin/node'));
  strip(join(stage, 'bin/node'));
  for (const file of ['tenon.node', 'tenon_cuda.so']) {
    cpSync(join(root, 'build/Release', file), join(stage, 'build/Release', file));
    strip(join(stage, 'build/Release', file));
  }
  for (const path of libraries(join(root, 'build/Release/tenon.node'))) {
    // The compiler's libraries need a C library as new as this machine's: for machines whose own are too old (run.sh).
    const folder = /^lib(stdc\+\+|gcc_s)\.so/.test(basename(path)) ? 'lib/cxx' : 'lib';
    cpSync(realpathSync(path), join(stage, folder, basename(path)));
    strip(join(stage, folder, basename(path)));
  }
  const { dependencies } = read(join(root, 'package.json'));
  const wanted = Object.keys(dependencies).filter((name) => !BUILD_ONLY.has(name));
  for (const folder of packages([...wanted, 'ava', '@ava/typescript', 'benchmark'])) {
    copy(folder, join(stage, folder.slice(root.length + 1)));
  }
  copy(join(root, 'dist'), join(stage, 'dist'));
  // AVA finds tests by their sources, which it then reads from dist/.
  for (const path of ['package.json', 'test', 'bench/rivals', 'src/index.ts'])
    copy(join(root, path), join(stage, path));
  cpSync(join(root, 'gpu/run.sh'), join(stage, 'run.sh'));
  const changed = output('git', 'status', '--porcelain', '--', 'native', 'src') !== '';
  writeFileSync(
    join(stage, 'commit'),
    `${output('git', 'rev-parse', '--short', 'HEAD').trim()}${changed ? '+' : ''}\n`,
  );

  const archive = join(root, values.out);
  // A filter for x86's jumps, and the dictionary that spans it all: 5 % smaller than xz -9.
  const xz = 'xz --x86 --lzma2=preset=9e,dict=128MiB,pb=0,lc=4 --stdout';
  const pipe = `set -o pipefail; tar -c -C build tenon-gpu | ${xz} >"$0"`;
  execFileSync('bash', ['-c', pipe, archive], { cwd: root });
  const { size } = statSync(archive);
  console.log(`${values.out}: ${(size / 1e6).toFixed(1)} MB`);
  if (size > MOST_BYTES)
    throw new Error(`gpu:bundle: expected at most ${MOST_BYTES / 1e6} MB, got ${size / 1e6}`);
}

try {
  await main();
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
