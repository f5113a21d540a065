/**
 * einsum against loops over all indices, in plain JavaScript.
 */
import test from 'ava';

import { leakCheck, tensor, zeros } from '../../src/index.js';
import * as ops from '../../src/ops/einsum.js';
import { planEinsum } from '../../src/tensor/einsum.js';
import { opCases } from '../helpers/op-case.js';
import { type Nd, random, table } from '../helpers/nd.js';

const { einsum } = ops;

/** Equations with an ellipsis or without an arrow, in letters alone. */
const SPELLED: Readonly<Record<string, string>> = {
  'ij,jk': 'ij,jk->ik',
  ba: 'ba->ab',
  aB: 'aB->Ba',
  'i,i': 'i,i->',
  ' i j , j k -> i k ': 'ij,jk->ik',
  '...ij,...jk': 'xyij,xyjk->xyik',
  '...,...->...': 'xy,xy->xy',
  '...i->i...': 'i->i',
  '...,...': 'xy,xy->xy',
  '...i,ij->...j': 'xyi,ij->xyj',
};

/** The definition: for each value of all indices, add the product of the operands to the output. */
function reference(equation: string, ...operands: readonly Nd[]): Nd {
  const [left, output] = (SPELLED[equation] ?? equation).split('->');
  const terms = left.split(',');
  const sizes = new Map<string, number>();
  // A size of 1 under an ellipsis gives way to the other operand's.
  terms.forEach((term, i) =>
    [...term].forEach((index, dim) => {
      const n = operands[i].shape[dim];
      if (n !== 1 || !sizes.has(index)) sizes.set(index, n);
    }),
  );
  const indices = [...sizes.keys()];
  const out = table(
    [...output].map((index) => sizes.get(index) ?? 1),
    () => 0,
  );
  table([...sizes.values()], (...at) => {
    const value = (index: string): number => at[indices.indexOf(index)];
    const place = [...output].reduce((total, index) => total * (sizes.get(index) ?? 1) + value(index), 0);
    const factors = operands.map((x, i) =>
      x.at([...terms[i]].map((index, dim) => (x.shape[dim] === 1 ? 0 : value(index)))),
    );
    return (out.data[place] += factors.reduce((a, b) => a * b, 1));
  });
  return out;
}

const sizes: Readonly<Record<string, number>> = {
  a: 3,
  b: 2,
  B: 4,
  h: 3,
  i: 4,
  j: 5,
  k: 6,
  d: 7,
  x: 2,
  y: 3,
};

/** An equation and operands whose sizes follow from its letters. */
const sample = (equation: string): unknown[] => {
  const terms = (SPELLED[equation] ?? equation).split('->')[0].split(',');
  return [
    equation,
    ...terms.map((term) =>
      random(
        [...term].map((index) => sizes[index]),
        -1,
        1,
      ),
    ),
  ];
};

const m = zeros([2, 3]);

