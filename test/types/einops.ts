/**
 * Einops patterns at compile time. The lines below are checked by the compiler alone: a missing error is one, and the
 * message types are those of the run-time errors.
 */
import test from 'ava';

import type {
  AxisSizes,
  RearrangePattern,
  ReducePattern,
  RepeatPattern,
} from '../../src/tensor/einops-types.js';
import { rearrange, reduce, repeat } from '../../src/ops/einops.js';
import { zeros } from '../../src/ops/index.js';
import { type Tensor } from '../../src/tensor/index.js';

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;

/** Compiles when the type is true. */
function holds<_T extends true>(): void {}

const image = (): Tensor<'float32'> => zeros([2, 8, 8, 3]);
const counts = (): Tensor<'int32'> => zeros([2, 8], { dtype: 'int32' });
const mask = (): Tensor<'bool'> => zeros([2, 8], { dtype: 'bool' });

function correct(): void {
  rearrange(image(), 'b (h p) (w q) c -> b (h w) (p q c)', { p: 4, q: 4 });
  rearrange(image(), 'b h w c->b c h w');
  rearrange(image(), '... c -> c ...');
  rearrange(image(), 'b ... -> b (...)');
  rearrange(zeros([1, 3]), '1 patch_size2 -> patch_size2 1 ()');
  rearrange(
    image(),
    `b h w c
     -> b (h w c)`,
  );
  reduce(image(), 'b h w c -> b c', 'mean');
  reduce(image(), 'b (h 2) (w 2) c -> b h w c', 'max');
  reduce(image(), '... -> ', 'sum');
  repeat(image(), 'b h w c -> b h (w n) c', { n: 3 });
  repeat(image(), 'b h w c -> b h (w 3) c');
  repeat(image(), '... -> n ...', { n: 3 });

  // Patterns that are not literals are for run time.
  const late: string = 'a b -> ';
  rearrange(image(), late, { anything: 1 });
  repeat(image(), late);
  rearrange(image(), `${late} -> b` as `${string} -> b`);
  rearrange(image(), late as 'b h w c -> b (h w c)' | 'b h w c -> (b h w c)');

  holds<Equal<ReturnType<typeof rearrange<'float16', string>>, Tensor<'float16'>>>();
  const total = reduce(counts(), 'a b -> a', 'sum');
  holds<Equal<typeof total, Tensor<'int64'>>>();
  const largest = reduce(counts(), 'a b -> a', 'max');
  holds<Equal<typeof largest, Tensor<'int32'>>>();
  const set = reduce(mask(), 'a b -> a', 'sum');
  holds<Equal<typeof set, Tensor<'int64'>>>();
  const pooled = reduce(image(), 'b h w c -> b c', 'sum');
  holds<Equal<typeof pooled, Tensor<'float32'>>>();
}

