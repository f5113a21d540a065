/**
 * The language of einops, without tensors: a pattern such as `b (h p) c -> b h (p c)` is read once, and with a shape
 * becomes a plan of five steps that `src/ops/einops.ts` carries out:
 *
 *   split (reshape) -> reduce -> order (permute) -> repeat (reshape and expand) -> merge (reshape)
 *
 * An axis is a name, `1` for a dimension of size 1, a larger number for an axis without a name (dropped by `reduce` or
 * added by `repeat`), or `...` for all dimensions that are not named. Parentheses hold the axes of one dimension.
 *
 * Source: Rogozhnikov, "Einops: clear and reliable tensor manipulations with Einstein-like notation", ICLR 2022.
 */
import { fail, shown } from './error.js';
import type { EinopsVerb } from './einops-types.js';

const ELLIPSIS = '...';

/** The axes of one dimension, outermost first; or the ellipsis, which stands for any number of dimensions. */
type Group = readonly string[] | typeof ELLIPSIS;

/** A pattern that is well formed for its verb. */
interface Pattern {
  readonly left: readonly Group[];
  readonly right: readonly Group[];
  /** Sizes that the pattern itself gives: those of its numbers. */
  readonly numbers: ReadonlyMap<string, number>;
}

/** Sizes of axes by name. */
export type Sizes = Readonly<Record<string, number | undefined>>;

/** What to do with a tensor; a step that would change nothing is undefined. */
export interface EinopsPlan {
  /** The shape with an axis for every name on the left. */
  readonly split: readonly number[] | undefined;
  /** Dimensions of the split shape to reduce. */
  readonly reduced: readonly number[] | undefined;
  /** Order of the dimensions that are left. */
  readonly order: readonly number[] | undefined;
  /** The ordered shape with a 1 for every new axis, and the same with the sizes of the new axes. */
  readonly repeated: { readonly from: readonly number[]; readonly to: readonly number[] } | undefined;
  /** The shape after `repeated` differs from the result's. */
  readonly merges: boolean;
  /** The shape of the result. */
  readonly shape: readonly number[];
}

/**
 * The plan for a pattern and a shape.
 *
 * @throws TensorError VALUE for a pattern that is not well formed, or sizes that it does not ask for; SHAPE when shape
 *   and pattern do not fit
 * @example
 * planEinops('rearrange', 'b (h p) -> b h p', [2, 8], { p: 4 }).shape // [2, 2, 4]
 */
export function planEinops(
  verb: EinopsVerb,
  pattern: string,
  shape: readonly number[],
  sizes: Sizes,
): EinopsPlan {
  if (typeof pattern !== 'string') fail(verb, 'VALUE', `expected a pattern, got ${shown(pattern)}`);
  const parsed = parsePattern(verb, pattern);
  const dots = ellipsisAxes(verb, pattern, parsed, shape);
  const [leftGroups, rightGroups] = [expandEllipsis(parsed.left, dots), expandEllipsis(parsed.right, dots)];
  const known = knownSizes(verb, pattern, leftGroups.concat(rightGroups), parsed, shape, sizes);
  solve(verb, pattern, leftGroups, shape, sizes, known);

  const [left, right] = [leftGroups.flat(), rightGroups.flat()];
  const sizeOf = (axis: string): number =>
    known.get(axis) ??
    fail(verb, 'VALUE', `expected a size for '${axis}' in '${pattern}', got ${describe(shape, sizes)}`);
  let split = left.map(sizeOf);
  let reduced = left.flatMap((axis, dim) => (right.includes(axis) ? [] : [dim]));
  if (verb === 'reduce' && reduced.length === 0) {
    // Nothing to reduce: one more dimension of size 1, so that dtypes are checked and promoted as always.
    reduced = [split.length];
    split = [...split, 1];
  }
  const kept = left.filter((axis) => right.includes(axis));
  const order = right.filter((axis) => kept.includes(axis)).map((axis) => kept.indexOf(axis));
  const from = right.map((axis) => (kept.includes(axis) ? sizeOf(axis) : 1));
  const to = right.map(sizeOf);
  const merged = rightGroups.map((group) => product(group.map(sizeOf)));
  return {
    split: isSame(split, shape) ? undefined : split,
    reduced: reduced.length === 0 ? undefined : reduced,
    order: order.every((dim, i) => dim === i) ? undefined : order,
    repeated: kept.length === right.length ? undefined : { from, to },
    merges: !isSame(to, merged),
    shape: merged,
  };
}

