/**
 * Tensors from JavaScript values, and back.
 */
import { native } from '../native.js';
import {
  type OptionNames,
  expectArray,
  expectNumber,
  expectOptions,
  expectTensors,
} from '../tensor/arguments.js';
import { deviceIndex } from '../tensor/device.js';
import { type DType, type DataOf, type ItemOf, dtypeCode } from '../tensor/dtype.js';
import { fail } from '../tensor/error.js';
import { type Tensor, wrap } from '../tensor/tensor.js';
import { CREATE_OPTIONS, type CreateOptions, withGrad } from './creation.js';

/** Typed arrays and the dtypes they upload as. */
export type TypedData =
  Float32Array | Float64Array | Int32Array | BigInt64Array | Uint8Array | Uint8ClampedArray;

/** A number, as JavaScript has it for a dtype. */
export type Scalar = number | boolean | bigint;

/** Scalars in arrays in arrays. */
export type NestedArray<T> = readonly (T | NestedArray<T>)[];

/** What `tensor()` accepts. */
export type TensorData =
  TypedData | Scalar | NestedArray<bigint> | NestedArray<boolean> | NestedArray<number>;

/** The dtype of data when none is asked for. */
export type DTypeOfData<T> = T extends Float32Array
  ? 'float32'
  : T extends Float64Array
    ? 'float64'
    : T extends Int32Array
      ? 'int32'
      : T extends BigInt64Array
        ? 'int64'
        : T extends Uint8Array | Uint8ClampedArray
          ? 'uint8'
          : T extends boolean | NestedArray<boolean>
            ? 'bool'
            : T extends bigint | NestedArray<bigint>
              ? 'int64'
              : 'float32';

/** The shape of the values, and what kind of tensor to make. */
export interface TensorOptions<D extends DType = DType> extends CreateOptions<D> {
  /** Default: the nesting of the data, or one dimension for a typed array. */
  readonly shape?: readonly number[];
}

const OPTIONS = { ...CREATE_OPTIONS, shape: true } satisfies OptionNames<TensorOptions>;

/**
 * A tensor with the values of a number, a nested array or a typed array. Typed arrays keep their type (Float32Array is
 * float32, BigInt64Array int64, ...), numbers become float32, booleans bool, bigints int64, unless `dtype` says
 * otherwise.
 *
 * @throws TensorError SHAPE for ragged arrays, or when the shape does not fit; VALUE when a number is not a whole one in
 *   the range of an integer dtype
 * @example
 * tensor([[1, 2], [3, 4]])
 * tensor(new Uint8Array(pixels), { shape: [32, 32, 3], dtype: 'float32' })
 */
export function tensor<T extends TensorData>(
  data: T,
  options?: TensorOptions & { readonly dtype?: undefined },
): Tensor<DTypeOfData<T>>;
export function tensor<D extends DType>(
  data: TensorData,
  options: TensorOptions<D> & { readonly dtype: D },
): Tensor<D>;
export function tensor(data: TensorData, options: TensorOptions = {}): Tensor {
  expectOptions('tensor', options, OPTIONS);
  const device = deviceIndex(options.device ?? 'cpu');
  const typed = ArrayBuffer.isView(data);
  const shape = options.shape ?? (typed ? [data.length] : shapeOf(data));
  expectArray('tensor', 'shape', shape);
  for (const n of shape) expectNumber('tensor', 'shape', n);
  const [values, uploaded] = typed ? [data, dtypeOf(data)] : pack(data, options.dtype);
  if (shape.some((n) => !Number.isSafeInteger(n) || n < 0)) {
    fail('tensor', 'SHAPE', `expected sizes of 0 or more, got shape [${shape.join(', ')}]`);
  }
  const expected = shape.reduce((product, n) => product * n, 1);
  if (values.length !== expected) {
    fail(
      'tensor',
      'SHAPE',
      `expected ${expected} elements for shape [${shape.join(', ')}], got ${values.length}`,
    );
  }
  const result = wrap(native.upload(device, dtypeCode(uploaded), shape, values));
  const dtype = options.dtype ?? uploaded;
  if (dtype === uploaded) return withGrad(result, options);
  const converted = wrap(native.to(result.id, dtypeCode(dtype)));
  result.dispose();
  return withGrad(converted, options);
}

function dtypeOf(data: TypedData): DType {
  if (data instanceof Float32Array) return 'float32';
  if (data instanceof Float64Array) return 'float64';
  if (data instanceof Int32Array) return 'int32';
  if (data instanceof BigInt64Array) return 'int64';
  if (data instanceof Uint8Array || data instanceof Uint8ClampedArray) return 'uint8';
  return fail(
    'tensor',
    'DTYPE',
    'expected a Float32Array, Float64Array, Int32Array, BigInt64Array, Uint8Array or Uint8ClampedArray, ' +
      `got ${(data as object).constructor.name}`,
  );
}

