/**
 * Einops patterns checked by the compiler: the rules of `einops.ts`, written as types. A literal pattern that breaks one
 * is not assignable to its parameter, whose type is then the sentence the run-time error would say. A pattern that is
 * not a literal is left to run time.
 */

/** The three verbs. */
export type EinopsVerb = 'rearrange' | 'reduce' | 'repeat';

/** A pattern as the parameter of `rearrange`: itself, or what is wrong with it. */
export type RearrangePattern<P extends string> = CheckedPattern<'rearrange', P>;

/** A pattern as the parameter of `reduce`: itself, or what is wrong with it. */
export type ReducePattern<P extends string> = CheckedPattern<'reduce', P>;

/** A pattern as the parameter of `repeat`: itself, or what is wrong with it. */
export type RepeatPattern<P extends string> = CheckedPattern<'repeat', P>;

/** Sizes of the axes that a literal pattern names; those that `repeat` adds are required. */
export type AxisSizes<Verb extends EinopsVerb, P extends string> =
  IsLiteral<P> extends false
    ? Readonly<Record<string, number>>
    : Read<Verb, P> extends { left: infer L extends string; right: infer R extends string }
      ? { readonly [Axis in Exclude<L, '...'>]?: number } & (Verb extends 'repeat'
          ? { readonly [Axis in Exclude<R, L>]: number }
          : unknown)
      : Readonly<Record<string, number>>; // the pattern is the error to show, not the sizes

/** Sizes as the last parameter of a verb: optional, unless the pattern has an axis that only they can size. */
export type AxisSizesArgument<Verb extends EinopsVerb, P extends string> =
  Record<never, never> extends AxisSizes<Verb, P>
    ? [sizes?: AxisSizes<Verb, P>]
    : [sizes: AxisSizes<Verb, P>];

type CheckedPattern<Verb extends EinopsVerb, P extends string> = P extends string // each member of a union by itself
  ? IsLiteral<P> extends false
    ? P
    : Read<Verb, P> extends infer Problem extends string
      ? `${Verb}: ${Problem}`
      : P
  : never;

/** False for `string` and for template types such as `b ${string}`, whose records accept an empty object. */
type IsLiteral<P extends string> = Record<never, never> extends Record<P, 1> ? false : true;

/** The axes of both sides, or the problem. */
type Read<Verb extends EinopsVerb, P extends string> = P extends `${infer Left}->${infer Right}`
  ? Right extends `${string}->${string}`
    ? `expected one '->', got '${P}'`
    : Side<Verb, 'left', P, Tokens<Left>> extends infer L
      ? L extends { axes: infer LeftAxes extends string }
        ? Side<Verb, 'right', P, Tokens<Right>> extends infer R
          ? R extends { axes: infer RightAxes extends string }
            ? Compare<Verb, P, LeftAxes, RightAxes>
            : R
          : never
        : L
      : never
  : `expected one '->', got '${P}'`;

/** Axes on one side only: new ones are for `repeat`, dropped ones for `reduce`. An ellipsis is never new. */
type Compare<Verb extends EinopsVerb, P extends string, L extends string, R extends string> = [
  Exclude<L, R>,
] extends [Verb extends 'reduce' ? string : never]
  ? [Exclude<R, L>] extends [Verb extends 'repeat' ? NotEllipsis<Exclude<R, L>> : never]
    ? { left: L; right: R }
    : `expected '${Verb extends 'repeat' ? '...' : Exclude<R, L>}' on the left too, got '${P}'`
  : `expected '${Exclude<L, R>}' on the right too, got '${P}'`;

type NotEllipsis<Axis extends string> = '...' extends Axis ? never : Axis;

/** Walks the tokens of a side: `Open` inside parentheses, `Axes` the union of the names so far. */
type Side<
  Verb extends EinopsVerb,
  Where extends 'left' | 'right',
  P extends string,
  T extends readonly string[],
  Open extends boolean = false,
  Axes extends string = never,
> = T extends readonly [infer Token extends string, ...infer Rest extends string[]]
  ? Token extends '('
    ? Open extends true
      ? `expected parentheses without others inside, got '${P}'`
      : Side<Verb, Where, P, Rest, true, Axes>
    : Token extends ')'
      ? Open extends true
        ? Side<Verb, Where, P, Rest, false, Axes>
        : `expected balanced parentheses, got '${P}'`
      : Token extends '1'
        ? Side<Verb, Where, P, Rest, Open, Axes>
        : Token extends Axes
          ? `expected '${Token}' once on each side, got '${P}'`
          : Token extends '...'
            ? [Where, Open] extends ['left', true]
              ? `expected no ellipsis in parentheses on the left, got '${P}'`
              : Side<Verb, Where, P, Rest, Open, Axes | Token>
            : IsSize<Token> extends true
              ? [Verb, Where] extends ['reduce', 'left'] | ['repeat', 'right']
                ? Side<Verb, Where, P, Rest, Open, Axes>
                : `expected axis names or 1, got '${Token}' in '${P}'`
              : IsName<Token> extends true
                ? Side<Verb, Where, P, Rest, Open, Axes | Token>
                : `expected axis names or 1, got '${Token}' in '${P}'`
  : Open extends true
    ? `expected balanced parentheses, got '${P}'`
    : { axes: Axes };

/** Names, sizes, parentheses and ellipses in order; whatever stands between them is a token for `Side` to refuse. */
type Tokens<
  S extends string,
  Word extends string = '',
  Out extends readonly string[] = [],
> = S extends `...${infer Rest}`
  ? Tokens<Rest, '', [...Out, ...Words<Word>, '...']>
  : S extends `${infer C}${infer Rest}`
    ? C extends ' ' | '\n' | '\t'
      ? Tokens<Rest, '', [...Out, ...Words<Word>]>
      : C extends '(' | ')'
        ? Tokens<Rest, '', [...Out, ...Words<Word>, C]>
        : Tokens<Rest, `${Word}${C}`, Out>
    : [...Out, ...Words<Word>];

type Words<Word extends string> = Word extends '' ? [] : [Word];

type Digit = '0' | '1' | '2' | '3' | '4' | '5' | '6' | '7' | '8' | '9';

// prettier-ignore
type Letter = 'a' | 'b' | 'c' | 'd' | 'e' | 'f' | 'g' | 'h' | 'i' | 'j' | 'k' | 'l' | 'm'
  | 'n' | 'o' | 'p' | 'q' | 'r' | 's' | 't' | 'u' | 'v' | 'w' | 'x' | 'y' | 'z';

/** A whole number without leading zeros. */
type IsSize<T extends string> = T extends `${infer First}${infer Rest}`
  ? First extends Exclude<Digit, '0'>
    ? Only<Rest, Digit>
    : false
  : false;

/** A letter, then letters, digits and underscores. */
type IsName<T extends string> = T extends `${infer First}${infer Rest}`
  ? Lowercase<First> extends Letter
    ? Only<Lowercase<Rest>, Letter | Digit | '_'>
    : false
  : false;

type Only<S extends string, Allowed extends string> = S extends `${infer C}${infer Rest}`
  ? C extends Allowed
    ? Only<Rest, Allowed>
    : false
  : true;