opCases(ops, {
  einsum: {
    reference,
    samples: [
      // one operand: order, sums, and the whole
      ...['ij->ji', 'ij->ij', 'ijk->ki', 'ijk->j', 'ij->', '->'].map(sample),
      // two: batch, contracted, free and summed indices
      ...[
        'ij,jk->ik',
        'ji,kj->ki',
        'bhid,bhjd->bhij',
        'bhij,bhjd->bihd',
        'bihd,bjhd->hbji',
        'hbi,bjh->ji',
      ].map(sample),
      ...[
        'i,i->',
        'bi,bi->b',
        'ij,ji->',
        'i,j->ji',
        'bi,bj->bij',
        'ij,ji->ij',
        'ijd,jk->k',
        'i,j->',
        ',ij->ji',
      ].map(sample),
      // three and four, from left to right
      ...['ij,jk,kd->id', 'bi,bj,bk->bijk', 'i,ij,j->', 'ij,ik,jk,i->kj'].map(sample),
      // without an arrow, the indices that occur once, capitals first; the ellipsis broadcasts
      ...Object.keys(SPELLED).map(sample),
      ['...ij,...jk', random([2, 1, 4, 5]), random([1, 3, 5, 6])],
      ['...,...', random([2, 1]), random([1, 3])],
      ['ij,jk->ik', random([4, 0]), random([0, 6])],
      ['ij,jk->ik', random([4, 1]), random([1, 6])],
      ['ij,jk->ik', random([0, 4]), random([4, 6])],
    ],
    roundings: 8,
    errors: [
      [
        () => ops.einsum('ij,jk->ik', m, m),
        'SHAPE',
        "einsum: expected one size for index 'j' in 'ij,jk->ik', got shapes [2, 3], [2, 3]",
      ],
      [
        () => ops.einsum('ij,jk->ik', m, zeros([1, 3])),
        'SHAPE',
        "einsum: expected one size for index 'j' in 'ij,jk->ik', got shapes [2, 3], [1, 3]",
      ],
      [
        () => ops.einsum('...,...', m, zeros([3, 3])),
        'SHAPE',
        "einsum: expected dimensions of '...' that broadcast in '...,...', got shapes [2, 3], [3, 3]",
      ],
      [() => ops.einsum('ij,jk->ik', m), 'VALUE', "einsum: expected 2 operands for 'ij,jk->ik', got 1"],
      [
        () => ops.einsum('ijk->k', m),
        'SHAPE',
        "einsum: expected 3 dimensions for 'ijk' in 'ijk->k', got shape [2, 3]",
      ],
      [
        () => ops.einsum('...ijk->k', m),
        'SHAPE',
        "einsum: expected at least 3 dimensions for '...ijk' in '...ijk->k', got shape [2, 3]",
      ],
      [
        () => ops.einsum('ii->i', zeros([3, 3])),
        'VALUE',
        "einsum: expected each index once in a term (diagonals are not supported), got 'ii' in 'ii->i'",
      ],
      [
        () => ops.einsum('ij->iij', m),
        'VALUE',
        "einsum: expected each index once in a term (diagonals are not supported), got 'iij' in 'ij->iij'",
      ],
      [
        () => ops.einsum('ij->ik', m),
        'VALUE',
        "einsum: expected output indices that an operand has, got 'k' in 'ij->ik'",
      ],
      [
        () => ops.einsum('ij->...i', m),
        'VALUE',
        "einsum: expected output indices that an operand has, got '...' in 'ij->...i'",
      ],
      [
        () => ops.einsum('i*j', m),
        'VALUE',
        "einsum: expected letters, commas, '...' and '->', got '*' in 'i*j'",
      ],
      [() => ops.einsum('ij->i->j', m), 'VALUE', "einsum: expected one '->' at most, got 'ij->i->j'"],
    ],
  },
});

test('a pair is one batched matmul of views', (t) => {
  const { steps, last } = planEinsum('bhid,bhjd->bhij', [[2, 3, 4, 8], [2, 3, 5, 8]]); // prettier-ignore
  t.deepEqual(steps, [
    {
      product: 'matmul',
      left: { summed: undefined, order: undefined, shape: undefined },
      right: { summed: undefined, order: [0, 1, 3, 2], shape: undefined },
      shape: undefined,
    },
  ]);
  t.deepEqual(last, { summed: undefined, order: undefined, shape: undefined });
});

test.serial('the result is a tensor of its own, and nothing else is left', async (t) => {
  const x = tensor([[1, 2], [3, 4]]); // prettier-ignore
  einsum('ij->ij', x).dispose();
  const v = tensor([1, 2]);
  const y = await leakCheck(() => einsum('ij,jk,k->i', x, x, v));
  t.deepEqual(Array.from(await y.data()), [27, 59]);
  t.deepEqual(Array.from(await x.data()), [1, 2, 3, 4]);
});
