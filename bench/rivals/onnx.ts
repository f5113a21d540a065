/**
 * Writes ONNX models: the few messages of onnx.proto3 that a graph needs, in protobuf's wire format.
 * Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3
 */

/** Version of the operator set: the first with Gelu. */
const OPSET = 20;
const IR_VERSION = 9;

const FLOAT = 1;
const INT64 = 7;

/** A protobuf message in the making. Fields are written in any order; the reader sorts them out. */
export class Message {
  private readonly parts: Uint8Array[] = [];

  private varint(value: number): void {
    const bytes: number[] = [];
    let rest = BigInt.asUintN(64, BigInt(value));
    while (rest > 127n) {
      bytes.push(Number(rest & 127n) | 128);
      rest >>= 7n;
    }
    bytes.push(Number(rest));
    this.parts.push(Uint8Array.from(bytes));
  }

  int(field: number, ...values: readonly number[]): this {
    for (const value of values) {
      this.varint(field << 3);
      this.varint(value);
    }
    return this;
  }

  float(field: number, value: number): this {
    this.varint((field << 3) | 5);
    this.parts.push(new Uint8Array(Float32Array.of(value).buffer));
    return this;
  }

  bytes(field: number, value: Uint8Array): this {
    this.varint((field << 3) | 2);
    this.varint(value.length);
    this.parts.push(value);
    return this;
  }

  text(field: number, ...values: readonly string[]): this {
    for (const value of values) this.bytes(field, new TextEncoder().encode(value));
    return this;
  }

  message(field: number, ...values: readonly Message[]): this {
    for (const value of values) this.bytes(field, value.encode());
    return this;
  }

  encode(): Uint8Array {
    return Buffer.concat(this.parts);
  }
}

export type Attribute = number | { readonly float: number } | readonly number[];

function attribute(name: string, value: Attribute): Message {
  const message = new Message().text(1, name);
  if (typeof value === 'number') return message.int(3, value).int(20, 2);
  if ('float' in value) return message.float(2, value.float).int(20, 1);
  return message.int(8, ...value).int(20, 7);
}

function valueInfo(name: string, shape: readonly number[]): Message {
  const dims = shape.map((n) => new Message().int(1, n));
  const tensor = new Message().int(1, FLOAT).message(2, new Message().message(1, ...dims));
  return new Message().text(1, name).message(2, new Message().message(1, tensor));
}

/** A value in a graph, by its name. */
export type Value = string;

/** A graph in the making: values are named in the order they are made. */
export class Graph {
  private readonly graph = new Message().text(2, 'benchmark');
  private count = 0;

  private name(): Value {
    this.count += 1;
    return `v${this.count}`;
  }

  input(name: string, shape: readonly number[]): Value {
    this.graph.message(11, valueInfo(name, shape));
    return name;
  }

  /** A float32 constant. */
  constant(data: Float32Array, shape: readonly number[]): Value {
    return this.initializer(FLOAT, shape, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }

  /** Whole numbers: a shape, axes, bounds. */
  integers(...values: readonly number[]): Value {
    const data = BigInt64Array.from(values, BigInt);
    return this.initializer(INT64, [values.length], new Uint8Array(data.buffer));
  }

  private initializer(type: number, shape: readonly number[], raw: Uint8Array): Value {
    const name = this.name();
    this.graph.message(
      5,
      new Message()
        .int(1, ...shape)
        .int(2, type)
        .text(8, name)
        .bytes(9, raw),
    );
    return name;
  }

  /** Adds a node with one result. */
  node(op: string, inputs: readonly Value[], attributes: Readonly<Record<string, Attribute>> = {}): Value {
    const name = this.name();
    const list = Object.entries(attributes).map(([key, value]) => attribute(key, value));
    this.graph.message(
      1,
      new Message()
        .text(1, ...inputs)
        .text(2, name)
        .text(4, op)
        .message(5, ...list),
    );
    return name;
  }

  /** The model with its result, whose shape the runtime infers. */
  model(output: Value, rank: number): Uint8Array {
    const anyDims = Array.from({ length: rank }, () => new Message());
    const tensor = new Message().int(1, FLOAT).message(2, new Message().message(1, ...anyDims));
    this.graph.message(12, new Message().text(1, output).message(2, new Message().message(1, tensor)));
    const opset = new Message().text(1, '').int(2, OPSET);
    return new Message()
      .int(1, IR_VERSION)
      .text(2, 'tenon-bench')
      .message(7, this.graph)
      .message(8, opset)
      .encode();
  }
}
