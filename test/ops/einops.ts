/**
 * einops against a slow reading of its patterns: every element is looked up through its axes' indices.
 */
import test from 'ava';

import { arange, leakCheck, reshape, tensor, toArray, zeros } from '../../src/index.js';
import * as ops from '../../src/ops/einops.js';
import { type Tensor } from '../../src/tensor/index.js';
import { ALL, opCases } from '../helpers/op-case.js';
import { type Nd, random, sizeOf, table } from '../helpers/nd.js';

const { rearrange, reduce } = ops;

type Sizes = Readonly<Record<string, number>>;
type Group = readonly string[];

/** The groups of one side of a pattern; the ellipsis becomes one group for each dimension that it stands for. */
function groupsOf(side: string, dots: number): Group[] {
  const ellipsis = Array.from({ length: dots }, (_, i) => `.${i}`);
  return (side.match(/\([^)]*\)|\S+/g) ?? []).flatMap((part): Group[] => {
    if (part === '...') return ellipsis.map((axis) => [axis]);
    const names = part
      .replace(/[()]/g, '')
      .split(/\s+/)
      .filter((name) => name !== '' && name !== '1');
    return [names.flatMap((name) => (name === '...' ? ellipsis : [name]))];
  });
}

/** `fold` takes the elements that fall on one element of the result. */
function einops(x: Nd, pattern: string, given: Sizes, fold: (values: number[]) => number): Nd {
  const [left, right] = pattern.split('->');
  const dots = x.shape.length - groupsOf(left.replace('...', ''), 0).length;
  let numbers = 0; // each is an axis of its own
  const numbered = (side: string): string => side.replace(/\b[2-9]\b/g, (n) => `=${n}#${(numbers += 1)}`);
  const [from, to] = [groupsOf(numbered(left), dots), groupsOf(numbered(right), dots)];
  const sizes = new Map(Object.entries(given));
  for (const name of [...from, ...to].flat())
    if (name.startsWith('=')) sizes.set(name, parseInt(name.slice(1)));
  from.forEach((group, dim) => {
    const open = group.find((axis) => !sizes.has(axis));
    const known = group.reduce((product, axis) => product * (sizes.get(axis) ?? 1), 1);
    if (open !== undefined) sizes.set(open, x.shape[dim] / known);
  });
  const size = (axis: string): number => sizes.get(axis) ?? 1;
  const axes = [...new Set([...from, ...to].flat())];
  const shape = to.map((group) => sizeOf(group.map(size)));
  const found = Array.from({ length: sizeOf(shape) }, (): number[] => []);
  table(axes.map(size), (...index) => {
    const at = (group: Group): number =>
      group.reduce((offset, axis) => offset * size(axis) + index[axes.indexOf(axis)], 0);
    const place = to.reduce((offset, group, dim) => offset * shape[dim] + at(group), 0);
    return found[place].push(x.at(from.map(at)));
  });
  const flat = found.map(fold);
  let next = 0;
  return table(shape, () => flat[next++]);
}

const only = (values: readonly number[]): number => values[0];
const total = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

const FOLDS = {
  max: (values: readonly number[]) => Math.max(...values),
  min: (values: readonly number[]) => Math.min(...values),
  sum: total,
  mean: (values: readonly number[]) => total(values) / values.length,
};

const KINDS = ['max', 'min', 'sum', 'mean'] as const;

const late: string = 'a b -> a n b';

