/**
 * einsum against loops over all indices, in plain JavaScript.
 */
import test, { type ExecutionContext } from 'ava';

import { einsum } from '../../src/ops/einsum.js';
import { tensor, zeros } from '../../src/ops/index.js';
import { type ErrorCode, type Tensor, TensorError, leakCheck } from '../../src/tensor/index.js';
import { planEinsum } from '../../src/tensor/einsum.js';

interface Values {
  readonly shape: readonly number[];
  readonly data: readonly number[];
}

/** Small whole numbers, so that products and sums are exact. */
function values(shape: readonly number[], seed: number): Values {
  const size = shape.reduce((a, b) => a * b, 1);
  return { shape, data: Array.from({ length: size }, (_, i) => ((i * 7 + seed * 3) % 11) - 5) };
}

const upload = ({ shape, data }: Values): Tensor<'float64'> =>
  tensor(Float64Array.from(data), { shape, dtype: 'float64' });

/** The definition: for each value of all indices, add the product of the operands to the output. Letters only. */
function reference(equation: string, operands: readonly Values[]): Values {
  const [left, output] = equation.split('->');
  const terms = left.split(',');
  const sizes = new Map<string, number>();
  terms.forEach((term, i) => [...term].forEach((index, dim) => sizes.set(index, operands[i].shape[dim])));
  const indices = [...sizes.keys()];
  const sizeOf = (index: string): number => sizes.get(index) ?? 1;
  const offset = (term: string, at: ReadonlyMap<string, number>): number =>
    [...term].reduce((total, index) => total * sizeOf(index) + (at.get(index) ?? 0), 0);
  const shape = [...output].map(sizeOf);
  const data = new Array<number>(shape.reduce((a, b) => a * b, 1)).fill(0);
  const visit = (depth: number, at: Map<string, number>): void => {
    if (depth === indices.length) {
      data[offset(output, at)] += operands.reduce((p, { data }, i) => p * data[offset(terms[i], at)], 1);
      return;
    }
    for (let i = 0; i < sizeOf(indices[depth]); i++) visit(depth + 1, at.set(indices[depth], i));
  };
  visit(0, new Map());
  return { shape, data };
}

async function agrees(
  t: ExecutionContext,
  equation: string,
  shapes: readonly (readonly number[])[],
  spelled = equation,
): Promise<void> {
  const operands = shapes.map((shape, i) => values(shape, i));
  const expected = reference(spelled, operands);
  const result = einsum(equation, ...operands.map(upload));
  t.deepEqual(result.shape, expected.shape, equation);
  t.deepEqual(
    Array.from(await result.data(), (v) => v + 0),
    expected.data.map((v) => v + 0),
    equation,
  );
}

const [b, h, i, j, k, d] = [2, 3, 4, 5, 6, 7];

test('one operand: order, sums, and the whole', async (t) => {
  await agrees(t, 'ij->ji', [[i, j]]);
  await agrees(t, 'ij->ij', [[i, j]]);
  await agrees(t, 'ijk->ki', [[i, j, k]]);
  await agrees(t, 'ijk->j', [[i, j, k]]);
  await agrees(t, 'ij->', [[i, j]]);
  await agrees(t, '->', [[]]);
});

test('two operands: batch, contracted, free and summed indices', async (t) => {
  await agrees(t, 'ij,jk->ik', [[i, j], [j, k]]); // prettier-ignore
  await agrees(t, 'ji,kj->ki', [[j, i], [k, j]]); // prettier-ignore
  await agrees(t, 'bhid,bhjd->bhij', [[b, h, i, d], [b, h, j, d]]); // prettier-ignore
  await agrees(t, 'bhij,bhjd->bihd', [[b, h, i, j], [b, h, j, d]]); // prettier-ignore
  await agrees(t, 'bihd,bjhd->hbji', [[b, i, h, d], [b, j, h, d]]); // prettier-ignore
  await agrees(t, 'hbi,bjh->ji', [[h, b, i], [b, j, h]]); // prettier-ignore
  await agrees(t, 'i,i->', [[i], [i]]);
  await agrees(t, 'bi,bi->b', [[b, i], [b, i]]); // prettier-ignore
  await agrees(t, 'ij,ji->', [[i, j], [j, i]]); // prettier-ignore
  await agrees(t, 'i,j->ji', [[i], [j]]);
  await agrees(t, 'bi,bj->bij', [[b, i], [b, j]]); // prettier-ignore
  await agrees(t, 'ij,ji->ij', [[i, j], [j, i]]); // prettier-ignore
  await agrees(t, 'ijd,jk->k', [[i, j, d], [j, k]]); // prettier-ignore
  await agrees(t, 'i,j->', [[i], [j]]);
  await agrees(t, ',ij->ji', [[], [i, j]]);
  await agrees(t, 'ij,jk->ik', [[i, 0], [0, k]]); // prettier-ignore
  await agrees(t, 'ij,jk->ik', [[i, 1], [1, k]]); // prettier-ignore
});

test('three and four operands are contracted from left to right', async (t) => {
  await agrees(t, 'ij,jk,kd->id', [[i, j], [j, k], [k, d]]); // prettier-ignore
  await agrees(t, 'bi,bj,bk->bijk', [[b, i], [b, j], [b, k]]); // prettier-ignore
  await agrees(t, 'i,ij,j->', [[i], [i, j], [j]]); // prettier-ignore
  await agrees(t, 'ij,ik,jk,i->kj', [[i, j], [i, k], [j, k], [i]]); // prettier-ignore
});

