/**
 * einops against plain JavaScript: every element of a result is looked up through its axes' indices.
 */
import test from 'ava';

import { rearrange, reduce, repeat } from '../../src/ops/einops.js';
import { arange, mul, reshape, sum, tensor, toArray, zeros } from '../../src/ops/index.js';
import {
  type ErrorCode,
  type FloatDType,
  type Tensor,
  TensorError,
  leakCheck,
} from '../../src/tensor/index.js';

/** 0, 1, 2, ... in a shape. */
function counting<D extends FloatDType = 'float32'>(shape: readonly number[], dtype?: D): Tensor<D> {
  const flat = arange(shape.reduce((a, b) => a * b, 1));
  return reshape(flat, shape).to(dtype ?? ('float32' as D));
}

/** The elements of a result, in row-major order, from the indices along its axes. */
function table(shape: readonly number[], at: (...index: number[]) => number): number[] {
  const values: number[] = [];
  const visit = (index: number[]): void => {
    if (index.length === shape.length) values.push(at(...index));
    else for (let i = 0; i < shape[index.length]; i++) visit([...index, i]);
  };
  visit([]);
  return values;
}

const values = async (x: Tensor): Promise<number[]> => Array.from(await x.data(), Number);

test('rearrange: images to patches and back', async (t) => {
  const images = counting([2, 8, 12, 3]);
  const patches = rearrange(images, 'b (h p) (w q) c -> b (h w) (p q c)', { p: 4, q: 4 });
  t.deepEqual(patches.shape, [2, 6, 48]);
  const expected = table([2, 2, 3, 4, 4, 3], (b, h, w, p, q, c) => {
    const [row, column] = [h * 4 + p, w * 4 + q];
    return ((b * 8 + row) * 12 + column) * 3 + c;
  });
  t.deepEqual(await values(patches), expected);
  const back = rearrange(patches, 'b (h w) (p q c) -> b (h p) (w q) c', { h: 2, p: 4, q: 4 });
  t.deepEqual(back.shape, images.shape);
  t.deepEqual(await values(back), await values(images));
});

test('rearrange: order, ellipsis, 1 and empty parentheses', async (t) => {
  const x = counting([2, 3, 4]);
  const turned = rearrange(x, 'a b c -> c a b');
  t.deepEqual(turned.shape, [4, 2, 3]);
  t.deepEqual(
    await values(turned),
    table([4, 2, 3], (c, a, b) => (a * 3 + b) * 4 + c),
  );
  const last = rearrange(x, '... c -> c ...');
  t.deepEqual(last.shape, [4, 2, 3]);
  t.deepEqual(await values(last), await values(turned));
  t.deepEqual(rearrange(x, 'a ... -> a (...)').shape, [2, 12]);
  t.deepEqual(rearrange(x, '... -> (...)').shape, [24]);
  t.deepEqual(rearrange(x, '(x a) ... -> x ... a', { x: 1 }).shape, [1, 3, 4, 2]);
  t.deepEqual(rearrange(x, 'a b c -> a 1 b () (c 1)').shape, [2, 1, 3, 1, 4]);
  t.deepEqual(rearrange(counting([1, 3, 1]), '1 b () -> b').shape, [3]);
  t.deepEqual(rearrange(zeros([]), ' -> 1').shape, [1]);
  t.deepEqual(rearrange(zeros([]), '... -> ... 1').shape, [1]);
  t.deepEqual(rearrange(zeros([3]), 'c ... -> ... c').shape, [3]);
  t.deepEqual(rearrange(zeros([0, 8]), 'a (b c) -> (a b) c', { c: 4 }).shape, [0, 4]);
  t.deepEqual(await toArray(rearrange(tensor([true, false]), 'a -> a 1')), [[true], [false]]);
});

// leakCheck sees the tensors of every test that runs meanwhile, so this one runs alone.
test.serial('rearrange: the result is a tensor of its own, and nothing else is left', async (t) => {
  const x = counting([2, 3]);
  const same = rearrange(x, 'a b -> a b');
  same.dispose();
  t.deepEqual(await values(x), [0, 1, 2, 3, 4, 5]);
  const y = await leakCheck(() => rearrange(x, 'a (b c) -> (c a) b', { c: 3 }));
  t.deepEqual(await values(y), [0, 3, 1, 4, 2, 5]);
});

