/**
 * Einops patterns at compile time. The lines below are checked by the compiler alone: a missing error is one, and the
 * message types are those of the run-time errors.
 */
import test, { type ExecutionContext } from 'ava';

import { planEinops } from '../../src/tensor/einops.js';
import {
  type AxisSizes,
  type EinopsVerb,
  type RearrangePattern,
  type ReducePattern,
  type RepeatPattern,
} from '../../src/tensor/einops-types.js';
import { rearrange, reduce, repeat } from '../../src/ops/einops.js';
import { zeros } from '../../src/ops/index.js';
import { type FloatDType, type Tensor, TensorError } from '../../src/tensor/index.js';

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;

/** Compiles when the type is true. */
function holds<_T extends true>(): void {}

/** Compiles when the value is of exactly that type. */
const gives =
  <Expected>() =>
  <Actual>(_value: Actual, _same: Equal<Actual, Expected>): void =>
    undefined;

type Either = 'b h w c -> b (h w c)' | 'b h w c -> (b h w c)';
type OneWrong = 'b h w c -> b (h w c)' | 'b h w -> b h';

const image = (): Tensor<'float32'> => zeros([2, 8, 8, 3]);
const counts = (): Tensor<'int32'> => zeros([2, 8], { dtype: 'int32' });
const mask = (): Tensor<'bool'> => zeros([2, 8], { dtype: 'bool' });

function correct(late: string, open: `${string} -> b`, either: Either): void {
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
  rearrange(image(), late, { anything: 1 });
  repeat(image(), late);
  rearrange(image(), open);
  rearrange(image(), either);

  gives<Tensor<'float16'>>()(rearrange(zeros([2], { dtype: 'float16' }), 'a -> a'), true);
  gives<Tensor<'int64'>>()(reduce(counts(), 'a b -> a', 'sum'), true);
  gives<Tensor<'int32'>>()(reduce(counts(), 'a b -> a', 'max'), true);
  gives<Tensor<'int64'>>()(reduce(mask(), 'a b -> a', 'sum'), true);
  gives<Tensor<'float32'>>()(reduce(image(), 'b h w c -> b c', 'sum'), true);
}

/** Code that is generic in the dtype keeps it. */
function generic<D extends FloatDType>(x: Tensor<D>): Tensor<D> {
  return reduce(rearrange(repeat(x, 'a b -> a b n', { n: 3 }), 'a b n -> n b a'), 'a b c -> a', 'mean');
}

function wrong(oneWrong: OneWrong): void {
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
  rearrange(image(), oneWrong);
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

function inference(): void {
  holds<Equal<RearrangePattern<'a b -> b a'>, 'a b -> b a'>>();
  holds<Equal<RearrangePattern<string>, string>>();
  holds<Equal<keyof AxisSizes<'rearrange', 'b (h p) ... -> b h p ...'>, 'b' | 'h' | 'p'>>();
  holds<Equal<AxisSizes<'rearrange', string>, Readonly<Record<string, number>>>>();
  holds<Equal<AxisSizes<'repeat', 'a -> a n'>['n'], number>>();
}

/** The type's message and the error's are one: the compiler checks the first, the assertion the second. */
function says(t: ExecutionContext, verb: EinopsVerb, pattern: string, message: string): void {
  const error = t.throws(() => planEinops(verb, pattern, [2, 3], {}), { instanceOf: TensorError });
  t.is(error.message, message);
  t.is(error.code, 'VALUE');
}

const rearrangeSays = <P extends string>(
  t: ExecutionContext,
  pattern: P,
  message: RearrangePattern<P>,
): void => says(t, 'rearrange', pattern, message);
const reduceSays = <P extends string>(t: ExecutionContext, pattern: P, message: ReducePattern<P>): void =>
  says(t, 'reduce', pattern, message);
const repeatSays = <P extends string>(t: ExecutionContext, pattern: P, message: RepeatPattern<P>): void =>
  says(t, 'repeat', pattern, message);

test('the compiler and the run-time errors say the same', (t) => {
  rearrangeSays(t, 'a b', "rearrange: expected one '->', got 'a b'");
  rearrangeSays(t, 'a b -> b -> a', "rearrange: expected one '->', got 'a b -> b -> a'");
  rearrangeSays(t, '(a b -> a b', "rearrange: expected balanced parentheses, got '(a b -> a b'");
  repeatSays(t, 'a b -> a) b', "repeat: expected balanced parentheses, got 'a b -> a) b'");
  rearrangeSays(
    t,
    '((a b) c) -> a b c',
    "rearrange: expected parentheses without others inside, got '((a b) c) -> a b c'",
  );
  rearrangeSays(t, 'a b -> a', "rearrange: expected 'b' on the right too, got 'a b -> a'");
  rearrangeSays(t, 'a b -> a b c', "rearrange: expected 'c' on the left too, got 'a b -> a b c'");
  reduceSays(t, 'a b -> a c', "reduce: expected 'c' on the left too, got 'a b -> a c'");
  repeatSays(t, 'a b -> a c', "repeat: expected 'b' on the right too, got 'a b -> a c'");
  repeatSays(t, 'a b -> a b c ...', "repeat: expected '...' on the left too, got 'a b -> a b c ...'");
  reduceSays(t, 'a a -> a', "reduce: expected 'a' once on each side, got 'a a -> a'");
  rearrangeSays(t, 'a ... ... -> a', "rearrange: expected '...' once on each side, got 'a ... ... -> a'");
  rearrangeSays(
    t,
    '(a ...) -> a ...',
    "rearrange: expected no ellipsis in parentheses on the left, got '(a ...) -> a ...'",
  );
  rearrangeSays(t, 'a 2 -> a', "rearrange: expected axis names or 1, got '2' in 'a 2 -> a'");
  reduceSays(t, 'a b -> a 2', "reduce: expected axis names or 1, got '2' in 'a b -> a 2'");
  repeatSays(t, 'a b -> a b 03', "repeat: expected axis names or 1, got '03' in 'a b -> a b 03'");
  rearrangeSays(t, 'a,b -> a b', "rearrange: expected axis names or 1, got 'a,b' in 'a,b -> a b'");
  rearrangeSays(t, 'a.. -> a', "rearrange: expected axis names or 1, got 'a..' in 'a.. -> a'");
  rearrangeSays(t, 'a_1 _b -> a_1', "rearrange: expected axis names or 1, got '_b' in 'a_1 _b -> a_1'");
});

test('what the compiler accepts and refuses stays that way', (t) => {
  // Compiling this file is the test; these functions are never called.
  t.deepEqual(
    [correct, generic, wrong, inference].map((f) => f.name),
    ['correct', 'generic', 'wrong', 'inference'],
  );
});
