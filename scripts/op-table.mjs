// Writes the table of docs/guides/ops.md from facts: the cases of the op table (test/cuda/ops.ts runs them on the CPU and
// tells), and the reports of GPUs in bench/results/ (gpu/ops-report.ts). Needs the addon built.
//   node scripts/op-table.mjs           writes the file
//   node scripts/op-table.mjs --check   exits 1 when it is out of date
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as prettier from 'prettier';

const root = fileURLToPath(new URL('../', import.meta.url));
const target = join(root, 'docs/guides/ops.md');
const results = join(root, 'bench/results');

const FLOATS = ['float32', 'float64', 'bfloat16', 'float16'];
const NUMBERS = [...FLOATS, 'int32', 'int64', 'uint8'];
const GROUPS = { floats: FLOATS, numbers: NUMBERS, all: [...NUMBERS, 'bool'] };

function run(command, args, env = {}) {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    cwd: root,
    encoding: 'utf8',
    env: { ...process.env, ...env },
  });
  if (error) throw error;
  if (status !== 0) throw new Error(`op-table: ${command} ${args.join(' ')} failed\n${stdout}${stderr}`);
}

/** What the cases say of each op, and the kernels that there are. */
function readFacts() {
  const folder = mkdtempSync(join(tmpdir(), 'tenon-op-table-'));
  try {
    const path = join(folder, 'facts.json');
    run('node_modules/.bin/tsc', ['-p', 'tsconfig.json']);
    // TENON_TEST_GPU: no emulated GPU is needed for that test, which is the only one that runs.
    const facts = { TENON_OP_FACTS: path, TENON_TEST_GPU: '1' };
    run('node_modules/.bin/ava', ['test/cuda/ops.ts', '--match', 'facts: *'], facts);
    return JSON.parse(readFileSync(path, 'utf8'));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The reports of GPUs, oldest first. */
function readReports() {
  const reports = [];
  for (const name of readdirSync(results).filter((file) => file.endsWith('.json'))) {
    const report = JSON.parse(readFileSync(join(results, name), 'utf8'));
    if (report.ops === undefined) continue;
    const { date, machine, commit } = report;
    if (!/^NVIDIA /.test(machine.gpu) || !/^[0-9a-f]{7,}\+?$/.test(commit) || !/^\d{4}-\d\d-\d\d$/.test(date))
      throw new Error(`op-table: expected a date, an NVIDIA GPU and a commit in ${name}`);
    reports.push(report);
  }
  return reports.sort((a, b) => a.date.localeCompare(b.date));
}

function dtypesText(dtypes) {
  const same = (group) => group.length === dtypes.length && group.every((dtype) => dtypes.includes(dtype));
  return Object.keys(GROUPS).find((name) => same(GROUPS[name])) ?? dtypes.join(', ');
}

/** Where and when an op last ran on a GPU, and what of it held. */
function gpuText(name, reports) {
  const report = reports.findLast(({ ops }) => ops[name] !== undefined);
  if (report === undefined) return 'never';
  const { passed, failed } = report.ops[name];
  const outcome = failed === 0 ? '' : `: **${failed} of ${passed + failed} tests failed**`;
  return `${report.date}, ${report.machine.gpu}, ${report.commit}${outcome}`;
}

function table(ops, reports) {
  const rows = ops
    .sort((a, b) => a.name.localeCompare(b.name))
    .map(({ name, kernels, dtypes, emulated }) => [
      `\`${name}\``,
      kernels.map((kernel) => `\`${kernel}\``).join(', ') || 'none',
      dtypesText(dtypes),
      emulated ? dtypesText(dtypes) : 'none',
      emulated ? 'yes' : 'no',
      gpuText(name, reports),
    ]);
  const head = ['op', 'kernels', 'tested on the CPU', 'tested on CUDA', 'on the emulator', 'run on a GPU'];
  return [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

/** Which kernels have run on a GPU, by all reports, in tests that passed. */
function kernelsText(kernels, reports) {
  const ran = new Set(reports.flatMap(({ ops }) => Object.values(ops).flatMap((op) => op.kernels)));
  const names = kernels.filter((kernel) => ran.has(kernel)).map((kernel) => `\`${kernel}\``);
  return `Of the ${kernels.length} kernels, these have run on a GPU in tests that passed: ${names.join(', ') || 'none'}.`;
}

const BEGIN = '<!-- The table is written by scripts/op-table.mjs; do not edit. -->';
const END = '<!-- End of the table. -->';

const current = readFileSync(target, 'utf8');
const [before, , after] = current.split(new RegExp(`(?<=${BEGIN})([^]*)(?=${END})`));
if (after === undefined) throw new Error(`op-table: expected the lines ${BEGIN} and ${END} in ${target}`);
const options = (await prettier.resolveConfig(target)) ?? {};
const reports = readReports();
const { ops, kernels } = readFacts();
const text = [before, table(ops, reports), kernelsText(kernels, reports), after].join('\n\n');
const formatted = await prettier.format(text, { ...options, filepath: target });
if (!process.argv.includes('--check')) {
  writeFileSync(target, formatted);
} else if (current !== formatted) {
  console.error('docs/guides/ops.md is out of date: run "node scripts/op-table.mjs"');
  process.exitCode = 1;
}