/** The shape of nested arrays, by their first elements. */
function shapeOf(data: Exclude<TensorData, TypedData>): number[] {
  const shape: number[] = [];
  for (let level: unknown = data; Array.isArray(level); level = (level as unknown[])[0])
    shape.push(level.length);
  return shape;
}

/** Nested values, checked and laid out in the array type that holds the wanted dtype best. */
function pack(data: Exclude<TensorData, TypedData>, wanted: DType | undefined): [TypedData, DType] {
  const shape = shapeOf(data);
  const values: Scalar[] = [];
  flatten(data, shape, 0, values);
  const first = typeof values[0];
  values.forEach((value, i) => {
    const kind = typeof value;
    if (kind !== first || (kind !== 'number' && kind !== 'boolean' && kind !== 'bigint')) {
      fail(
        'tensor',
        'VALUE',
        `expected numbers, booleans or bigints of one kind, got ${kind} at element ${i}`,
      );
    }
  });
  const natural = first === 'boolean' ? 'bool' : first === 'bigint' ? 'int64' : 'float32';
  const dtype = wanted ?? natural;
  switch (dtype) {
    case 'float64':
      return [Float64Array.from(values, Number), 'float64'];
    case 'float32':
    case 'bfloat16':
    case 'float16':
      return [Float32Array.from(values, Number), 'float32'];
    case 'int64':
      return [BigInt64Array.from(values, (value) => toBigInt(value)), 'int64'];
    case 'int32':
      return [Int32Array.from(values, (value) => toInteger(value, dtype, -(2 ** 31), 2 ** 31 - 1)), 'int32'];
    case 'uint8':
      return [Uint8Array.from(values, (value) => toInteger(value, dtype, 0, 255)), 'uint8'];
    case 'bool':
      return [Uint8Array.from(values, (value) => (value ? 1 : 0)), 'bool'];
    default:
      return fail('tensor', 'DTYPE', `expected a dtype, got '${String(dtype)}'`);
  }
}

function flatten(value: unknown, shape: readonly number[], level: number, out: Scalar[]): void {
  const isLeaf = level === shape.length;
  if (Array.isArray(value) ? isLeaf || value.length !== shape[level] : !isLeaf) {
    const got = Array.isArray(value) ? `an array of ${value.length}` : String(value);
    const expected = isLeaf ? 'a number' : `an array of ${shape[level]}`;
    fail(
      'tensor',
      'SHAPE',
      `expected ${expected} at depth ${level} of nested arrays [${shape.join(', ')}], got ${got}`,
    );
  }
  if (isLeaf) {
    out.push(value as Scalar);
  } else {
    for (const item of value as readonly unknown[]) flatten(item, shape, level + 1, out);
  }
}

function toInteger(value: Scalar, dtype: DType, min: number, max: number): number {
  const number = Number(value);
  if (!Number.isInteger(number) || number < min || number > max) {
    fail('tensor', 'VALUE', `expected whole numbers from ${min} to ${max} for ${dtype}, got ${value}`);
  }
  return number;
}

function toBigInt(value: Scalar): bigint {
  if (typeof value === 'number' && !Number.isSafeInteger(value)) {
    fail('tensor', 'VALUE', `expected whole numbers up to 2^53 or bigints for int64, got ${value}`);
  }
  const integer = BigInt(value);
  if (BigInt.asIntN(64, integer) !== integer) {
    fail('tensor', 'VALUE', `expected numbers of 64 bits for int64, got ${integer}`);
  }
  return integer;
}

/** Elements that `toArray` gives: V8 ends the process where an array has some 2^27. */
const MOST_IN_ARRAYS = 2 ** 26;

/** Values in arrays in arrays, as deep as the tensor has dimensions; a scalar's value alone. */
export type NestedValues<T> = T | NestedValues<T>[];

/**
 * The values of a tensor as nested arrays; a scalar gives its value. bool gives booleans. Does not block the event loop.
 *
 * @throws TensorError VALUE for an int64 beyond 2^53, or for more than 2^26 elements; any error of the ops before it
 * @example
 * await toArray(eye(2)) // [[1, 0], [0, 1]]
 */
export async function toArray<D extends DType>(x: Tensor<D>): Promise<NestedValues<ItemOf[D]>> {
  expectTensors('toArray', x);
  if (x.size > MOST_IN_ARRAYS) {
    fail('toArray', 'VALUE', `expected at most 2^26 elements, got ${x.toString()}; data() gives more`);
  }
  const { shape, dtype } = x;
  return nest(await x.data(), shape, dtype);
}

function nest<D extends DType>(
  data: DataOf[D],
  shape: readonly number[],
  dtype: DType,
): NestedValues<ItemOf[D]> {
  let at = 0;
  const level = (depth: number): NestedValues<ItemOf[D]> => {
    if (depth < shape.length) return Array.from({ length: shape[depth] }, () => level(depth + 1));
    const value = data[at++];
    return (dtype === 'bool' ? value !== 0 : value) as ItemOf[D];
  };
  return level(0);
}
