/**
 * The op table on an emulated GPU: each op against its reference, forward and backward, on small samples. And what
 * docs/guides/ops.md says of each op: with TENON_OP_FACTS in the environment, the facts are written to the file of that name, as
 * JSON, for scripts/op-table.mjs.
 */
import '../helpers/emulated-cuda.js';

import { readFileSync, writeFileSync } from 'node:fs';

import test from 'ava';

import '../helpers/every-op.js';
import { opFacts } from '../helpers/op-case.js';
import * as all from '../../src/ops/index.js';

/** Of optimizers and moving averages, which are no ops. */
const UPDATES = ['adam', 'clip', 'global_norm', 'lerp', 'sgd'];

test.serial('facts: every op launches kernels or is a view, and every kernel is launched', (t) => {
  const facts = opFacts();
  const header = readFileSync(new URL('../../../native/backend/backend.h', import.meta.url), 'utf8');
  const kernels = [...header.matchAll(/^ {2}K\((\w+), \w+Args\)/gm)].map((match) => match[1]);
  const path = process.env['TENON_OP_FACTS'];
  if (path !== undefined) writeFileSync(path, JSON.stringify({ ops: facts, kernels }));

  const names = facts.map(({ name }) => name).sort();
  t.deepEqual(
    names,
    Object.keys(all)
      .filter((name) => name !== 'toArray')
      .sort(),
  );
  const kernelsOf = (op: string): readonly string[] | undefined =>
    facts.find(({ name }) => name === op)?.kernels;
  t.deepEqual(kernelsOf('softmax'), ['softmax', 'softmax_backward']);
  t.deepEqual(kernelsOf('reshape'), []);

  const launched = new Set(facts.flatMap((fact) => fact.kernels));
  t.deepEqual(kernels.filter((kernel) => !launched.has(kernel)).sort(), UPDATES);
});
