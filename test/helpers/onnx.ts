/**
 * Exported models in ONNX Runtime, and what they hold.
 */
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';

import { fromBinary } from '@bufbuild/protobuf';
import type { ExecutionContext } from 'ava';
import * as ort from 'onnxruntime-web';

import {
  type FloatTensor,
  type OnnxExport,
  type TensorModule,
  inferenceMode,
  tensor,
} from '../../src/index.js';
import { type ModelProto, ModelProtoSchema } from '../../src/onnx/generated/onnx_pb.js';
import { relativeError } from './golden.js';

ort.env.wasm.numThreads = 1;

/** The message of a file. */
export async function readOnnx(path: string): Promise<ModelProto> {
  return fromBinary(ModelProtoSchema, await readFile(path));
}

/** A result of the runtime. */
export interface OnnxResult {
  readonly data: Float32Array;
  readonly dims: readonly number[];
}

/** What ONNX Runtime makes of one input. */
export async function runOnnx(
  { path, dataPath, output }: OnnxExport,
  x: Float32Array,
  shape: readonly number[],
): Promise<OnnxResult> {
  const externalData =
    dataPath === undefined
      ? []
      : [{ path: basename(dataPath), data: new Uint8Array(await readFile(dataPath)) }];
  const session = await ort.InferenceSession.create(new Uint8Array(await readFile(path)), { externalData });
  try {
    const results = await session.run({ images: new ort.Tensor('float32', x, [...shape]) });
    const { data, dims } = results[output.name];
    return { data: Float32Array.from(data as ArrayLike<number | bigint>, Number), dims };
  } finally {
    await session.release();
  }
}

/** Numbers that look like none of a model's. */
export function numbersFor(shape: readonly number[], seed = 1): Float32Array {
  const size = shape.reduce((product, n) => product * n, 1);
  return Float32Array.from({ length: size }, (_, i) => Math.sin(78.233 * i + seed) + Math.cos(0.37 * i));
}

/** Compares an exported model with Tenon's own result, for batches of sizes that it was not recorded with. */
export async function expectSame(
  t: ExecutionContext,
  model: TensorModule,
  exported: OnnxExport,
  shape: readonly number[],
  tolerance = 1e-5,
): Promise<void> {
  for (const batch of [1, 5]) {
    const sizes = [batch, ...shape];
    const x = numbersFor(sizes, batch);
    using images: FloatTensor = tensor(x, { shape: sizes });
    using y = inferenceMode(() => model.call(images));
    const { data, dims } = await runOnnx(exported, x, sizes);
    t.deepEqual([...dims], [...y.shape]);
    const expected = Float32Array.from((await y.data()) as ArrayLike<number>);
    const error = relativeError(data, expected);
    t.true(error < tolerance, `batch ${batch}: relative error ${error}`);
    t.true(expected.some((value) => value !== 0));
  }
}
