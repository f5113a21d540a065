/**
 * An ONNX graph in the making: nodes, and the constants that they read. Source: https://onnx.ai/onnx/repo-docs/IR.html and
 * https://onnx.ai/onnx/operators/.
 */
import { create } from '@bufbuild/protobuf';

import { fail } from '../tensor/error.js';
import { type DType, type Tensor, inferenceMode, keep } from '../tensor/index.js';
import { transpose } from '../ops/index.js';
import {
  type AttributeProto,
  AttributeProto_AttributeType as Kind,
  AttributeProtoSchema,
  type NodeProto,
  NodeProtoSchema,
  TensorProto_DataType as ElementType,
} from './generated/onnx_pb.js';
import { BatchSize, type ProgramStep, type Size, type Value } from './program.js';

/** What a node reads: a tensor of the program, or what another node gives. */
export type Input = Value | string;

/** A node's setting: whole numbers as they are, a real one in an object of its own. */
export type Attribute = number | string | readonly number[] | { readonly float: number };

/** A constant of the graph: a tensor, whose values are read when the file is written, or bytes. */
export interface Initializer {
  readonly name: string;
  readonly type: ElementType;
  readonly shape: readonly number[];
  readonly data: Tensor | Uint8Array;
}

/** How ONNX names the elements. All floating-point numbers become float32. */
export function elementType(dtype: DType): ElementType {
  switch (dtype) {
    case 'float32':
    case 'bfloat16':
    case 'float16':
    case 'float64':
      return ElementType.FLOAT;
    case 'int32':
      return ElementType.INT32;
    case 'int64':
      return ElementType.INT64;
    case 'uint8':
      return ElementType.UINT8;
    case 'bool':
      return ElementType.BOOL;
  }
}

/** The bytes of numbers of a type. @throws TensorError VALUE for a type that no constant of a translation has */
function bytesOf(type: ElementType, values: readonly number[]): Uint8Array {
  switch (type) {
    case ElementType.FLOAT:
      return new Uint8Array(Float32Array.from(values).buffer);
    case ElementType.INT64:
      return new Uint8Array(BigInt64Array.from(values, BigInt).buffer);
    case ElementType.INT32:
      return new Uint8Array(Int32Array.from(values).buffer);
    case ElementType.UINT8:
    case ElementType.BOOL:
      return Uint8Array.from(values);
    default:
      return fail('exportOnnx', 'VALUE', `expected a type that Tenon has, got ${ElementType[type]}`);
  }
}

function attributeOf(name: string, value: Attribute): AttributeProto {
  const of = (fields: Parameters<typeof create<typeof AttributeProtoSchema>>[1]): AttributeProto =>
    create(AttributeProtoSchema, { name, ...fields });
  if (typeof value === 'number') return of({ type: Kind.INT, i: BigInt(value) });
  if (typeof value === 'string') return of({ type: Kind.STRING, s: new TextEncoder().encode(value) });
  if ('float' in value) return of({ type: Kind.FLOAT, f: value.float });
  return of({ type: Kind.INTS, ints: value.map(BigInt) });
}

/** The input's name in every exported graph. */
export const INPUT = 'images';

/** A graph in the making. */
export class Graph {
  readonly nodes: NodeProto[] = [];
  readonly initializers: Initializer[] = [];
  private readonly results = new Map<ProgramStep, readonly (string | undefined)[]>();
  /** What is in the graph once, by what it stands for: constants, and sizes that grow with the batch. */
  private readonly known = new Map<string, string>();
  private readonly names: Set<string>;
  private readonly counts = new Map<string, number>();
  private readonly owned: Tensor[] = [];

  /** @param output what the result is called */
  constructor(readonly output: string) {
    this.names = new Set([INPUT, output]);
  }

  /** Frees the constants that it has made of the program's. */
  dispose(): void {
    for (const tensor of this.owned) tensor.dispose();
  }

  /** A name that nothing has yet: the wanted one, or with a number behind it. */
  private unique(wanted: string): string {
    let name = wanted;
    for (let n = 2; this.names.has(name); n++) name = `${wanted}_${n}`;
    this.names.add(name);
    return name;
  }

  /** Says what an op's results are called; undefined for one that has no translation. */
  define(step: ProgramStep, names: readonly (string | undefined)[]): void {
    this.results.set(step, names);
  }

  /** The name of what a node reads. @throws TensorError VALUE for a result without translation */
  nameOf(input: Input): string {
    if (typeof input === 'string') return input;
    const { source } = input;
    switch (source.kind) {
      case 'input':
        return INPUT;
      case 'constant':
        return this.once(`${source.tensor.handle.id}`, () => this.addTensor(source.tensor, source.name));
      case 'result':
        return (
          this.results.get(source.step)?.[source.output] ??
          fail(
            'exportOnnx',
            'VALUE',
            `expected a model that reads only the first result of '${source.step.name}', got one that reads ` +
              `result ${source.output + 1}, which has no translation`,
          )
        );
    }
  }

