/**
 * Results as a table for the terminal: a row for each case, a column for each system.
 */
import Table from 'cli-table3';

import { PEAK, PERCENT, type Result, SPEEDUP } from './results.js';
import type { ProfileRow } from './system.js';

/** Three digits that matter: 0.0123, 1.23, 12.3, 1230. */
export function formatValue(value: number): string {
  return value >= 100 ? value.toFixed(0) : Number(value.toPrecision(3)).toString();
}

/** `name (unit)` of a row, with one cell for each system. */
type Row = readonly [label: string, unit: string, ...cells: string[]];

/** The rows of one suite: each rival's value with Tenon's speed over it, and what share of its limit Tenon reaches. */
export function tableRows(results: readonly Result[], systems: readonly string[]): Row[] {
  const names = [...new Set(results.map((result) => result.case))];
  return names.flatMap((name): Row[] => {
    const mine = results.filter((result) => result.case === name);
    const find = (system: string, metric: string): Result | undefined =>
      mine.find((result) => result.system === system && result.metric === metric);
    const { metric, unit } = mine[0];
    const main = systems.map((system) => {
      const value = find(system, metric);
      if (value === undefined) return '';
      const share = system === 'tenon' ? find(system, PERCENT) : undefined;
      const ratio = find(system, SPEEDUP);
      const note =
        ratio !== undefined
          ? ` (${ratio.value.toFixed(2)}x)`
          : share !== undefined
            ? ` (${share.value.toFixed(0)} %)`
            : '';
      return formatValue(value.value) + note;
    });
    const memory = systems.map((system) => {
      const peak = find(system, PEAK);
      return peak === undefined ? '' : peak.value.toFixed(0);
    });
    const hasMemory = memory.some((cell) => cell !== '');
    return [[name, unit, ...main], ...(hasMemory ? [[`  ${PEAK}`, 'MiB', ...memory] as const] : [])];
  });
}

/** The table of one suite. */
export function formatTable(suite: string, results: readonly Result[], systems: readonly string[]): string {
  const table = new Table({
    head: [suite, 'unit', ...systems],
    colAligns: ['left', 'left', ...systems.map(() => 'right' as const)],
    style: { head: [], border: [], compact: true },
  });
  for (const row of tableRows(results, systems)) table.push([...row]);
  return table.toString();
}

/** The slowest ops of one run. */
export function formatProfile(title: string, rows: readonly ProfileRow[], most = 25): string {
  const total = rows.reduce((sum, { milliseconds }) => sum + milliseconds, 0);
  const table = new Table({
    head: [title, 'calls', 'ms', '%'],
    colAligns: ['left', 'right', 'right', 'right'],
    style: { head: [], border: [], compact: true },
  });
  for (const { op, calls, milliseconds } of rows.slice(0, most)) {
    table.push([op, calls.toFixed(0), milliseconds.toFixed(2), ((100 * milliseconds) / total).toFixed(1)]);
  }
  table.push(['total', '', total.toFixed(2), '100.0']);
  return table.toString();
}
