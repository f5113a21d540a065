/**
 * Tensors from JavaScript's arrays, and back.
 */
import test, { type ExecutionContext } from 'ava';

import { type DType, TensorError } from '../../src/tensor/index.js';
import * as ops from '../../src/ops/tensor.js';
import { ALL, NUMERIC, forbidden, opCases } from '../helpers/op-case.js';
import { random, values } from '../helpers/nd.js';

interface Options {
  readonly dtype?: DType;
  readonly shape?: readonly number[];
}

/** Where no dtype is named: numbers are float32, booleans bool, bigints int64, typed arrays their own. */
function natural(data: unknown): DType {
  if (data instanceof Float64Array) return 'float64';
  if (data instanceof Int32Array) return 'int32';
  if (data instanceof BigInt64Array) return 'int64';
  if (data instanceof Uint8Array || data instanceof Uint8ClampedArray) return 'uint8';
  const [first] = [data].flat(9);
  return typeof first === 'boolean' ? 'bool' : typeof first === 'bigint' ? 'int64' : 'float32';
}

function shapeOf(data: unknown): number[] {
  return Array.isArray(data) ? [data.length, ...shapeOf(data[0])] : [];
}

const { tensor } = ops;
const whole = 'expected whole numbers from';

opCases(ops, {
  tensor: {
    reference: (data: unknown, { dtype = natural(data), shape }: Options = {}) =>
      ArrayBuffer.isView(data)
        ? values(Array.from(data as Float64Array, Number), shape ?? [(data as Float64Array).length], dtype)
        : values([data].flat(9).map(Number), shape ?? shapeOf(data), dtype),
    samples: [
      [1.5],
      [true],
      [[1, 2, 3]],
      [[[1, 2], [3, 4]]], // prettier-ignore
      [[[true], [false]]], // prettier-ignore
      [[1n, -2n]],
      [[]],
      [[[], []]], // prettier-ignore
      [[1, 2, 3, 4], { shape: [2, 2] }],
      [Float32Array.of(1.5, 2)],
      [Float64Array.of(1.5, 2, 3, 4), { shape: [2, 1, 2] }],
      [Int32Array.of(-5, 7)],
      [BigInt64Array.of(-5n, 7n)],
      [Uint8Array.of(0, 255)],
      [Uint8ClampedArray.of(1, 2), { dtype: 'float32' }],
      [Float32Array.of(), { shape: [0, 3] }],
      ...ALL.map((dtype) => [[0, 1], { dtype }]),
      ...NUMERIC.map((dtype) => [Int32Array.of(1, 100), { dtype }]),
      [[true, false], { dtype: 'float32' }],
      [Float64Array.from(random([40_000]).data)],
    ],
    dtypes: ['float32'],
    gradient: false,
    errors: [
      [() => tensor([[1, 2], [3]]), 'SHAPE', 'tensor: expected an array of 2 at depth 1 of nested arrays [2, 2], got an array of 1'], // prettier-ignore
      [
        forbidden(tensor, [[1], 2]),
        'SHAPE',
        'tensor: expected an array of 1 at depth 1 of nested arrays [2, 1], got 2',
      ],
      [
        forbidden(tensor, [1, [2]]),
        'SHAPE',
        'tensor: expected a number at depth 1 of nested arrays [2], got an array of 1',
      ],
      [
        forbidden(tensor, [1, true]),
        'VALUE',
        'tensor: expected numbers, booleans or bigints of one kind, got boolean at element 1',
      ],
      [
        forbidden(tensor, ['a']),
        'VALUE',
        'tensor: expected numbers, booleans or bigints of one kind, got string at element 0',
      ],
      [
        () => tensor([1, 2, 3], { shape: [2, 2] }),
        'SHAPE',
        'tensor: expected 4 elements for shape [2, 2], got 3',
      ],
      [
        () => tensor([1, 2], { shape: [-1, -2] }),
        'SHAPE',
        'tensor: expected sizes of 0 or more, got shape [-1, -2]',
      ],
      [
        forbidden(tensor, new Uint16Array(2)),
        'DTYPE',
        'tensor: expected a Float32Array, Float64Array, Int32Array, BigInt64Array, Uint8Array or ' +
          'Uint8ClampedArray, got Uint16Array',
      ],
      [forbidden(tensor, [1], { dtype: 'float8' }), 'DTYPE', "tensor: expected a dtype, got 'float8'"],
      [
        () => tensor([1.5], { dtype: 'int32' }),
        'VALUE',
        `tensor: ${whole} -2147483648 to 2147483647 for int32, got 1.5`,
      ],
      [() => tensor([-1], { dtype: 'uint8' }), 'VALUE', `tensor: ${whole} 0 to 255 for uint8, got -1`],
      [
        () => tensor([2 ** 53], { dtype: 'int64' }),
        'VALUE',
        'tensor: expected whole numbers up to 2^53 or bigints for int64, got 9007199254740992',
      ],
      [
        () => tensor([2n ** 63n]),
        'VALUE',
        'tensor: expected numbers of 64 bits for int64, got 9223372036854775808',
      ],
      [
        forbidden(tensor, [1], { device: 'tpu' }),
        'DEVICE',
        "device: expected cpu, cuda or cuda:N, got 'tpu'",
      ],
    ],
  },
});

const rejects = async (t: ExecutionContext, promise: Promise<unknown>, message: string): Promise<void> => {
  const error = await t.throwsAsync(promise, { instanceOf: TensorError });
  t.is(error.message, message);
};

test('toArray nests the values as the tensor does', async (t) => {
  t.is(await ops.toArray(tensor(1.5)), 1.5);
  t.deepEqual(await ops.toArray(tensor([[1, 2, 3], [4, 5, 6]])), [[1, 2, 3], [4, 5, 6]]); // prettier-ignore
  t.deepEqual(await ops.toArray(tensor([[1, 2, 3], [4, 5, 6]]).transpose()), [[1, 4], [2, 5], [3, 6]]); // prettier-ignore
  t.deepEqual(await ops.toArray(tensor([true, false])), [true, false]);
  t.deepEqual(await ops.toArray(tensor([1n, -2n])), [1, -2]);
  t.deepEqual(await ops.toArray(tensor([], { shape: [2, 0] })), [[], []]);
  t.deepEqual(await ops.toArray(tensor([0.5, 3], { dtype: 'bfloat16' })), [0.5, 3]);
});

test('an int64 beyond 2^53 is read as a bigint, or is an error', async (t) => {
  const x = tensor([2n ** 60n]);
  t.deepEqual(await x.data({ bigint: true }), BigInt64Array.of(2n ** 60n));
  const message =
    'data: expected int64 values up to 2^53, got 1152921504606846976; read them with { bigint: true }';
  await rejects(t, ops.toArray(x), message);
});

test('item reads one value', async (t) => {
  t.is(await tensor([[2.5]]).item(), 2.5);
  t.is(tensor([true]).itemSync(), true);
  t.is(tensor([2n ** 60n + 1n]).itemSync({ bigint: true }), 2n ** 60n + 1n);
  t.is(await tensor([2n ** 60n]).item({ bigint: true }), 2n ** 60n);
  await rejects(t, tensor([1, 2]).item(), 'item: expected one element, got shape [2]');
  t.throws(() => tensor([1, 2]).itemSync(), { message: 'item: expected one element, got shape [2]' });
});

test('a disposed tensor is an error that says what it was', (t) => {
  const x = tensor([1, 2]);
  void x.shape;
  x.dispose();
  t.throws(() => x.dataSync(), {
    message: 'tensor: expected a live tensor, got one that was disposed (float32 [2])',
  });
});
