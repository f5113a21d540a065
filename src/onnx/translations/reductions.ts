/**
 * Over one dimension or several: sums and extremes, softmax, order.
 */
import type { DType } from '../../tensor/index.js';
import type { Graph, Input } from '../graph.js';
import type { Value, ValueForm } from '../program.js';
import { converted } from './elementwise.js';
import {
  type Translation,
  type Translations,
  byArguments,
  expectFixed,
  fixed,
  fromStart,
} from './translation.js';

type ReduceArguments = [x: Value, dims: readonly number[], keepdim: boolean];

/** A reduction over `dims`; an empty list stands for all dimensions. */
function reduced(graph: Graph, op: string, x: Input, dims: readonly number[], keepdim: boolean): Input {
  const axes = dims.length === 0 ? undefined : graph.integers(dims);
  return graph.node(op, axes === undefined ? [x] : [x, axes], { keepdims: Number(keepdim) });
}

/** A reduction in the dtype of its result, or in another one. */
const reduction = (op: string, dtype?: DType): Translation =>
  byArguments((graph, [x, dims, keepdim]: ReduceArguments, [result]) => {
    const inner = dtype ?? result.dtype;
    const y = reduced(graph, op, converted(graph, x, x.dtype, inner), dims, keepdim);
    return converted(graph, y, inner, result.dtype);
  });

/** How many elements are behind each result. */
function countOf(op: string, x: ValueForm, dims: readonly number[]): number {
  const sizes = dims.length === 0 ? x.shape : dims.map((dim) => x.shape[fromStart(dim, x)]);
  return sizes.reduce<number>((product, size) => product * fixed(op, size), 1);
}

/** Where an extreme is: in the flattened tensor where no dimension is named. */
const position = (op: string): Translation =>
  byArguments((graph, [x, dim, keepdim]: [x: Value, dim: number | undefined, keepdim: boolean], [result]) => {
    if (dim !== undefined) return graph.node(op, [x], { axis: fromStart(dim, x), keepdims: Number(keepdim) });
    const flat = graph.node('Reshape', [x, graph.integers([-1])]);
    return graph.reshape(graph.node(op, [flat], { axis: 0, keepdims: 0 }), result.shape);
  });

export const REDUCTIONS: Translations = {
  sum: reduction('ReduceSum'),
  mean: reduction('ReduceMean'),
  max: reduction('ReduceMax'),
  min: reduction('ReduceMin'),
  any: reduction('ReduceMax', 'int32'),
  all: reduction('ReduceMin', 'int32'),
  variance: byArguments((graph, [x, dims, keepdim, correction]: [...ReduceArguments, correction: number]) => {
    const centred = graph.node('Sub', [x, reduced(graph, 'ReduceMean', x, dims, true)]);
    const squares = reduced(graph, 'ReduceSumSquare', centred, dims, keepdim);
    return graph.node('Div', [squares, graph.scalar(countOf('variance', x, dims) - correction)]);
  }),
  argmax: position('ArgMax'),
  argmin: position('ArgMin'),
  softmax: byArguments(
    (graph, [x, { dim, log }]: [x: Value, state: { readonly dim: number; readonly log: boolean }]) =>
      graph.node(log ? 'LogSoftmax' : 'Softmax', [x], { axis: fromStart(dim, x) }),
  ),
  logsumexp: byArguments((graph, [x, dim, keepdim]: [x: Value, dim: number, keepdim: boolean]) =>
    reduced(graph, 'ReduceLogSumExp', x, [dim], keepdim),
  ),
  cumsum: byArguments((graph, [x, dim]: [x: Value, dim: number]) =>
    graph.node('CumSum', [x, graph.scalar(fromStart(dim, x), 'int64')]),
  ),
  topk: (graph, step) => {
    expectFixed(step);
    const [x, k, dim, largest] = step.args as unknown as [x: Value, k: number, dim: number, largest: boolean];
    return graph.addNode(
      'TopK',
      [x, graph.integers([k])],
      { axis: fromStart(dim, x), largest: Number(largest) },
      2,
    );
  },
};