test('reduce: every reduction over groups, names and the ellipsis', async (t) => {
  const x = counting([2, 4, 6, 3]);
  const at = (b: number, h: number, w: number, c: number): number => ((b * 4 + h) * 6 + w) * 3 + c;
  const cell = (b: number, h: number, w: number, c: number): number[] =>
    table([2, 2], (p, q) => at(b, h * 2 + p, w * 2 + q, c));
  const folds = {
    max: (v: number[]) => Math.max(...v),
    min: (v: number[]) => Math.min(...v),
    sum: (v: number[]) => v.reduce((a, b) => a + b, 0),
    mean: (v: number[]) => v.reduce((a, b) => a + b, 0) / v.length,
  };
  for (const kind of ['max', 'min', 'sum', 'mean'] as const) {
    const pooled = reduce(x, 'b (h p) (w q) c -> c b h w', kind, { p: 2, q: 2 });
    t.deepEqual(pooled.shape, [3, 2, 2, 3]);
    const expected = table([3, 2, 2, 3], (c, b, h, w) => folds[kind](cell(b, h, w, c)));
    t.deepEqual(await values(pooled), expected, kind);
    const numbered = reduce(x, 'b (h 2) (w 2) c -> c b h w', kind);
    t.deepEqual(await values(numbered), expected, kind);
  }
  t.deepEqual(await values(reduce(x, 'b ... -> b', 'mean')), [35.5, 107.5]);
  const total = reduce(x, '... -> ', 'sum');
  t.deepEqual(total.shape, []);
  t.is(await total.item(), (143 * 144) / 2);
  t.deepEqual(reduce(x, 'b ... c -> b 1 c', 'max').shape, [2, 1, 3]);
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

test('repeat: new axes, tiling and numbers', async (t) => {
  const x = counting([2, 3]);
  const middle = repeat(x, 'b c -> b n c', { n: 4 });
  t.deepEqual(middle.shape, [2, 4, 3]);
  t.deepEqual(
    await values(middle),
    table([2, 4, 3], (b, _n, c) => b * 3 + c),
  );
  const row = tensor([1, 2, 3]);
  t.deepEqual(await values(repeat(row, 'w -> (n w)', { n: 2 })), [1, 2, 3, 1, 2, 3]);
  t.deepEqual(await values(repeat(row, 'w -> (w n)', { n: 2 })), [1, 1, 2, 2, 3, 3]);
  t.deepEqual(await values(repeat(row, 'w -> (w 2)')), [1, 1, 2, 2, 3, 3]);
  t.deepEqual(
    await values(repeat(x, 'h w -> (w 2) (2 h)')),
    [0, 3, 0, 3, 0, 3, 0, 3, 1, 4, 1, 4, 1, 4, 1, 4, 2, 5, 2, 5, 2, 5, 2, 5],
  );
  t.deepEqual(repeat(zeros([1, 1, 8]), '1 1 d -> b 1 d', { b: 5 }).shape, [5, 1, 8]);
  t.deepEqual(repeat(x, '... -> n ...', { n: 2 }).shape, [2, 2, 3]);
  t.deepEqual(repeat(x, 'b (c d) -> n b c d', { n: 2, d: 3 }).shape, [2, 2, 1, 3]);
  t.deepEqual(repeat(x, 'b c -> n b c', { n: 0 }).shape, [0, 2, 3]);
});

test('gradients follow the axes back', async (t) => {
  const x = counting([2, 4], 'float64').setRequiresGrad();
  const weights = counting([4, 3, 2], 'float64');
  const y = rearrange(repeat(x, 'a b -> n a b', { n: 3 }), 'n a b -> b n a');
  sum(mul(y, weights)).backward();
  const expected = table([2, 4], (a, b) => [0, 1, 2].reduce((s, n) => s + (b * 3 + n) * 2 + a, 0));
  t.deepEqual(await values(x.grad ?? zeros([])), expected);

  const z = counting([2, 4], 'float64').setRequiresGrad();
  sum(mul(reduce(z, 'a (b p) -> b a', 'mean', { p: 2 }), tensor([[1, 2], [3, 4]], { dtype: 'float64' }))).backward(); // prettier-ignore
  t.deepEqual(await values(z.grad ?? zeros([])), [0.5, 0.5, 1.5, 1.5, 1, 1, 2, 2]);
});

test('errors show the pattern and the shape', (t) => {
  const throws = (run: () => unknown, code: ErrorCode, message: string): void => {
    const error = t.throws(run, { instanceOf: TensorError });
    t.is(error.message, message);
    t.is(error.code, code);
  };
  throws(
    () => rearrange(zeros([2, 7]), 'b (h p) -> b h p', { p: 4 }),
    'SHAPE',
    "rearrange: expected sizes that fit 'b (h p) -> b h p', got shape [2, 7] with p = 4",
  );
  throws(
    () => rearrange(zeros([2, 0]), 'b (h p) -> b h p', { p: 0 }),
    'SHAPE',
    "rearrange: expected sizes that fit 'b (h p) -> b h p', got shape [2, 0] with p = 0",
  );
  throws(
    () => rearrange(zeros([2, 7]), '1 b -> b'),
    'SHAPE',
    "rearrange: expected sizes that fit '1 b -> b', got shape [2, 7]",
  );
  throws(
    () => reduce(zeros([2, 7]), 'a (b 2) -> a b', 'max'),
    'SHAPE',
    "reduce: expected sizes that fit 'a (b 2) -> a b', got shape [2, 7]",
  );
  throws(
    () => rearrange(zeros([2, 3]), 'a b -> b a', { a: 3 }),
    'SHAPE',
    "rearrange: expected sizes that fit 'a b -> b a', got shape [2, 3] with a = 3",
  );
  throws(
    () => rearrange(zeros([2, 8, 3]), 'a b -> b a'),
    'SHAPE',
    "rearrange: expected 2 dimensions for 'a b -> b a', got shape [2, 8, 3]",
  );
  throws(
    () => rearrange(zeros([]), '... a -> a ...'),
    'SHAPE',
    "rearrange: expected at least 1 dimension for '... a -> a ...', got shape []",
  );
  throws(
    () => reduce(zeros([2, 8]), 'a (b c 2) -> a b c', 'sum'),
    'VALUE',
    "reduce: expected sizes for all axes but one in (b c 2) of 'a (b c 2) -> a b c', got shape [2, 8]",
  );
  throws(
    () => rearrange(zeros([2, 8]), 'a (b c) -> a b c', { c: 2.5 }),
    'VALUE',
    "rearrange: expected whole numbers as sizes for 'a (b c) -> a b c', got shape [2, 8] with c = 2.5",
  );
  const late: string = 'a b -> a n b';
  throws(
    () => repeat(zeros([2, 8]), late),
    'VALUE',
    "repeat: expected a size for 'n' in 'a b -> a n b', got shape [2, 8]",
  );
  throws(
    () => repeat(zeros([2, 8]), late, { n: 2, m: 3 }),
    'VALUE',
    "repeat: expected sizes of axes in 'a b -> a n b', got shape [2, 8] with n = 2, m = 3",
  );
  throws(
    () => reduce(zeros([2, 8]), 'a b -> a', 'prod' as 'sum'),
    'VALUE',
    "reduce: expected 'mean', 'sum', 'max' or 'min' as reduction, got 'prod'",
  );
  throws(
    () => reduce(zeros([2, 8], { dtype: 'int32' }), 'a b -> b a', 'mean' as 'sum'),
    'DTYPE',
    'mean: expected a floating-point x, got int32',
  );
});

test('patterns made at run time do not pile up', (t) => {
  for (let i = 0; i < 600; i++) {
    const pattern: string = `a${i} b -> b a${i}`;
    t.deepEqual(rearrange(zeros([2, 3]), pattern).shape, [3, 2]);
  }
});
