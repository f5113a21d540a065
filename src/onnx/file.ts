/**
 * ONNX files: a model as one message of protobuf, or, where that would pass protobuf's 2 GiB, with its larger constants in a file
 * beside it. Source: https://onnx.ai/onnx/repo-docs/ExternalData.html.
 */
import { basename } from 'node:path';

import { create, toBinary } from '@bufbuild/protobuf';

import { writeFileAtomic } from '../io/index.js';
import type { DType, Tensor } from '../tensor/index.js';
import { versions } from '../tensor/index.js';
import {
  GraphProtoSchema,
  ModelProtoSchema,
  StringStringEntryProtoSchema as EntrySchema,
  type TensorProto,
  TensorProtoSchema,
  TensorProto_DataLocation as DataLocation,
  TensorProto_DataType as ElementType,
  type ValueInfoProto,
  ValueInfoProtoSchema,
} from './generated/onnx_pb.js';
import { type Graph, INPUT, type Initializer, elementType } from './graph.js';
import type { Size, ValueForm } from './program.js';

/** The version of the set of operators: the first with Gelu. */
export const OPSET = 20;

/** The version of the format that came with it. */
const IR_VERSION = 9;

/** Bytes of constants up to which a model is one file: what protobuf takes, less what the nodes may be. */
const MAX_INLINE = 2 ** 31 - 2 ** 24;

/** Constants of fewer bytes stay in the model's own file: shapes and axes are read before the others are. */
const MIN_EXTERNAL = 1024;

/** Constants begin at multiples of it, so that runtimes can map them into memory. */
const ALIGNMENT = 4096;

/** What a file holds besides its graph. */
export interface OnnxContent {
  readonly graph: Graph;
  readonly name: string;
  readonly input: ValueForm;
  readonly result: ValueForm;
  readonly metadata: Readonly<Record<string, string>>;
}

/** What has been written. */
export interface Written {
  /** Of all files together. */
  readonly bytes: number;
  readonly dataPath: string | undefined;
}

const WIDTHS: Readonly<Partial<Record<ElementType, number>>> = {
  [ElementType.FLOAT]: 4,
  [ElementType.INT32]: 4,
  [ElementType.INT64]: 8,
  [ElementType.UINT8]: 1,
  [ElementType.BOOL]: 1,
};

const bytesOf = ({ shape, type }: Initializer): number =>
  shape.reduce((product, n) => product * n, WIDTHS[type] ?? 0);

/** The elements in row-major order, as the file has them. */
async function elementsOf(data: Tensor | Uint8Array): Promise<Uint8Array> {
  if (data instanceof Uint8Array) return data;
  const dtype: DType = data.dtype;
  const values =
    dtype === 'int64' ? await (data as Tensor<'int64'>).data({ bigint: true }) : await data.data();
  const { buffer, byteOffset, byteLength } =
    dtype === 'float64' ? Float32Array.from(values as Float64Array) : values;
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** A size in a description: how many, or the name of what is not known; `batch` where there is one for each sample. */
export function describedSize(size: Size): number | string {
  if (typeof size === 'number') return size;
  return size.times === 1 ? 'batch' : `${size.times}*batch`;
}

function valueInfo(name: string, { shape, dtype }: ValueForm): ValueInfoProto {
  const dim = shape.map(describedSize).map((size) => ({
    value:
      typeof size === 'number'
        ? ({ case: 'dimValue', value: BigInt(size) } as const)
        : ({ case: 'dimParam', value: size } as const),
  }));
  const tensorType = { elemType: elementType(dtype), shape: { dim } };
  return create(ValueInfoProtoSchema, { name, type: { value: { case: 'tensorType', value: tensorType } } });
}

function tensorOf({ name, type, shape }: Initializer): TensorProto {
  return create(TensorProtoSchema, { name, dataType: type, dims: shape.map(BigInt) });
}

/** The model's message, with its constants. */
function modelOf(content: OnnxContent, initializer: TensorProto[]): Uint8Array {
  const { graph, name, input, result, metadata } = content;
  const model = create(ModelProtoSchema, {
    irVersion: BigInt(IR_VERSION),
    producerName: 'tenon',
    producerVersion: versions()['tenon'],
    opsetImport: [{ domain: '', version: BigInt(OPSET) }],
    graph: create(GraphProtoSchema, {
      name,
      node: graph.nodes,
      initializer,
      input: [valueInfo(INPUT, input)],
      output: [valueInfo(graph.output, result)],
    }),
    metadataProps: Object.entries(metadata).map(([key, value]) => ({ key, value })),
  });
  return toBinary(ModelProtoSchema, model);
}

/**
 * Writes a model, each file atomically.
 *
 * @param maxInline bytes of constants up to which there is one file
 * @throws TensorError IO with the path and the reason
 */
export async function writeOnnx(
  path: string,
  content: OnnxContent,
  maxInline = MAX_INLINE,
): Promise<Written> {
  const { initializers } = content.graph;
  const total = initializers.reduce((sum, one) => sum + bytesOf(one), 0);
  const isExternal = (one: Initializer): boolean => total > maxInline && bytesOf(one) >= MIN_EXTERNAL;
  const outside: Placed[] = [];
  const tensors: TensorProto[] = [];
  let end = 0;
  for (const one of initializers) {
    const tensor = tensorOf(one);
    tensors.push(tensor);
    if (!isExternal(one)) {
      tensor.rawData = await elementsOf(one.data);
      continue;
    }
    const offset = Math.ceil(end / ALIGNMENT) * ALIGNMENT;
    outside.push({ data: one.data, offset });
    end = offset + bytesOf(one);
    tensor.dataLocation = DataLocation.EXTERNAL;
    const place = { location: `${basename(path)}.data`, offset, length: bytesOf(one) };
    tensor.externalData = Object.entries(place).map(([key, value]) =>
      create(EntrySchema, { key, value: String(value) }),
    );
  }
  const model = modelOf(content, tensors);
  const dataPath = outside.length > 0 ? `${path}.data` : undefined;
  if (dataPath !== undefined) await writeFileAtomic(dataPath, placed(outside));
  await writeFileAtomic(path, model);
  return { bytes: model.length + end, dataPath };
}

/** A constant, and where it begins in the file beside the model. */
interface Placed extends Pick<Initializer, 'data'> {
  readonly offset: number;
}

/** Constants one after the other, each in its place. */
async function* placed(constants: readonly Placed[]): AsyncGenerator<Uint8Array> {
  let end = 0;
  for (const { data, offset } of constants) {
    if (offset > end) yield new Uint8Array(offset - end);
    const bytes = await elementsOf(data);
    yield bytes;
    end = offset + bytes.length;
  }
}
