/**
 * `npm run bench -- [options] [filter]`
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname } from 'node:path';

import { Command, InvalidArgumentError, Option } from 'commander';

import { Harness } from './harness.js';
import { commit, describeMachine } from './machine.js';
import { DEFAULT_SYSTEMS, SYSTEMS, isPython, systemCommand } from './process.js';
import type { Result, ResultsFile } from './results.js';
import { selectCases } from './suites.js';
import { formatProfile, formatTable } from './table.js';
import type { BenchDevice, Case } from './tasks.js';

interface Options {
  readonly json?: string;
  readonly python?: string;
  readonly threads: number;
  readonly rounds: number;
  readonly systems?: readonly string[];
  readonly device: BenchDevice;
  readonly profile?: boolean;
  readonly list?: boolean;
}

function count(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1)
    throw new InvalidArgumentError('Expected a whole number of at least 1.');
  return value;
}

function systemList(text: string): string[] {
  const names = text.split(',');
  const unknown = names.find((name) => !(SYSTEMS as readonly string[]).includes(name));
  if (unknown !== undefined) throw new InvalidArgumentError(`Expected some of ${SYSTEMS.join(', ')}.`);
  return SYSTEMS.filter((name) => names.includes(name));
}

/** What goes on, on standard error: the tables alone are on standard output. */
function log(line: string): void {
  console.error(line);
}

async function load(harness: Harness, { systems, python, device }: Options): Promise<void> {
  const wanted = systems ?? DEFAULT_SYSTEMS[device];
  const present = wanted.filter((name) => !isPython(name) || python !== undefined);
  await harness.load(present.map((name) => systemCommand(name, python ?? '')));
  for (const name of wanted.filter((name) => !present.includes(name)))
    harness.absent[name] = 'name a Python that has torch with --python';
  for (const [name, reason] of Object.entries(harness.absent)) log(`${name} is absent: ${reason}`);
}

function resultsFile(harness: Harness, { rounds, device }: Options, results: readonly Result[]): ResultsFile {
  return {
    date: new Date().toISOString().slice(0, 10),
    machine: describeMachine(device),
    commit: commit(),
    versions: Object.assign(
      { node: process.versions.node },
      ...harness.systems.map(({ about }) => about.versions),
    ) as Record<string, string>,
    threads: Object.fromEntries(harness.systems.map(({ command, about }) => [command.name, about.threads])),
    rounds,
    absent: harness.absent,
    results,
  };
}

async function measure(harness: Harness, cases: readonly Case[], options: Options): Promise<void> {
  const systems = harness.systems.map(({ command }) => command.name);
  const results: Result[] = [];
  for (const [i, item] of cases.entries()) {
    log(`${i + 1}/${cases.length} ${item.suite}/${item.name}`);
    results.push(...(await harness.run(item)));
    if (options.json !== undefined) {
      mkdirSync(dirname(options.json), { recursive: true });
      writeFileSync(options.json, `${JSON.stringify(resultsFile(harness, options, results), null, 1)}\n`);
    }
  }
  for (const suite of new Set(results.map(({ suite }) => suite))) {
    console.log(
      formatTable(
        suite,
        results.filter((result) => result.suite === suite),
        systems,
      ),
    );
  }
  console.log("(n %): share of the machine's limit. (n x): how many times faster Tenon is.");
}

async function profile(harness: Harness, cases: readonly Case[]): Promise<void> {
  for (const item of cases) {
    for (const [system, rows] of await harness.profile(item)) {
      console.log(formatProfile(`${item.suite}/${item.name}, ${system}`, rows));
    }
  }
}

async function run(filter: string | undefined, options: Options): Promise<void> {
  const cases = selectCases(filter, options.device);
  if (options.list === true) {
    for (const { suite, name } of cases) console.log(`${suite}/${name}`);
    return;
  }
  const harness = new Harness(options.threads, options.rounds, options.device, log);
  try {
    await load(harness, options);
    if (harness.systems.length === 0) throw new RangeError('bench: expected a system to measure, found none');
    await (options.profile === true ? profile(harness, cases) : measure(harness, cases, options));
  } finally {
    await harness.end();
  }
}

const program = new Command('bench')
  .description('Measures Tenon and its rivals, side by side.')
  .argument('[filter]', 'a part of "suite/case", e.g. models or kernels/attention')
  .option('--json <file>', 'write machine, versions and results')
  .option('--python <path>', 'a Python that has torch')
  .option('--threads <n>', 'threads of every system', count, availableParallelism())
  .option('--rounds <n>', 'how often to go around the systems', count, 3)
  .option('--systems <list>', `some of ${SYSTEMS.join(',')}`, systemList)
  .addOption(
    new Option('--device <name>', 'where all compute')
      .choices(['cpu', 'cuda'] as const)
      .default('cpu' as const),
  )
  .option('--profile', 'the time of each op in Tenon and PyTorch, instead of a measurement')
  .option('--list', 'list the cases')
  .action(run);

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof RangeError)) throw error; // a defect: its stack is wanted
  console.error(error.message);
  process.exitCode = 1;
}