const parsedPatterns = new Map<string, Pattern>();
const MAX_PARSED = 256; // more than any program writes; patterns made at run time must not pile up

function parsePattern(verb: EinopsVerb, pattern: string): Pattern {
  const key = `${verb} ${pattern}`;
  let parsed = parsedPatterns.get(key);
  if (parsed === undefined) {
    parsed = readPattern(verb, pattern);
    if (parsedPatterns.size === MAX_PARSED) parsedPatterns.clear();
    parsedPatterns.set(key, parsed);
  }
  return parsed;
}

/** Same rules, same order and same words as the types in `einops-types.ts`. */
function readPattern(verb: EinopsVerb, pattern: string): Pattern {
  const sides = pattern.split('->');
  if (sides.length !== 2) fail(verb, 'VALUE', `expected one '->', got '${pattern}'`);
  const numbers = new Map<string, number>();
  const left = readSide(verb, pattern, 'left', sides[0], numbers);
  const right = readSide(verb, pattern, 'right', sides[1], numbers);
  for (const axis of left.axes) {
    if (verb !== 'reduce' && !right.axes.has(axis)) {
      fail(verb, 'VALUE', `expected '${axis}' on the right too, got '${pattern}'`);
    }
  }
  for (const axis of right.axes) {
    if ((verb !== 'repeat' || axis === ELLIPSIS) && !left.axes.has(axis)) {
      fail(verb, 'VALUE', `expected '${axis}' on the left too, got '${pattern}'`);
    }
  }
  return { left: left.groups, right: right.groups, numbers };
}

interface Side {
  readonly groups: readonly Group[];
  /** Names, and the ellipsis if there is one; numbers are not among them. */
  readonly axes: ReadonlySet<string>;
}

/** Reads one side, and adds the axes that are numbers, under names of their own, to `numbers`. */
function readSide(
  verb: EinopsVerb,
  pattern: string,
  where: 'left' | 'right',
  text: string,
  numbers: Map<string, number>,
): Side {
  const groups: Group[] = [];
  const axes = new Set<string>();
  let open: string[] | undefined;
  const place = (axis: string): void => {
    if (open !== undefined) open.push(axis);
    else groups.push(axis === ELLIPSIS ? ELLIPSIS : [axis]);
  };
  const takesNumbers = `${verb} ${where}` === 'reduce left' || `${verb} ${where}` === 'repeat right';
  for (const token of text.match(/\.\.\.|[()]|(?:(?!\.\.\.)[^\s()])+/g) ?? []) {
    if (token === '(') {
      if (open !== undefined)
        fail(verb, 'VALUE', `expected parentheses without others inside, got '${pattern}'`);
      open = [];
    } else if (token === ')') {
      if (open === undefined) fail(verb, 'VALUE', `expected balanced parentheses, got '${pattern}'`);
      groups.push(open);
      open = undefined;
    } else if (token === '1') {
      if (open === undefined) groups.push([]); // a dimension without axes has size 1
    } else if (axes.has(token)) {
      fail(verb, 'VALUE', `expected '${token}' once on each side, got '${pattern}'`);
    } else if (token === ELLIPSIS) {
      if (where === 'left' && open !== undefined) {
        fail(verb, 'VALUE', `expected no ellipsis in parentheses on the left, got '${pattern}'`);
      }
      axes.add(token);
      place(token);
    } else if (takesNumbers && /^[1-9]\d*$/.test(token)) {
      const axis = `${token}#${numbers.size}`;
      numbers.set(axis, Number(token));
      place(axis);
    } else if (/^[a-z]\w*$/i.test(token)) {
      axes.add(token);
      place(token);
    } else {
      fail(verb, 'VALUE', `expected axis names or 1, got '${token}' in '${pattern}'`);
    }
  }
  if (open !== undefined) fail(verb, 'VALUE', `expected balanced parentheses, got '${pattern}'`);
  return { groups, axes };
}

