/**
 * What JavaScript may give in the place of a tensor or of numbers: TypeScript refuses it, and here it becomes a sentence.
 */
import type { TensorId } from '../native.js';
import { TensorError, fail, shown } from './error.js';
import { Tensor } from './tensor.js';

export { type KindNames, type OptionNames, expectKind, expectOptions } from './options.js';

/**
 * @internal For a function that looks at its tensors before an op does, or hands them on unseen.
 * @throws TensorError VALUE unless all are tensors
 */
export function expectTensors(op: string, ...args: readonly unknown[]): void {
  for (const arg of args) if (!(arg instanceof Tensor)) throw noTensors(op, args);
}

/** @internal The same for an array. @throws TensorError VALUE unless all are tensors */
export function expectTensorList(op: string, parameter: string, list: unknown): void {
  if (!Array.isArray(list)) {
    fail(op, 'VALUE', `expected an array of tensors, got ${shown(list)} for ${parameter}`);
  }
  for (let i = 0; i < list.length; i++) {
    const item: unknown = list[i];
    if (item instanceof Tensor) continue;
    fail(op, 'VALUE', `expected tensors, got ${shown(item)} for ${parameter}[${i}]`);
  }
}

/** @internal The same for a state dict. @throws TensorError VALUE unless all are tensors */
export function expectTensorsByName(op: string, parameter: string, state: unknown): void {
  const isPlain = typeof state === 'object' && state !== null && !('then' in state) && !Array.isArray(state);
  if (!isPlain || state instanceof Tensor) {
    fail(op, 'VALUE', `expected tensors by name, got ${shown(state)} for ${parameter}`);
  }
  for (const [name, item] of Object.entries(state)) {
    if (item instanceof Tensor) continue;
    fail(op, 'VALUE', `expected tensors, got ${shown(item)} for ${parameter}['${name}']`);
  }
}

/** @internal The error of arguments that are not all the tensors that they should be. */
export function noTensors(op: string, args: readonly unknown[]): TensorError {
  return new TensorError(`${op}: expected tensors, got (${args.map(shown).join(', ')})`, op, 'VALUE');
}

/**
 * @internal The identifier of a tensor that may be left out. `x?.id` would leave out whatever has none.
 * @throws TensorError VALUE for anything but a tensor or undefined
 */
export function optionalId(op: string, parameter: string, x: Tensor | undefined): TensorId | undefined {
  if (x === undefined) return undefined;
  if (x instanceof Tensor) return x.id;
  return fail(op, 'VALUE', `expected a tensor or undefined, got ${shown(x)} for ${parameter}`);
}

/** @internal @throws TensorError VALUE unless it is a number */
export function expectNumber(op: string, parameter: string, value: unknown): asserts value is number {
  if (typeof value === 'number') return;
  fail(op, 'VALUE', `expected a number, got ${shown(value)} for ${parameter}`);
}

/** @internal @throws TensorError VALUE unless an option is a whole number of at least `least` */
export function expectWhole(op: string, name: string, value: unknown, least: number): void {
  if (Number.isInteger(value) && (value as number) >= least) return;
  fail(op, 'VALUE', `expected ${name} to be a whole number of at least ${least}, got ${shown(value)}`);
}

/** @internal @throws TensorError VALUE unless it is an array */
export function expectArray(
  op: string,
  parameter: string,
  value: unknown,
): asserts value is readonly unknown[] {
  if (Array.isArray(value)) return;
  fail(op, 'VALUE', `expected an array, got ${shown(value)} for ${parameter}`);
}

/** @internal One number, or an array of them, as an array. @throws TensorError VALUE for anything else */
export function numbersOf(op: string, parameter: string, value: unknown): readonly number[] {
  if (typeof value === 'number') return [value];
  if (!Array.isArray(value)) {
    return fail(op, 'VALUE', `expected a number or an array of them, got ${shown(value)} for ${parameter}`);
  }
  for (const item of value) expectNumber(op, parameter, item);
  return value as readonly number[];
}