  /** Adds a node with some results, and gives their names. */
  addNode(
    op: string,
    inputs: readonly (Input | undefined)[],
    attributes: Readonly<Record<string, Attribute>>,
    outputs: number,
  ): string[] {
    const n = this.counts.get(op) ?? 0;
    this.counts.set(op, n + 1);
    const name = `${op}_${n}`;
    const output = Array.from({ length: outputs }, (_, i) =>
      this.unique(outputs === 1 ? name : `${name}.${i}`),
    );
    const input = inputs.map((one) => (one === undefined ? '' : this.nameOf(one)));
    const attribute = Object.entries(attributes).map(([key, value]) => attributeOf(key, value));
    this.nodes.push(create(NodeProtoSchema, { name, opType: op, input, output, attribute }));
    return output;
  }

  /** Adds a node with one result, and gives its name. An input that is left out is undefined. */
  node(
    op: string,
    inputs: readonly (Input | undefined)[],
    attributes: Readonly<Record<string, Attribute>> = {},
  ): string {
    return this.addNode(op, inputs, attributes, 1)[0];
  }

  /** The name of what is added once for each key. */
  private once(key: string, add: () => string): string {
    const name = this.known.get(key) ?? add();
    this.known.set(key, name);
    return name;
  }

  private addConstant(wanted: string, constant: Omit<Initializer, 'name'>): string {
    const name = this.unique(wanted);
    this.initializers.push({ name, ...constant });
    return name;
  }

  private addTensor(data: Tensor, name: string): string {
    return this.addConstant(name, { type: elementType(data.dtype), shape: data.shape, data });
  }

  /** Numbers as a constant. */
  numbers(values: readonly number[], shape: readonly number[], dtype: DType): string {
    const type = elementType(dtype);
    return this.once(`${type} [${shape.join()}] ${values.join()}`, () =>
      this.addConstant('constant', { type, shape, data: bytesOf(type, values) }),
    );
  }

  /** Whole numbers in a row: axes, bounds, sizes. */
  integers(values: readonly number[]): string {
    return this.numbers(values, [values.length], 'int64');
  }

  /** One number. */
  scalar(value: number, dtype: DType = 'float32'): string {
    return this.numbers([value], [], dtype);
  }

  /**
   * A weight `[out, in]` as `[in, out]`, which a MatMul reads. A parameter is stored so, under its own name: quantizers look for
   * products with constants, and not every runtime transposes them beforehand.
   */
  transposed(weight: Value): string {
    const { source } = weight;
    if (source.kind !== 'constant') return this.node('Transpose', [weight], { perm: [1, 0] });
    const { tensor, name } = source;
    return this.once(`${tensor.handle.id} transposed`, () => {
      const turned = keep(inferenceMode(() => transpose(tensor, 0, 1)));
      this.owned.push(turned);
      return this.addTensor(turned, name);
    });
  }

  /** A shape as a tensor of the graph, computed of the input's where it grows with the batch. */
  sizes(shape: readonly Size[]): string {
    if (shape.every((n) => typeof n === 'number')) return this.integers(shape);
    const parts = shape.map((n) => (typeof n === 'number' ? this.integers([n]) : this.batch(n)));
    return parts.length === 1 ? parts[0] : this.node('Concat', parts, { axis: 0 });
  }

  /** A size that grows with the batch, in a row of one. */
  private batch({ times }: BatchSize): string {
    return this.once(`batch ${times}`, () =>
      times === 1
        ? this.node('Shape', [INPUT], { start: 0, end: 1 })
        : this.node('Mul', [this.batch(new BatchSize(1)), this.integers([times])]),
    );
  }

  /** Another shape for the same elements. */
  reshape(x: Input, shape: readonly Size[]): string {
    const growing = shape.filter((n) => n instanceof BatchSize).length;
    const sizes =
      growing > 1 ? this.sizes(shape) : this.integers(shape.map((n) => (n instanceof BatchSize ? -1 : n)));
    return this.node('Reshape', [x, sizes]);
  }

  /** Makes a value the graph's result. */
  finish(result: Value): void {
    const name = this.nameOf(result);
    if (result.source.kind !== 'result' || name === INPUT) {
      this.nodes.push(
        create(NodeProtoSchema, { name: 'Result', opType: 'Identity', input: [name], output: [this.output] }),
      );
      return;
    }
    const renamed = (one: string): string => (one === name ? this.output : one);
    for (const node of this.nodes) {
      node.input = node.input.map(renamed);
      node.output = node.output.map(renamed);
    }
  }
}
