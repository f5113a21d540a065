import test from 'ava';

import { Graph, Message } from '../../bench/rivals/onnx.js';

const hex = (message: Message): string => Buffer.from(message.encode()).toString('hex');

test('messages are in protobuf’s wire format', (t) => {
  // The examples of https://protobuf.dev/programming-guides/encoding/
  t.is(hex(new Message().int(1, 150)), '089601');
  t.is(hex(new Message().text(2, 'testing')), '120774657374696e67');
  t.is(hex(new Message().message(3, new Message().int(1, 150))), '1a03089601');
  t.is(hex(new Message().int(1, -2)), '08feffffffffffffffff01');
  t.is(hex(new Message().float(2, 1)), '150000803f');
});

test('a graph holds its constants, nodes, input and output', (t) => {
  const graph = new Graph();
  const x = graph.input('x', [2]);
  const one = graph.constant(Float32Array.of(1), [1]);
  const model = Buffer.from(graph.model(graph.node('Add', [x, one], { axis: 1 }), 1)).toString('latin1');
  t.is(one, 'v1');
  for (const part of [
    'benchmark',
    '\x0a\x01x\x0a\x02v1\x12\x02v2\x22\x03Add',
    '\x4a\x04\0\0\x80?',
    'tenon-bench',
  ]) {
    t.true(model.includes(part), part);
  }
});
