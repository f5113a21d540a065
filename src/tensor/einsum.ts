/**
 * Einstein's summation convention, without tensors: an equation such as `bhid,bhjd->bhij` and the shapes of its operands
 * become a plan that `src/ops/einsum.ts` carries out. Operands are contracted from left to right, two at a time; of each
 * pair's indices
 *
 *   batch       are in both and needed later (by another operand or the output),
 *   contracted  are in both and not needed later,
 *   free        are in one and needed later,
 *   and those in one that nobody needs later are summed out before.
 *
 * `[batch, free a, contracted] x [batch, contracted, free b]` is one batched matmul, and where nothing is contracted an
 * elementwise product that broadcasts.
 */
import { fail, shown } from './error.js';

/** How an operand is laid out: summed, then permuted, then reshaped; a step that changes nothing is undefined. */
export interface Arrangement {
  readonly summed: readonly number[] | undefined;
  readonly order: readonly number[] | undefined;
  readonly shape: readonly number[] | undefined;
}

/** The product of what there is so far (at first, operand 0) with the next operand. */
export interface EinsumStep {
  readonly product: 'matmul' | 'mul';
  readonly left: Arrangement;
  readonly right: Arrangement;
  /** The product's shape with a dimension for each index; undefined where it has that already. */
  readonly shape: readonly number[] | undefined;
}

export interface EinsumPlan {
  /** One for each operand but the first. */
  readonly steps: readonly EinsumStep[];
  /** From the last product to the result. */
  readonly last: Arrangement;
}

const ELLIPSIS = '...';

/** In place of an index, a dimension of size 1 that others broadcast against: it is left out, which does the same. */
const DROPPED = '';

type Indices = readonly string[];
type SizeOf = ReadonlyMap<string, number>;

/**
 * The plan for an equation and the shapes of its operands.
 *
 * @throws TensorError VALUE for an equation that is not well formed; SHAPE when shapes do not fit it
 * @example
 * planEinsum('ij,jk->ik', [[2, 3], [3, 4]]).steps[0].product // 'matmul'
 */
export function planEinsum(equation: string, shapes: readonly (readonly number[])[]): EinsumPlan {
  if (typeof equation !== 'string') fail('einsum', 'VALUE', `expected an equation, got ${shown(equation)}`);
  const { terms, output: written } = readEquation(equation);
  if (terms.length !== shapes.length) {
    fail('einsum', 'VALUE', `expected ${terms.length} operands for '${equation}', got ${shapes.length}`);
  }
  const dots = terms.map((term, i) => ellipsisRank(equation, term, shapes[i]));
  const maxDots = Math.max(0, ...dots);
  const named = terms.map((term, i) => expandEllipsis(term, dots[i]));
  const sizes = solve(equation, named, shapes);
  const operands = named.map((indices, i) =>
    indices.map((index, dim) => (shapes[i][dim] === sizes.get(index) ? index : DROPPED)),
  );
  const output = expandEllipsis(written, maxDots);

  const steps: EinsumStep[] = [];
  let current: Indices = operands[0];
  for (let next = 1; next < operands.length; next++) {
    const needed = new Set([...operands.slice(next + 1).flat(), ...output]);
    const { step, indices } = planPair(current, operands[next], needed, sizes);
    steps.push(step);
    current = indices;
  }
  const last = arrange(
    current,
    new Set(output),
    output.map((index) => [index]),
    sizes,
  );
  return { steps, last };
}

function planPair(
  a: Indices,
  b: Indices,
  needed: ReadonlySet<string>,
  sizes: SizeOf,
): { step: EinsumStep; indices: Indices } {
  const shared = a.filter((index) => index !== DROPPED && b.includes(index));
  const batch = shared.filter((index) => needed.has(index));
  const contracted = shared.filter((index) => !needed.has(index));
  const freeOf = (own: Indices, other: Indices): Indices =>
    own.filter((index) => index !== DROPPED && !other.includes(index) && needed.has(index));
  const [freeA, freeB] = [freeOf(a, b), freeOf(b, a)];
  const indices = [...batch, ...freeA, ...freeB];
  const each = (list: Indices): Indices[] => list.map((index) => [index]);
  const ones = (list: Indices): Indices[] => list.map(() => []);
  const isMatmul = contracted.length > 0;
  const kept = new Set([...shared, ...indices]);
  const step: EinsumStep = {
    product: isMatmul ? 'matmul' : 'mul',
    left: arrange(
      a,
      kept,
      [...each(batch), ...(isMatmul ? [freeA, contracted] : [...each(freeA), ...ones(freeB)])],
      sizes,
    ),
    right: arrange(
      b,
      kept,
      [...each(batch), ...(isMatmul ? [contracted, freeB] : [...ones(freeA), ...each(freeB)])],
      sizes,
    ),
    shape:
      isMatmul && (freeA.length !== 1 || freeB.length !== 1)
        ? indices.map((index) => sizeOf(sizes, index))
        : undefined,
  };
  return { step, indices };
}

