/**
 * What a translation is: a function from an op of Tenon to nodes of ONNX.
 */
import { fail } from '../../tensor/error.js';
import type { Graph, Input } from '../graph.js';
import { BatchSize, type ProgramStep, type Size, Value, type ValueForm } from '../program.js';

/** Adds nodes for an op. Gives what stands for each of its results: undefined for one that ONNX has no counterpart of. */
export type Translation = (graph: Graph, step: ProgramStep) => readonly (Input | undefined)[];

/** Translations by the names of their ops. */
export type Translations = Readonly<Record<string, Translation>>;

/** A tensor, or a number that takes the dtype of the tensor beside it. */
export type OperandValue = Value | number;

/** Whether some number in arguments grows with the batch. */
function hasBatchSize(value: unknown): boolean {
  if (value instanceof BatchSize) return true;
  if (typeof value !== 'object' || value === null || value instanceof Value) return false;
  return Object.values(value).some(hasBatchSize);
}

/**
 * A translation of an op with one result, by its arguments: those of the op's `forward`.
 *
 * @throws TensorError VALUE, when it is called, for an argument that grows with the batch
 */
export function byArguments<Args extends readonly unknown[]>(
  translate: (graph: Graph, args: Args, outputs: readonly ValueForm[]) => Input,
): Translation {
  return (graph, step) => {
    expectFixed(step);
    return [translate(graph, step.args as unknown as Args, step.outputs)];
  };
}

/** @throws TensorError VALUE for an argument, other than a shape, that grows with the batch */
export function expectFixed({ name, args }: ProgramStep): void {
  if (!hasBatchSize(args)) return;
  fail(
    'exportOnnx',
    'VALUE',
    `expected numbers for '${name}' that no batch changes, got one that grows with it`,
  );
}

/** A translation of an op that gives its first argument another form: by the form, whatever the arguments. */
export function byForm(translate: (graph: Graph, x: Value, form: ValueForm) => Input): Translation {
  return (graph, { args, outputs }) => [translate(graph, args[0] as Value, outputs[0])];
}

/** A size that must not grow with the batch. @throws TensorError VALUE */
export function fixed(op: string, size: Size): number {
  if (typeof size === 'number') return size;
  return fail(
    'exportOnnx',
    'VALUE',
    `expected a size for '${op}' that no batch changes, got one that grows with it`,
  );
}

/** A size times a number. */
export function times(size: Size, factor: number): Size {
  return typeof size === 'number' ? size * factor : new BatchSize(size.times * factor);
}

/** A dimension counted from the start. */
export const fromStart = (dim: number, { shape }: ValueForm): number => (dim < 0 ? dim + shape.length : dim);
