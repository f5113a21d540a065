/**
 * The dtype of a tensor at compile time. The compiler checks the lines below: a missing error is one.
 */
import test from 'ava';

import {
  AdamW,
  Linear,
  add,
  arange,
  argmax,
  attention,
  autocast,
  binaryCrossEntropy,
  crossEntropy,
  exp,
  full,
  gelu,
  grad,
  logicalNot,
  matmul,
  mean,
  mul,
  normal,
  oneHot,
  ones,
  randint,
  reshape,
  sum,
  tensor,
  where,
  zeros,
  type FloatDType,
  type Tensor,
} from '../../src/index.js';

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;

/** Compiles when the value is of exactly that type. */
const gives =
  <Expected>() =>
  <Actual>(_value: Actual, _same: Equal<Actual, Expected>): void =>
    undefined;

const f32 = (): Tensor<'float32'> => zeros([2, 2]);
const f64 = (): Tensor<'float64'> => zeros([2, 2], { dtype: 'float64' });
const i32 = (): Tensor<'int32'> => zeros([2, 2], { dtype: 'int32' });
const i64 = (): Tensor<'int64'> => zeros([2, 2], { dtype: 'int64' });
const flag = (): Tensor<'bool'> => zeros([2, 2], { dtype: 'bool' });

async function values(): Promise<void> {
  gives<Float32Array>()(await f32().data(), true);
  gives<Float32Array>()(await zeros([1], { dtype: 'bfloat16' }).data(), true);
  gives<Float64Array>()(await f64().data(), true);
  gives<Int32Array>()(i32().dataSync(), true);
  gives<Float64Array>()(await i64().data(), true);
  gives<BigInt64Array>()(await i64().data({ bigint: true }), true);
  gives<BigInt64Array>()(i64().dataSync({ bigint: true }), true);
  gives<Uint8Array>()(await flag().data(), true);
  gives<number>()(await f32().item(), true);
  gives<number>()(await i64().item(), true);
  gives<bigint>()(await i64().item({ bigint: true }), true);
  gives<bigint>()(i64().itemSync({ bigint: true }), true);
  gives<boolean>()(await flag().item(), true);
  gives<boolean>()(flag().itemSync(), true);
  // @ts-expect-error bigint is for int64
  await f32().data({ bigint: true });
  // @ts-expect-error bigint is for int64
  await i32().item({ bigint: true });
}

function mixedPrecision(): void {
  gives<Tensor<'float32'>>()(
    autocast('bfloat16', () => matmul(f32(), f32())),
    true,
  );
  gives<[number, Tensor<'float64'>]>()(
    autocast('float16', (): [number, Tensor<'float64'>] => [1, f64()]),
    true,
  );
  // @ts-expect-error 16 bits or float32
  autocast('float64', f64);
}

function creation(): void {
  gives<Tensor<'float32'>>()(zeros([2]), true);
  gives<Tensor<'float16'>>()(ones([2], { dtype: 'float16' }), true);
  gives<Tensor<'int64'>>()(arange(3), true);
  gives<Tensor<'int64'>>()(randint([2], 0, 3), true);
  gives<Tensor<'float32'>>()(oneHot(i64(), 3), true);
  gives<Tensor<'float32'>>()(tensor([[1, 2]]), true);
  gives<Tensor<'float64'>>()(tensor(new Float64Array(2)), true);
  gives<Tensor<'bool'>>()(tensor([true, false]), true);
  gives<Tensor<'int64'>>()(tensor([1n, 2n]), true);
  gives<Tensor<'uint8'>>()(tensor([1, 2], { dtype: 'uint8' }), true);
  tensor([
    [1, 2],
    // @ts-expect-error the error is at the element that is wrong, and at no other
    ['3', 4],
  ]);
  // @ts-expect-error zeros are float32 unless the options say otherwise
  const wrong: Tensor<'float64'> = zeros([2]);
  void wrong;
  // @ts-expect-error normal numbers are floating-point
  normal([2], { dtype: 'int32' });
  // @ts-expect-error no such dtype
  full([2], 1, { dtype: 'float' });
  // @ts-expect-error no such option
  zeros([2], { dtyp: 'int32' });
}

