/**
 * Views, parts and joins.
 */
import type { Graph, Input } from '../graph.js';
import type { Value } from '../program.js';
import { type Translations, byArguments, byForm, expectFixed, fixed, fromStart } from './translation.js';

/** A stretch of one dimension or of several; bounds beyond an end are that end. */
export interface Range {
  readonly dim: number;
  readonly start: number;
  readonly stop: number;
  readonly step: number;
}

/** Past every end. */
export const FAR = Number.MAX_SAFE_INTEGER;

/** The elements in ranges. */
export function sliced(graph: Graph, x: Input, ranges: readonly Range[]): Input {
  if (ranges.length === 0) return x;
  const rows = [
    ranges.map(({ start }) => start),
    ranges.map(({ stop }) => stop),
    ranges.map(({ dim }) => dim),
    ranges.map(({ step }) => step),
  ];
  return graph.node('Slice', [x, ...rows.map((row) => graph.integers(row))]);
}

/** A cyclic shift along a dimension of `size`. */
export function rolled(graph: Graph, x: Input, shift: number, dim: number, size: number): Input {
  const by = size === 0 ? 0 : ((shift % size) + size) % size;
  if (by === 0) return x;
  const part = (start: number, stop: number): Input => sliced(graph, x, [{ dim, start, stop, step: 1 }]);
  return graph.node('Concat', [part(size - by, size), part(0, size - by)], { axis: dim });
}

const transposed = (x: Value, dim0: number, dim1: number): number[] => {
  const [a, b] = [fromStart(dim0, x), fromStart(dim1, x)];
  return x.shape.map((_, dim) => (dim === a ? b : dim === b ? a : dim));
};

export const SHAPES: Translations = {
  reshape: byForm((graph, x, { shape }) => graph.reshape(x, shape)),
  embedding: byForm((graph, x, { shape }) => graph.reshape(x, shape)),
  permute: byArguments((graph, [x, dims]: [x: Value, dims: readonly number[]]) =>
    graph.node('Transpose', [x], { perm: dims.map((dim) => fromStart(dim, x)) }),
  ),
  transpose: byArguments((graph, [x, dim0, dim1]: [x: Value, dim0: number, dim1: number]) =>
    graph.node('Transpose', [x], { perm: transposed(x, dim0, dim1) }),
  ),
  expand: byForm((graph, x, { shape }) => graph.node('Expand', [x, graph.sizes(shape)])),
  slice: byArguments((graph, [x, ranges]: [x: Value, ranges: readonly Range[]]) => sliced(graph, x, ranges)),
  split: (graph, step) => {
    expectFixed(step);
    const [x, dim, sizes] = step.args as unknown as [x: Value, dim: number, sizes: readonly number[]];
    return graph.addNode('Split', [x, graph.integers(sizes)], { axis: dim }, sizes.length);
  },
  cat: byArguments((graph, [tensors, dim]: [tensors: readonly Value[], dim: number]) =>
    graph.node('Concat', tensors, { axis: fromStart(dim, tensors[0]) }),
  ),
  pad: byArguments(
    (
      graph,
      [x, { before, after, value }]: [
        x: Value,
        padding: {
          readonly before: readonly number[];
          readonly after: readonly number[];
          readonly value: number;
        },
      ],
    ) => graph.node('Pad', [x, graph.integers([...before, ...after]), graph.scalar(value, x.dtype)]),
  ),
  roll: byArguments(
    (graph, [x, shifts, dims]: [x: Value, shifts: readonly number[], dims: readonly number[]]) =>
      dims.reduce<Input>((y, dim, i) => {
        const at = fromStart(dim, x);
        return rolled(graph, y, shifts[i], at, fixed('roll', x.shape[at]));
      }, x),
  ),
  flip: byArguments((graph, [x, dims]: [x: Value, dims: readonly number[]]) =>
    sliced(
      graph,
      x,
      dims.map((dim) => ({ dim, start: -1, stop: -FAR, step: -1 })),
    ),
  ),
  indexSelect: byArguments((graph, [x, dim, index]: [x: Value, dim: number, index: Value]) =>
    graph.node('Gather', [x, index], { axis: fromStart(dim, x) }),
  ),
  gather: byArguments((graph, [x, dim, index]: [x: Value, dim: number, index: Value]) =>
    graph.node('GatherElements', [x, index], { axis: fromStart(dim, x) }),
  ),
};
