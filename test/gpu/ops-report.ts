/**
 * What is kept of the op table's tests on a GPU.
 */
import test from 'ava';

import { foldFacts } from '../../gpu/ops-report.js';
import type { Fact } from '../helpers/op-case.js';

const line = (fact: Partial<Fact>): string =>
  JSON.stringify({ op: 'softmax', device: 'cuda:0', fact: 'f', passed: true, kernels: [], ...fact });

test('facts are counted by op, and only what holds on a GPU shows dtypes and kernels', (t) => {
  const report = foldFacts([
    line({ dtype: 'float32', kernels: ['softmax'] }),
    line({ dtype: 'float32', kernels: ['softmax', 'softmax_backward'] }),
    line({ dtype: 'bfloat16', kernels: ['copy'], passed: false }),
    line({ device: 'cpu', dtype: 'float64', kernels: ['fill'] }),
    line({ op: 'add', dtype: 'int32', kernels: ['binary'] }),
    line({ op: 'add' }).slice(0, 20),
  ]);
  t.deepEqual(Object.keys(report), ['add', 'softmax']);
  t.deepEqual(report['add'], { passed: 1, failed: 0, dtypes: ['int32'], kernels: ['binary'] });
  t.deepEqual(report['softmax'], {
    passed: 2,
    failed: 1,
    dtypes: ['float32'],
    kernels: ['softmax', 'softmax_backward'],
  });
});