function ops<D extends FloatDType>(generic: Tensor<D>): void {
  gives<Tensor<'float64'>>()(add(f64(), 1), true);
  gives<Tensor<'int32'>>()(mul(i32(), i32()), true);
  gives<Tensor<'float32'>>()(f32().mul(f32()).exp(), true);
  gives<Tensor<D>>()(gelu(generic), true);
  gives<Tensor<D>>()(sum(mul(generic, generic)), true);
  gives<Tensor<'int64'>>()(sum(i32()), true);
  gives<Tensor<'int64'>>()(argmax(f32()), true);
  gives<Tensor<'bool'>>()(f32().greater(0), true);
  gives<Tensor<'int32'>>()(where(flag(), i32(), 0), true);
  gives<Tensor<'bool'>>()(reshape(flag(), [4]), true);
  gives<Tensor<'int32'>>()(f32().to('int32'), true);
  gives<Tensor<'int64'>>()(flag().sum(), true);
  gives<[Tensor<'float32'> | undefined, Tensor<'float64'> | undefined]>()(grad(f32(), [f32(), f64()]), true);
  crossEntropy(f32(), randint([2], 0, 2));
  // @ts-expect-error integers have no exponential
  exp(i32());
  // @ts-expect-error nor as a method
  i32().exp();
  // @ts-expect-error integers have no mean
  mean(i64());
  // @ts-expect-error bools do not add
  add(flag(), flag());
  // @ts-expect-error dtypes differ
  add(f32(), f64());
  // @ts-expect-error dtypes differ in a method too
  f32().add(f64());
  // @ts-expect-error integer matrices do not multiply
  matmul(i32(), i32());
  // @ts-expect-error numbers are not negated by not
  logicalNot(f32());
  // @ts-expect-error a condition is bool
  where(f32(), f32(), 0);
  // @ts-expect-error labels are indices or of the logits' dtype
  crossEntropy(f32(), flag());
  gives<Tensor<'float64'>>()(binaryCrossEntropy(f64(), f64()), true);
  // @ts-expect-error labels are made one-hot first
  binaryCrossEntropy(f32(), i64());
  // @ts-expect-error integers have no gradient
  i32().setRequiresGrad();
}

/** Of a model's output the compiler knows that it is a float: it goes with any, on either side. */
function outputs(y: Tensor<FloatDType>): void {
  gives<Tensor<'float32'>>()(mul(f32(), y), true);
  gives<Tensor<'float32'>>()(f32().add(y), true);
  gives<Tensor<FloatDType>>()(y.add(f32()), true);
  gives<Tensor<'bool'>>()(f32().equal(y), true);
  gives<Tensor<'float32'>>()(where(flag(), f32(), y), true);
  // @ts-expect-error a float is no integer
  i32().add(y);
  // @ts-expect-error nor as a function
  mul(i64(), y);
}

function options(): void {
  // @ts-expect-error no such option
  sum(f32(), { dims: 0 });
  // @ts-expect-error approximate is 'none' or 'tanh'
  gelu(f32(), { approximate: 'erf' });
  // @ts-expect-error no such option
  attention(f32(), f32(), f32(), { causal: true });
  // @ts-expect-error a mask is bool
  attention(f32(), f32(), f32(), { mask: f32() });
  // @ts-expect-error no such option
  new Linear(2, 2, { biass: false });
  // @ts-expect-error no such activation
  new Linear(2, 2, { activation: 'swish' });
  // @ts-expect-error two betas
  new AdamW([], { betas: [0.9] });
  // @ts-expect-error no such reduction
  crossEntropy(f32(), i64(), { reduction: 'avg' });
}

test('what the compiler knows of dtypes and options stays that way', (t) => {
  // Compiling this file is the test; these functions are never called.
  t.deepEqual(
    [values, mixedPrecision, creation, ops, outputs, options].map((f) => f.name),
    ['values', 'mixedPrecision', 'creation', 'ops', 'outputs', 'options'],
  );
});