/** The way from `indices` to dimensions that each hold a group of indices; an empty group has size 1. */
function arrange(
  indices: Indices,
  kept: ReadonlySet<string>,
  groups: readonly Indices[],
  sizes: SizeOf,
): Arrangement {
  const isSummed = (index: string): boolean => index !== DROPPED && !kept.has(index);
  const summed = indices.flatMap((index, dim) => (isSummed(index) ? [dim] : []));
  const rest = indices.filter((index) => !isSummed(index));
  // Dropped dimensions go last, where the reshape ends them.
  const dropped = rest.flatMap((index, dim) => (index === DROPPED ? [dim] : []));
  const order = [...groups.flat().map((index) => rest.indexOf(index)), ...dropped];
  const isReshaped = dropped.length > 0 || groups.some((group) => group.length !== 1);
  return {
    summed: summed.length === 0 ? undefined : summed,
    order: order.every((dim, i) => dim === i) ? undefined : order,
    shape: isReshaped
      ? groups.map((group) => group.reduce((product, index) => product * sizeOf(sizes, index), 1))
      : undefined,
  };
}

function sizeOf(sizes: SizeOf, index: string): number {
  const size = sizes.get(index);
  if (size === undefined) throw new RangeError(`einsum: the plan lost the size of index '${index}'`);
  return size;
}

interface Equation {
  readonly terms: readonly Indices[];
  readonly output: Indices;
}

function readEquation(equation: string): Equation {
  const sides = equation.replace(/\s+/g, '').split('->');
  if (sides.length > 2) fail('einsum', 'VALUE', `expected one '->' at most, got '${equation}'`);
  const terms = sides[0].split(',').map((term) => readTerm(equation, term));
  const all = terms.flat();
  if (sides.length === 1) {
    const once = all.filter((index) => index !== ELLIPSIS && all.indexOf(index) === all.lastIndexOf(index));
    return { terms, output: [...(all.includes(ELLIPSIS) ? [ELLIPSIS] : []), ...once.sort()] };
  }
  const output = readTerm(equation, sides[1]);
  for (const index of output) {
    if (!all.includes(index)) {
      fail('einsum', 'VALUE', `expected output indices that an operand has, got '${index}' in '${equation}'`);
    }
  }
  return { terms, output };
}

function readTerm(equation: string, term: string): Indices {
  const indices: Indices = term.match(/\.\.\.|./g) ?? [];
  indices.forEach((index, at) => {
    if (index !== ELLIPSIS && !/[a-z]/i.test(index)) {
      fail('einsum', 'VALUE', `expected letters, commas, '...' and '->', got '${index}' in '${equation}'`);
    }
    if (indices.indexOf(index) !== at) {
      fail(
        'einsum',
        'VALUE',
        `expected each index once in a term (diagonals are not supported), got '${term}' in '${equation}'`,
      );
    }
  });
  return indices;
}

/** How many dimensions the ellipsis of a term stands for. */
function ellipsisRank(equation: string, term: Indices, shape: readonly number[]): number {
  const hasEllipsis = term.includes(ELLIPSIS);
  const rank = shape.length - term.length + (hasEllipsis ? 1 : 0);
  if (hasEllipsis ? rank < 0 : rank !== 0) {
    const count = shape.length - rank;
    fail(
      'einsum',
      'SHAPE',
      `expected ${hasEllipsis ? 'at least ' : ''}${count} ${count === 1 ? 'dimension' : 'dimensions'} for ` +
        `'${term.join('')}' in '${equation}', got shape [${shape.join(', ')}]`,
    );
  }
  return hasEllipsis ? rank : 0;
}

/** The ellipsis' dimensions are aligned at the end: `.0` is the last one of every term. */
function expandEllipsis(term: Indices, rank: number): Indices {
  const dots = Array.from({ length: rank }, (_, i) => `.${rank - 1 - i}`);
  return term.flatMap((index) => (index === ELLIPSIS ? dots : index));
}

/** The size of each index; only the ellipsis' dimensions broadcast. */
function solve(
  equation: string,
  operands: readonly Indices[],
  shapes: readonly (readonly number[])[],
): SizeOf {
  const sizes = new Map<string, number>();
  operands.forEach((indices, i) => {
    indices.forEach((index, dim) => {
      const [known, size] = [sizes.get(index), shapes[i][dim]];
      const isDots = index.startsWith('.');
      if (known === undefined || (isDots && known === 1)) {
        sizes.set(index, size);
      } else if (known !== size && !(isDots && size === 1)) {
        const where = isDots ? `dimensions of '...' that broadcast` : `one size for index '${index}'`;
        const list = shapes.map((shape) => `[${shape.join(', ')}]`).join(', ');
        fail('einsum', 'SHAPE', `expected ${where} in '${equation}', got shapes ${list}`);
      }
    });
  });
  return sizes;
}
