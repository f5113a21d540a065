/**
 * Element by element: functions of one operand, arithmetic, comparisons, choices and conversions.
 */
import type { Activation } from '../../ops/index.js';
import { type DType, isFloating } from '../../tensor/index.js';
import { type Graph, type Input, elementType } from '../graph.js';
import { Value } from '../program.js';
import {
  type OperandValue,
  type Translation,
  type Translations,
  byArguments,
  byForm,
} from './translation.js';

/** A node of one operand. */
const one = (op: string, attributes: Parameters<Graph['node']>[2] = {}): Translation =>
  byArguments((graph, [x]: [x: Value]) => graph.node(op, [x], attributes));

/** An operand as an input: a number has the dtype of the tensor beside it. */
function operand(graph: Graph, x: OperandValue, beside: OperandValue): Input {
  if (typeof x !== 'number') return x;
  return graph.scalar(x, beside instanceof Value && !isFloating(beside.dtype) ? beside.dtype : 'float32');
}

/** A node of two operands. */
const two = (op: string): Translation =>
  byArguments((graph, [a, b]: [a: OperandValue, b: OperandValue]) =>
    graph.node(op, [operand(graph, a, b), operand(graph, b, a)]),
  );

/** What follows a product. */
export function activated(graph: Graph, x: Input, activation: Activation): Input {
  switch (activation) {
    case 'none':
      return x;
    case 'gelu':
      return graph.node('Gelu', [x]);
    case 'geluTanh':
      return graph.node('Gelu', [x], { approximate: 'tanh' });
    case 'relu':
      return graph.node('Relu', [x]);
    case 'silu':
      return graph.node('Mul', [x, graph.node('Sigmoid', [x])]);
  }
}

/** A conversion, where ONNX has another type for the elements. */
export function converted(graph: Graph, x: Input, from: DType, to: DType): Input {
  const type = elementType(to);
  return elementType(from) === type ? x : graph.node('Cast', [x], { to: type });
}

export const ELEMENTWISE: Translations = {
  neg: one('Neg'),
  abs: one('Abs'),
  exp: one('Exp'),
  log: one('Log'),
  sqrt: one('Sqrt'),
  rsqrt: byArguments((graph, [x]: [x: Value]) => graph.node('Reciprocal', [graph.node('Sqrt', [x])])),
  tanh: one('Tanh'),
  sigmoid: one('Sigmoid'),
  relu: one('Relu'),
  gelu: one('Gelu'),
  geluTanh: one('Gelu', { approximate: 'tanh' }),
  silu: byArguments((graph, [x]: [x: Value]) => activated(graph, x, 'silu')),
  sin: one('Sin'),
  cos: one('Cos'),
  erf: one('Erf'),
  sign: one('Sign'),
  clamp: byArguments((graph, [x, min, max]: [x: Value, min: number, max: number]) => {
    const end = (value: number): Input | undefined =>
      Number.isFinite(value) ? operand(graph, value, x) : undefined;
    return graph.node('Clip', [x, end(min), end(max)]);
  }),
  logicalNot: one('Not'),

  add: two('Add'),
  sub: two('Sub'),
  mul: two('Mul'),
  div: two('Div'),
  pow: two('Pow'),
  maximum: two('Max'),
  minimum: two('Min'),
  equal: two('Equal'),
  notEqual: byArguments((graph, [a, b]: [a: OperandValue, b: OperandValue]) =>
    graph.node('Not', [graph.node('Equal', [operand(graph, a, b), operand(graph, b, a)])]),
  ),
  less: two('Less'),
  lessEqual: two('LessOrEqual'),
  greater: two('Greater'),
  greaterEqual: two('GreaterOrEqual'),
  logicalAnd: two('And'),
  logicalOr: two('Or'),
  where: byArguments((graph, [condition, a, b]: [condition: Value, a: OperandValue, b: OperandValue]) =>
    graph.node('Where', [condition, operand(graph, a, b), operand(graph, b, a)]),
  ),

  // Another floating-point type, or another device, is the same here: all floating-point numbers are float32.
  to: byForm((graph, x, { dtype }) => converted(graph, x, x.dtype, dtype)),
  clone: byForm((_graph, x) => x),
};