opCases(ops, {
  rearrange: {
    reference: (x: Nd, pattern: string, sizes: Sizes = {}) => einops(x, pattern, sizes, only),
    samples: [
      [random([2, 8, 12, 3]), 'b (h p) (w q) c -> b (h w) (p q c)', { p: 4, q: 4 }],
      [random([2, 6, 48]), 'b (h w) (p q c) -> b (h p) (w q) c', { h: 2, p: 4, q: 4 }],
      [random([2, 3, 4]), 'a b c -> c a b'],
      [random([2, 3, 4]), '... c -> c ...'],
      [random([2, 3, 4]), 'a ... -> a (...)'],
      [random([2, 3, 4]), '... -> (...)'],
      [random([2, 3, 4]), '(x a) ... -> x ... a', { x: 1 }],
      [random([2, 3, 4]), 'a b c -> a 1 b () (c 1)'],
      [random([2, 3]), 'a b -> a b'],
      [random([1, 3, 1]), '1 b () -> b'],
      [random([]), ' -> 1'],
      [random([]), '... -> ... 1'],
      [random([3]), 'c ... -> ... c'],
      [random([0, 8]), 'a (b c) -> (a b) c', { c: 4 }],
    ],
    dtypes: ALL,
    errors: [
      [
        () => ops.rearrange(zeros([2, 7]), 'b (h p) -> b h p', { p: 4 }),
        'SHAPE',
        "rearrange: expected sizes that fit 'b (h p) -> b h p', got shape [2, 7] with p = 4",
      ],
      [
        () => ops.rearrange(zeros([2, 0]), 'b (h p) -> b h p', { p: 0 }),
        'SHAPE',
        "rearrange: expected sizes that fit 'b (h p) -> b h p', got shape [2, 0] with p = 0",
      ],
      [
        () => ops.rearrange(zeros([2, 7]), '1 b -> b'),
        'SHAPE',
        "rearrange: expected sizes that fit '1 b -> b', got shape [2, 7]",
      ],
      [
        () => ops.rearrange(zeros([2, 3]), 'a b -> b a', { a: 3 }),
        'SHAPE',
        "rearrange: expected sizes that fit 'a b -> b a', got shape [2, 3] with a = 3",
      ],
      [
        () => ops.rearrange(zeros([2, 8, 3]), 'a b -> b a'),
        'SHAPE',
        "rearrange: expected 2 dimensions for 'a b -> b a', got shape [2, 8, 3]",
      ],
      [
        () => ops.rearrange(zeros([]), '... a -> a ...'),
        'SHAPE',
        "rearrange: expected at least 1 dimension for '... a -> a ...', got shape []",
      ],
      [
        () => ops.rearrange(zeros([2, 8]), 'a (b c) -> a b c', { c: 2.5 }),
        'VALUE',
        "rearrange: expected whole numbers as sizes for 'a (b c) -> a b c', got shape [2, 8] with c = 2.5",
      ],
    ],
  },
  reduce: {
    reference: (x: Nd, pattern: string, kind: ops.Reduction, sizes: Sizes = {}) =>
      einops(x, pattern, sizes, FOLDS[kind]),
    samples: KINDS.flatMap((kind) => [
      [random([2, 4, 6, 3]), 'b (h p) (w q) c -> c b h w', kind, { p: 2, q: 2 }],
      [random([2, 4, 6, 3]), 'b (h 2) (w 2) c -> c b h w', kind],
      [random([2, 4, 6]), 'b ... -> b', kind],
      [random([2, 4, 6]), '... -> ', kind],
      [random([2, 4, 6]), 'b ... c -> b 1 c', kind],
      [random([2, 4]), 'a b -> b a', kind],
    ]),
    errors: [
      [
        () => ops.reduce(zeros([2, 7]), 'a (b 2) -> a b', 'max'),
        'SHAPE',
        "reduce: expected sizes that fit 'a (b 2) -> a b', got shape [2, 7]",
      ],
      [
        () => ops.reduce(zeros([2, 8]), 'a (b c 2) -> a b c', 'sum'),
        'VALUE',
        "reduce: expected sizes for all axes but one in (b c 2) of 'a (b c 2) -> a b c', got shape [2, 8]",
      ],
      [
        () => ops.reduce(zeros([2, 8]), 'a b -> a', 'prod' as 'sum'),
        'VALUE',
        "reduce: expected 'mean', 'sum', 'max' or 'min' as reduction, got 'prod'",
      ],
      [
        () => ops.reduce(zeros([2, 8], { dtype: 'int32' }), 'a b -> b a', 'mean' as 'sum'),
        'DTYPE',
        'mean: expected a floating-point x, got int32',
      ],
    ],
  },
  repeat: {
    reference: (x: Nd, pattern: string, sizes: Sizes = {}) => einops(x, pattern, sizes, only),
    samples: [
      [random([2, 3]), 'b c -> b n c', { n: 4 }],
      [random([3]), 'w -> (n w)', { n: 2 }],
      [random([3]), 'w -> (w n)', { n: 2 }],
      [random([3]), 'w -> (w 2)'],
      [random([2, 3]), 'h w -> (w 2) (3 h)'],
      [random([1, 1, 8]), '1 1 d -> b 1 d', { b: 5 }],
      [random([2, 3]), '... -> n ...', { n: 2 }],
      [random([2, 3]), 'b (c d) -> n b c d', { n: 2, d: 3 }],
      [random([2, 3]), 'b c -> n b c', { n: 0 }],
    ],
    dtypes: ALL,
    errors: [
      [
        () => ops.repeat(zeros([2, 8]), late),
        'VALUE',
        "repeat: expected a size for 'n' in 'a b -> a n b', got shape [2, 8]",
      ],
      [
        () => ops.repeat(zeros([2, 8]), late, { n: 2, m: 3 }),
        'VALUE',
        "repeat: expected sizes of axes in 'a b -> a n b', got shape [2, 8] with n = 2, m = 3",
      ],
    ],
  },
});

/** 0, 1, 2, ... in a shape. */
const counting = (shape: readonly number[]): Tensor<'float32'> =>
  reshape(arange(sizeOf(shape)), shape).to('float32');

const values = async (x: Tensor): Promise<number[]> => Array.from(await x.data(), Number);

// leakCheck sees the tensors of every test that runs meanwhile, so this one runs alone.
test.serial('rearrange: the result is a tensor of its own, and nothing else is left', async (t) => {
  const x = counting([2, 3]);
  const same = rearrange(x, 'a b -> a b');
  same.dispose();
  t.deepEqual(await values(x), [0, 1, 2, 3, 4, 5]);
  const y = await leakCheck(() => rearrange(x, 'a (b c) -> (c a) b', { c: 3 }));
  t.deepEqual(await values(y), [0, 3, 1, 4, 2, 5]);
});

test('reduce: integers and bools sum to int64, even over no axis', async (t) => {
  const counts = tensor([[1, 2], [3, 4]], { dtype: 'int32' }); // prettier-ignore
  const total = reduce(counts, 'a b -> b', 'sum');
  t.is(total.dtype, 'int64');
  t.deepEqual(await values(total), [4, 6]);
  const turned = reduce(counts, 'a b -> b a', 'sum');
  t.is(turned.dtype, 'int64');
  t.deepEqual(await toArray(turned), [[1, 3], [2, 4]]); // prettier-ignore
  t.is(reduce(counts, 'a b -> a', 'max').dtype, 'int32');
  t.is(await reduce(tensor([true, false, true]), 'a -> ', 'sum').item(), 2);
});

test('patterns made at run time do not pile up', (t) => {
  for (let i = 0; i < 600; i++) {
    const pattern: string = `a${i} b -> b a${i}`;
    t.deepEqual(rearrange(zeros([2, 3]), pattern).shape, [3, 2]);
  }
});
