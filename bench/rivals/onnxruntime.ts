/**
 * ONNX Runtime's tasks: inference alone. Models are written by `onnx.ts`, with the ops that PyTorch's exporter would
 * choose, and optimised by the runtime as far as it goes.
 */
import type { Prepared, System, Unsupported } from '../system.js';
import type { Task, TaskOf } from '../tasks.js';
import { elements, parameterShapes, tokens } from '../vit.js';
import { Graph, type Value } from './onnx.js';
import { loadPackage, packageVersion } from './packages.js';

/** The part of onnxruntime-node that is used. */
interface OnnxRuntime {
  readonly InferenceSession: {
    create(model: Uint8Array, options: object): Promise<Session>;
  };
  readonly Tensor: new (type: 'float32', data: Float32Array, dims: readonly number[]) => object;
}

interface Session {
  run(feeds: Readonly<Record<string, object>>): Promise<unknown>;
  release(): Promise<void>;
}

/** A model with one input. */
interface Model {
  readonly bytes: Uint8Array;
  readonly input: readonly number[];
}

function random(shape: readonly number[], scale = 1): Float32Array {
  return Float32Array.from({ length: elements(shape) }, () => (Math.random() - 0.5) * 3.46 * scale);
}

function weights(graph: Graph, shape: readonly number[], scale?: number): Value {
  return graph.constant(random(shape, scale), shape);
}

/** x `[..., in]` by a weight stored as `[in, out]`. */
function linear(graph: Graph, x: Value, inputs: number, outputs: number): Value {
  const product = graph.node('MatMul', [x, weights(graph, [inputs, outputs], 1 / Math.sqrt(inputs))]);
  return graph.node('Add', [product, weights(graph, [outputs])]);
}

function layerNorm(graph: Graph, x: Value, dim: number): Value {
  const scale = weights(graph, [dim]);
  return graph.node('LayerNormalization', [x, scale, weights(graph, [dim])], {
    axis: -1,
    epsilon: { float: 1e-6 },
  });
}

/** Attention from a packed projection `[B, N, 3 H d]`. */
function attention(graph: Graph, qkv: Value, n: number, heads: number, headDim: number): Value {
  const split = graph.node('Reshape', [qkv, graph.integers(-1, n, 3, heads, headDim)]);
  const [q, k, v] = [0, 1, 2].map((index) => {
    const part = graph.node('Gather', [split, scalar(graph, index)], { axis: 2 });
    return graph.node('Transpose', [part], { perm: index === 1 ? [0, 2, 3, 1] : [0, 2, 1, 3] });
  });
  const scale = graph.constant(Float32Array.of(1 / Math.sqrt(headDim)), []);
  const scores = graph.node('MatMul', [graph.node('Mul', [q, scale]), k]);
  const mixed = graph.node('MatMul', [graph.node('Softmax', [scores], { axis: -1 }), v]);
  const joined = graph.node('Transpose', [mixed], { perm: [0, 2, 1, 3] });
  return graph.node('Reshape', [joined, graph.integers(-1, n, heads * headDim)]);
}

function scalar(graph: Graph, value: number): Value {
  return graph.node('Squeeze', [graph.integers(value)]);
}

function vitModel({ vit, batch }: TaskOf<'vit'>): Model {
  const { dim, heads, image, patch, classes } = vit;
  const n = tokens(vit);
  const shapes = new Map(parameterShapes(vit));
  const graph = new Graph();
  const parameter = (name: string): Value => weights(graph, shapes.get(name) ?? [], 0.02);

  const input = [batch, 3, image, image];
  const patches = graph.node(
    'Conv',
    [graph.input('x', input), parameter('patch_embed.proj.weight'), parameter('patch_embed.proj.bias')],
    { kernel_shape: [patch, patch], strides: [patch, patch] },
  );
  const rows = graph.node('Reshape', [patches, graph.integers(batch, dim, n - 1)]);
  const columns = graph.node('Transpose', [rows], { perm: [0, 2, 1] });
  const classToken = graph.node('Expand', [parameter('cls_token'), graph.integers(batch, 1, dim)]);
  let x = graph.node('Concat', [classToken, columns], { axis: 1 });
  x = graph.node('Add', [x, parameter('pos_embed')]);
  for (let i = 0; i < vit.depth; i++) {
    const qkv = linear(graph, layerNorm(graph, x, dim), dim, 3 * dim);
    x = graph.node('Add', [x, linear(graph, attention(graph, qkv, n, heads, dim / heads), dim, dim)]);
    const hidden = graph.node('Gelu', [linear(graph, layerNorm(graph, x, dim), dim, 4 * dim)]);
    x = graph.node('Add', [x, linear(graph, hidden, 4 * dim, dim)]);
  }
  const first = graph.node('Gather', [layerNorm(graph, x, dim), scalar(graph, 0)], { axis: 1 });
  return { bytes: graph.model(linear(graph, first, dim, classes), 2), input };
}

/** The model of a task, or undefined where the task is not inference. */
function modelOf(task: Task): Model | undefined {
  const graph = new Graph();
  switch (task.kind) {
    case 'gemm': {
      const input = [task.size, task.size];
      return {
        bytes: graph.model(graph.node('MatMul', [graph.input('x', input), weights(graph, input)]), 2),
        input,
      };
    }
    case 'linear': {
      const { rows, inputs, outputs, pass } = task;
      if (pass !== 'forward' && pass !== 'forwardGelu') return undefined;
      const y = linear(graph, graph.input('x', [rows, inputs]), inputs, outputs);
      return {
        bytes: graph.model(pass === 'forward' ? y : graph.node('Gelu', [y]), 2),
        input: [rows, inputs],
      };
    }
    case 'layerNorm':
    case 'gelu':
    case 'softmax': {
      if (task.backward) return undefined;
      const input = [task.rows, task.features];
      const x = graph.input('x', input);
      const y =
        task.kind === 'layerNorm'
          ? layerNorm(graph, x, task.features)
          : graph.node(task.kind === 'gelu' ? 'Gelu' : 'Softmax', [x]);
      return { bytes: graph.model(y, 2), input };
    }
    case 'attention': {
      if (task.backward) return undefined;
      const input = [task.batch, task.tokens, 3 * task.heads * task.headDim];
      const y = attention(graph, graph.input('x', input), task.tokens, task.heads, task.headDim);
      return { bytes: graph.model(y, 3), input };
    }
    case 'vit':
      return task.train || task.precision !== undefined ? undefined : vitModel(task);
    case 'dispatch':
    case 'copy':
    case 'crossEntropy':
    case 'adamw':
    case 'windowAttention':
    case 'swin':
    case 'convnet':
      return undefined;
  }
}

export function loadOnnxruntime(threads: number): System {
  const ort = loadPackage('onnxruntime-node') as OnnxRuntime;
  return {
    versions: { 'onnxruntime-node': packageVersion('onnxruntime-node') },
    threads,
    async prepare(task): Promise<Prepared | Unsupported> {
      const model = modelOf(task);
      if (model === undefined) return { unsupported: 'it runs inference of ViT alone' };
      const session = await ort.InferenceSession.create(model.bytes, {
        intraOpNumThreads: threads,
        interOpNumThreads: 1,
        graphOptimizationLevel: 'all',
      });
      const x = new ort.Tensor('float32', random(model.input), model.input);
      return { run: () => session.run({ x }), dispose: () => void session.release() };
    },
  };
}
