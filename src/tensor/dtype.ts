import { fail } from './error.js';

/** Element types, in the order of the native enumeration. */
export const DTYPES = [
  'float32',
  'bfloat16',
  'float16',
  'float64',
  'int32',
  'int64',
  'uint8',
  'bool',
] as const;

/** The type of a tensor's elements, by its name. */
export type DType = (typeof DTYPES)[number];

/** The dtypes that have gradients. */
export type FloatDType = 'float32' | 'bfloat16' | 'float16' | 'float64';

/** The dtypes that index other tensors. */
export type IndexDType = 'int32' | 'int64';

/** Everything but bool. */
export type NumericDType = Exclude<DType, 'bool'>;

const CODES = new Map<DType, number>(DTYPES.map((dtype, code) => [dtype, code]));

/** The native number of a dtype. */
export function dtypeCode(dtype: DType): number {
  const code = CODES.get(dtype);
  if (code === undefined) {
    fail('dtype', 'DTYPE', `expected one of ${DTYPES.join(', ')}, got '${String(dtype)}'`);
  }
  return code;
}

/** Whether a dtype has fractions, and so can have gradients. */
export function isFloating(dtype: DType): dtype is FloatDType {
  return dtype === 'float32' || dtype === 'float64' || dtype === 'bfloat16' || dtype === 'float16';
}

/** What `data()` gives: 16-bit floats widen to float32, int64 to (safe) numbers, bool is 0 or 1. */
export interface DataOf {
  float32: Float32Array;
  bfloat16: Float32Array;
  float16: Float32Array;
  float64: Float64Array;
  int32: Int32Array;
  int64: Float64Array;
  uint8: Uint8Array;
  bool: Uint8Array;
}

/** What `item()` and `toArray()` give. */
export interface ItemOf {
  float32: number;
  bfloat16: number;
  float16: number;
  float64: number;
  int32: number;
  int64: number;
  uint8: number;
  bool: boolean;
}
