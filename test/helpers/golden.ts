/**
 * The reference numbers of PyTorch, timm and Pillow in ../shared/golden. A checkout of its own lacks them; tests that
 * need them are then skipped, and say so.
 */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import test, { type ExecutionContext } from 'ava';

import { type Device, type Tensor, devices, tensor } from '../../src/index.js';

/** The folder shared/ beside the checkout, from dist/test/helpers/. */
const shared = fileURLToPath(new URL('../../../../shared/', import.meta.url));

/** A path in shared/. */
export function sharedPath(path: string): string {
  return `${shared}${path}`;
}

/** A path in shared/golden. */
export function goldenPath(path: string): string {
  return `${shared}golden/${path}`;
}

/** A path in shared/data. */
export function sharedData(path: string): string {
  return `${shared}data/${path}`;
}

/** A test that needs something below shared/, skipped where there is none. */
export function sharedTest(
  title: string,
  needs: string,
  run: (t: ExecutionContext) => Promise<void> | void,
): void {
  if (existsSync(needs)) test(title, run);
  else test.skip(`${title} (skipped: no ${needs.slice(shared.length)} beside this checkout)`, run);
}

/** A test of a model on every device, against a folder in shared/golden. */
export function goldenTest(
  title: string,
  folder: string,
  run: (t: ExecutionContext, device: Device) => Promise<void> | void,
): void {
  for (const device of devices().slice(0, 2)) {
    const where = device === 'cpu' ? '' : ` on ${device}`;
    sharedTest(`${title}${where}`, goldenPath(folder), (t) => run(t, device));
  }
}

export interface GoldenTensor {
  readonly shape: readonly number[];
  readonly dtype: string;
  readonly data: Float32Array | Float64Array | BigInt64Array | Int32Array | Uint8Array;
}

const ARRAYS = {
  F32: Float32Array,
  F64: Float64Array,
  I64: BigInt64Array,
  I32: Int32Array,
  U8: Uint8Array,
  BOOL: Uint8Array,
} as const;

/** The arrays of a safetensors file in shared/golden, read by a reader of its own, and its metadata. */
export function readGolden(path: string): {
  tensors: Record<string, GoldenTensor>;
  metadata: Record<string, string>;
} {
  const bytes = readFileSync(goldenPath(path));
  const length = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, 8 + length).toString()) as Record<
    string,
    { dtype: keyof typeof ARRAYS; shape: number[]; data_offsets: [number, number] }
  >;
  const tensors: Record<string, GoldenTensor> = {};
  let metadata: Record<string, string> = {};
  for (const [name, entry] of Object.entries(header)) {
    if (name === '__metadata__') {
      metadata = entry as unknown as Record<string, string>;
      continue;
    }
    const [begin, end] = entry.data_offsets;
    const copy = Uint8Array.from(bytes.subarray(8 + length + begin, 8 + length + end));
    tensors[name] = { shape: entry.shape, dtype: entry.dtype, data: new ARRAYS[entry.dtype](copy.buffer) };
  }
  return { tensors, metadata };
}

/** A golden array as a tensor. */
export function asTensor(golden: GoldenTensor, device: Device = 'cpu'): Tensor {
  return tensor(golden.data, { shape: golden.shape, device });
}

/** The norm of the difference over the norm of what is expected. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number | bigint>): number {
  if (actual.length !== expected.length) {
    throw new Error(`relativeError: expected ${expected.length} numbers, got ${actual.length}`);
  }
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < actual.length; i++) {
    const wanted = Number(expected[i]);
    difference += (actual[i] - wanted) ** 2;
    norm += wanted ** 2;
  }
  return Math.sqrt(difference / Math.max(norm, 1e-30));
}