test('without an arrow, the indices that occur once, capitals first', async (t) => {
  await agrees(t, 'ij,jk', [[i, j], [j, k]], 'ij,jk->ik'); // prettier-ignore
  await agrees(t, 'ba', [[b, i]], 'ba->ab');
  await agrees(t, 'aB', [[b, i]], 'aB->Ba');
  await agrees(t, 'i,i', [[i], [i]], 'i,i->');
  await agrees(t, ' i j , j k -> i k ', [[i, j], [j, k]], 'ij,jk->ik'); // prettier-ignore
  await agrees(t, '...ij,...jk', [[b, h, i, j], [b, h, j, k]], 'xyij,xyjk->xyik'); // prettier-ignore
});

test('the ellipsis stands for any dimensions, and broadcasts', async (t) => {
  await agrees(t, '...ij,jk->...ik', [[b, h, i, j], [j, k]], 'xyij,jk->xyik'); // prettier-ignore
  await agrees(t, '...ij,...jk->...ik', [[b, h, i, j], [h, j, k]], 'xyij,yjk->xyik'); // prettier-ignore
  await agrees(t, 'i...,...j->j...i', [[i, b, h], [h, j]], 'ixy,yj->jxyi'); // prettier-ignore
  await agrees(t, '...c->...', [[b, h, d]], 'xyc->xy');
  await agrees(t, '...i->i', [[b, h, i]], 'xyi->i');
  await agrees(t, '...,...->...', [[b, h], [b, h]], 'xy,xy->xy'); // prettier-ignore
  await agrees(t, '...i->i...', [[i]], 'i->i');

  const [wide, tall] = [values([b, 1, i, j], 1), values([h, j, k], 2)];
  const result = einsum('...ij,...jk->...ik', upload(wide), upload(tall));
  const expected = reference('xij,yjk->xyik', [{ shape: [b, i, j], data: wide.data }, tall]);
  t.deepEqual(result.shape, [b, h, i, k]);
  t.deepEqual(Array.from(await result.data()), expected.data);
  const product = einsum('...,...', upload(values([b, 1], 1)), upload(values([1, h], 2)));
  t.deepEqual(product.shape, [b, h]);
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

test('gradients are the einsums with the output in place of an operand', async (t) => {
  const [x, y, dy] = [values([b, i, d], 1), values([b, j, d], 2), values([j, b, i], 3)];
  const [a, c] = [upload(x).setRequiresGrad(), upload(y).setRequiresGrad()];
  einsum('bid,bjd->jbi', a, c).backward({ gradient: upload(dy) });
  t.deepEqual(Array.from(await (a.grad ?? a).data()), reference('jbi,bjd->bid', [dy, y]).data);
  t.deepEqual(Array.from(await (c.grad ?? c).data()), reference('jbi,bid->bjd', [dy, x]).data);
});

// leakCheck sees the tensors of every test that runs meanwhile, so this one runs alone.
test.serial('the result is a tensor of its own, and nothing else is left', async (t) => {
  const x = tensor([[1, 2], [3, 4]]); // prettier-ignore
  einsum('ij->ij', x).dispose();
  const v = tensor([1, 2]);
  const y = await leakCheck(() => einsum('ij,jk,k->i', x, x, v));
  t.deepEqual(Array.from(await y.data()), [27, 59]);
  t.deepEqual(Array.from(await x.data()), [1, 2, 3, 4]);
});

test('errors show the equation and the shapes', (t) => {
  const throws = (run: () => unknown, code: ErrorCode, message: string): void => {
    const error = t.throws(run, { instanceOf: TensorError });
    t.is(error.message, message);
    t.is(error.code, code);
  };
  const m = zeros([2, 3]);
  throws(
    () => einsum('ij,jk->ik', m, m),
    'SHAPE',
    "einsum: expected one size for index 'j' in 'ij,jk->ik', got shapes [2, 3], [2, 3]",
  );
  throws(
    () => einsum('ij,jk->ik', m, zeros([1, 3])),
    'SHAPE',
    "einsum: expected one size for index 'j' in 'ij,jk->ik', got shapes [2, 3], [1, 3]",
  );
  throws(
    () => einsum('...,...', m, zeros([3, 3])),
    'SHAPE',
    "einsum: expected dimensions of '...' that broadcast in '...,...', got shapes [2, 3], [3, 3]",
  );
  throws(() => einsum('ij,jk->ik', m), 'VALUE', "einsum: expected 2 operands for 'ij,jk->ik', got 1");
  throws(
    () => einsum('ijk->k', m),
    'SHAPE',
    "einsum: expected 3 dimensions for 'ijk' in 'ijk->k', got shape [2, 3]",
  );
  throws(
    () => einsum('...ijk->k', m),
    'SHAPE',
    "einsum: expected at least 3 dimensions for '...ijk' in '...ijk->k', got shape [2, 3]",
  );
  throws(
    () => einsum('ii->i', zeros([3, 3])),
    'VALUE',
    "einsum: expected each index once in a term (diagonals are not supported), got 'ii' in 'ii->i'",
  );
  throws(
    () => einsum('ij->iij', m),
    'VALUE',
    "einsum: expected each index once in a term (diagonals are not supported), got 'iij' in 'ij->iij'",
  );
  throws(
    () => einsum('ij->ik', m),
    'VALUE',
    "einsum: expected output indices that an operand has, got 'k' in 'ij->ik'",
  );
  throws(
    () => einsum('ij->...i', m),
    'VALUE',
    "einsum: expected output indices that an operand has, got '...' in 'ij->...i'",
  );
  throws(
    () => einsum('i*j', m),
    'VALUE',
    "einsum: expected letters, commas, '...' and '->', got '*' in 'i*j'",
  );
  throws(() => einsum('ij->i->j', m), 'VALUE', "einsum: expected one '->' at most, got 'ij->i->j'");
});
