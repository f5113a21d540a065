/**
 * Folds the report of the op table's tests (test/helpers/op-case.ts) into the file that is kept in bench/results/, from which
 * scripts/op-table.mjs says what has run on a GPU.
 *
 *   node dist/gpu/ops-report.js results/ops.jsonl >results/gpu-ops.json
 */
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

import { commit, describeMachine, tenonVersion } from '../bench/machine.js';
import type { Fact } from '../test/helpers/op-case.js';

/** What one op showed on a GPU. */
export interface OpReport {
  /** Facts that held, and that did not. */
  readonly passed: number;
  readonly failed: number;
  /** Of results that agreed with the reference. */
  readonly dtypes: readonly string[];
  /** Launched by facts that held. */
  readonly kernels: readonly string[];
}

export interface OpsReport {
  readonly date: string;
  readonly machine: ReturnType<typeof describeMachine>;
  readonly commit: string | undefined;
  readonly versions: Readonly<Record<string, string>>;
  readonly ops: Readonly<Record<string, OpReport>>;
}

/** By op, in the order of their names. A line that breaks off, where a test ended the process, does not count. */
export function foldFacts(lines: readonly string[]): Record<string, OpReport> {
  const facts = lines.flatMap((line): Fact[] => {
    try {
      return [JSON.parse(line) as Fact];
    } catch {
      return [];
    }
  });
  const ops = [...new Set(facts.map(({ op }) => op))].sort();
  return Object.fromEntries(
    ops.map((op) => {
      const own = facts.filter((fact) => fact.op === op && fact.device !== 'cpu');
      const held = own.filter(({ passed }) => passed);
      const unique = (names: readonly string[]): string[] => [...new Set(names)].sort();
      const report: OpReport = {
        passed: held.length,
        failed: own.length - held.length,
        dtypes: unique(held.flatMap(({ dtype }) => dtype ?? [])),
        kernels: unique(held.flatMap(({ kernels }) => kernels)),
      };
      return [op, report];
    }),
  );
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const report: OpsReport = {
    date: new Date().toISOString().slice(0, 10),
    machine: describeMachine('cuda'),
    commit: commit(),
    versions: { node: process.versions.node, tenon: tenonVersion() },
    ops: foldFacts(readFileSync(process.argv[2], 'utf8').trimEnd().split('\n')),
  };
  console.log(JSON.stringify(report, null, 2));
}