/** A name for each dimension that the ellipsis stands for. */
function ellipsisAxes(
  verb: EinopsVerb,
  pattern: string,
  { left }: Pattern,
  shape: readonly number[],
): readonly string[] {
  const hasEllipsis = left.includes(ELLIPSIS);
  const named = left.length - (hasEllipsis ? 1 : 0);
  if (hasEllipsis ? shape.length < named : shape.length !== named) {
    const expected = `${hasEllipsis ? 'at least ' : ''}${named} ${named === 1 ? 'dimension' : 'dimensions'}`;
    fail(verb, 'SHAPE', `expected ${expected} for '${pattern}', got ${describe(shape, {})}`);
  }
  return Array.from({ length: shape.length - named }, (_, i) => `${ELLIPSIS}${i}`);
}

function expandEllipsis(groups: readonly Group[], dots: readonly string[]): (readonly string[])[] {
  return groups.flatMap((group) =>
    group === ELLIPSIS
      ? dots.map((axis) => [axis])
      : [group.flatMap((axis) => (axis === ELLIPSIS ? dots : axis))],
  );
}

/** The sizes that do not come from the shape. */
function knownSizes(
  verb: EinopsVerb,
  pattern: string,
  groups: readonly (readonly string[])[],
  { numbers }: Pattern,
  shape: readonly number[],
  sizes: Sizes,
): Map<string, number> {
  const known = new Map(numbers);
  const axes = new Set(groups.flat());
  for (const [axis, size] of Object.entries(sizes)) {
    if (!axes.has(axis) || numbers.has(axis) || axis.startsWith(ELLIPSIS)) {
      fail(verb, 'VALUE', `expected sizes of axes in '${pattern}', got ${describe(shape, sizes)}`);
    }
    if (size === undefined || !Number.isSafeInteger(size) || size < 0) {
      fail(
        verb,
        'VALUE',
        `expected whole numbers as sizes for '${pattern}', got ${describe(shape, { [axis]: size })}`,
      );
    }
    known.set(axis, size);
  }
  return known;
}

/** Adds the sizes that follow from the shape: in each dimension, at most one is unknown. */
function solve(
  verb: EinopsVerb,
  pattern: string,
  groups: readonly (readonly string[])[],
  shape: readonly number[],
  sizes: Sizes,
  known: Map<string, number>,
): void {
  groups.forEach((group, dim) => {
    const unknown = group.filter((axis) => !known.has(axis));
    if (unknown.length > 1) {
      const open = `(${group.map((axis) => axis.replace(/#.*/, '')).join(' ')})`;
      fail(
        verb,
        'VALUE',
        `expected sizes for all axes but one in ${open} of '${pattern}', got ${describe(shape, sizes)}`,
      );
    }
    const given = product(group.map((axis) => known.get(axis) ?? 1));
    const rest = shape[dim] / given; // NaN or infinite where a given size is 0
    if (unknown.length === 1 ? !Number.isInteger(rest) : given !== shape[dim]) {
      fail(verb, 'SHAPE', `expected sizes that fit '${pattern}', got ${describe(shape, sizes)}`);
    }
    if (unknown.length === 1) known.set(unknown[0], rest);
  });
}

/** `shape [2, 7] with p = 4` */
function describe(shape: readonly number[], sizes: Sizes): string {
  const list = Object.entries(sizes).map(([axis, size]) => `${axis} = ${shown(size)}`);
  return `shape [${shape.join(', ')}]${list.length === 0 ? '' : ` with ${list.join(', ')}`}`;
}

function product(sizes: readonly number[]): number {
  return sizes.reduce((total, n) => total * n, 1);
}

function isSame(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((n, i) => n === b[i]);
}
