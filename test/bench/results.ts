import test from 'ava';

import { resultsOf } from '../../bench/results.js';
import { tableRows } from '../../bench/table.js';
import type { Case } from '../../bench/tasks.js';

const item: Case = {
  suite: 'kernels',
  name: 'gemm',
  task: { kind: 'gemm', size: 1000 }, // 2 GFLOP
  memory: true,
};
const outcomes = [
  { system: 'tenon', seconds: [0.1, 0.1, 0.2], peakBytes: 2 ** 20 },
  { system: 'pytorch', seconds: [0.2, 0.3, 0.4], peakBytes: 2 ** 21 },
];

test('a case gives each system its value, its share of the limit, its memory, and Tenon’s speed over it', (t) => {
  const results = resultsOf(item, outcomes, 0.05);
  t.true(results.every((result) => result.suite === 'kernels' && result.case === 'gemm'));
  t.deepEqual(
    results.map(({ system, metric, value, unit }) => [system, metric, value, unit]),
    [
      ['tenon', 'rate', 20, 'GFLOP/s'],
      ['tenon', 'share of limit', 50, '%'],
      ['tenon', 'peak memory', 1, 'MiB'],
      ['pytorch', 'rate', 6.6667, 'GFLOP/s'],
      ['pytorch', 'share of limit', 16.667, '%'],
      ['pytorch', 'peak memory', 2, 'MiB'],
      ['pytorch', "tenon's speed over it", 2, 'x'],
    ],
  );
});

test('the table has a column for each system, with memory in a row of its own', (t) => {
  const rows = tableRows(resultsOf(item, outcomes, 0.05), ['tenon', 'pytorch', 'tfjs-cpu']);
  t.deepEqual(rows, [
    ['gemm', 'GFLOP/s', '20 (50 %)', '6.67 (2.00x)', ''],
    ['  peak memory', 'MiB', '1', '2', ''],
  ]);
});