function wrong(): void {
  // @ts-expect-error no arrow
  rearrange(image(), 'b h w c');
  // @ts-expect-error two arrows
  rearrange(image(), 'b h w c -> b h w c -> b');
  // @ts-expect-error an open parenthesis
  rearrange(image(), 'b (h w c -> b h w c');
  // @ts-expect-error a parenthesis that closes nothing
  rearrange(image(), 'b h w) c -> b h w c');
  // @ts-expect-error nested parentheses
  rearrange(image(), 'b (h (w c)) -> b h w c');
  // @ts-expect-error c is lost
  rearrange(image(), 'b h w c -> b h w');
  // @ts-expect-error d comes from nowhere
  rearrange(image(), 'b h w c -> b h w c d');
  // @ts-expect-error h twice
  rearrange(image(), 'b h h c -> b h c');
  // @ts-expect-error two ellipses
  rearrange(image(), '... c ... -> c ...');
  // @ts-expect-error an ellipsis inside parentheses on the left
  rearrange(image(), '(b ...) -> b ...');
  // @ts-expect-error the ellipsis is lost
  rearrange(image(), 'b ... -> b');
  // @ts-expect-error numbers are for reduce and repeat
  rearrange(image(), 'b (h 2) w c -> b h w c');
  // @ts-expect-error a comma is no axis
  rearrange(image(), 'b,h w c -> b h w c');
  // @ts-expect-error one wrong pattern of two
  rearrange(image(), 'b h w c -> b (h w c)' as 'b h w c -> b (h w c)' | 'b h w -> b h');
  // @ts-expect-error sizes of axes that the pattern lacks
  rearrange(image(), 'b (h p) w c -> b h p w c', { q: 4 });
  // @ts-expect-error sizes are numbers
  rearrange(image(), 'b (h p) w c -> b h p w c', { p: '4' });

  // @ts-expect-error d comes from nowhere
  reduce(image(), 'b h w c -> b d', 'mean');
  // @ts-expect-error a number on the right
  reduce(image(), 'b h w c -> b 2', 'mean');
  // @ts-expect-error the ellipsis comes from nowhere
  reduce(image(), 'b h w c -> ...', 'mean');
  // @ts-expect-error no such reduction
  reduce(image(), 'b h w c -> b', 'prod');
  // @ts-expect-error integers have no mean
  reduce(counts(), 'a b -> a', 'mean');
  // @ts-expect-error bool has no maximum
  reduce(mask(), 'a b -> a', 'max');

  // @ts-expect-error c is lost
  repeat(image(), 'b h w c -> b h w n', { n: 3 });
  // @ts-expect-error n has no size
  repeat(image(), 'b h w c -> b h w c n');
  // @ts-expect-error n has no size, k is not in the pattern
  repeat(image(), 'b h w c -> b h w c n', { k: 3 });
  // @ts-expect-error the ellipsis comes from nowhere
  repeat(image(), 'b h w c -> b h w c ...');
}

function messages(): void {
  holds<Equal<RearrangePattern<'a b'>, "rearrange: expected one '->', got 'a b'">>();
  holds<Equal<RepeatPattern<'(a -> a'>, "repeat: expected balanced parentheses, got '(a -> a'">>();
  holds<
    Equal<
      RearrangePattern<'((a b) c) -> a b c'>,
      "rearrange: expected parentheses without others inside, got '((a b) c) -> a b c'"
    >
  >();
  holds<Equal<RearrangePattern<'a b -> a'>, "rearrange: expected 'b' on the right too, got 'a b -> a'">>();
  holds<Equal<ReducePattern<'a b -> a c'>, "reduce: expected 'c' on the left too, got 'a b -> a c'">>();
  holds<Equal<RepeatPattern<'a -> a ...'>, "repeat: expected '...' on the left too, got 'a -> a ...'">>();
  holds<Equal<ReducePattern<'a a -> a'>, "reduce: expected 'a' once on each side, got 'a a -> a'">>();
  holds<
    Equal<
      RearrangePattern<'a -> a ... ...'>,
      "rearrange: expected '...' once on each side, got 'a -> a ... ...'"
    >
  >();
  holds<Equal<RearrangePattern<'a 2 -> a'>, "rearrange: expected axis names or 1, got '2' in 'a 2 -> a'">>();
  holds<Equal<RearrangePattern<'a b -> b a'>, 'a b -> b a'>>();
  holds<Equal<RearrangePattern<string>, string>>();
  holds<Equal<keyof AxisSizes<'rearrange', 'b (h p) ... -> b h p ...'>, 'b' | 'h' | 'p'>>();
  holds<Equal<AxisSizes<'rearrange', string>, Readonly<Record<string, number>>>>();
}

test('what the compiler accepts and refuses stays that way', (t) => {
  // Compiling this file is the test; the functions themselves are never called.
  t.deepEqual(
    [correct, wrong, messages].map((f) => f.name),
    ['correct', 'wrong', 'messages'],
  );
});
