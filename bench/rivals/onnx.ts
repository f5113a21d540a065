/**
 * Writes the model of a task as an ONNX file, with Tenon's own export: `node onnx.js TASK FILE`, TASK in JSON. A program of its own,
 * so that the process of the runtime that is measured holds nothing of Tenon.
 */
import { fileURLToPath } from 'node:url';

import {
  type FloatTensor,
  LayerNorm,
  Linear,
  Module,
  type TensorModule,
  attentionPacked,
  exportOnnx,
  gelu,
  matmul,
  normal,
  parameter,
  softmax,
  windowAttention,
} from '../../src/index.js';
import type { Task } from '../tasks.js';
import { createTaskModel, imagesOf } from '../tenon.js';

/** A kernel as a model. */
class Kernel extends Module {
  readonly weight: FloatTensor | undefined;

  constructor(
    private readonly compute: (x: FloatTensor, weight: FloatTensor) => FloatTensor,
    weight?: readonly number[],
  ) {
    super();
    this.weight = weight && parameter(normal(weight));
  }

  override forward(x: FloatTensor): FloatTensor {
    return this.compute(x, this.weight as FloatTensor);
  }
}

/** What a task computes of an input: the sizes of one sample, of `batch`. */
interface TaskModel {
  readonly make: () => TensorModule;
  readonly batch: number;
  readonly shape: readonly number[];
}

/** The model of a task, or undefined where that is no forward pass in float32. */
export function modelOf(task: Task): TaskModel | undefined {
  if ('precision' in task && task.precision !== undefined) return undefined;
  switch (task.kind) {
    case 'gemm': {
      const { size } = task;
      return { make: () => new Kernel(matmul, [size, size]), batch: size, shape: [size] };
    }
    case 'linear': {
      const { rows, inputs, outputs, pass } = task;
      if (pass !== 'forward' && pass !== 'forwardGelu') return undefined;
      const activation = pass === 'forward' ? 'none' : 'gelu';
      return { make: () => new Linear(inputs, outputs, { activation }), batch: rows, shape: [inputs] };
    }
    case 'layerNorm':
    case 'gelu':
    case 'softmax': {
      const { kind, rows, features, backward } = task;
      if (backward) return undefined;
      const make = (): TensorModule =>
        kind === 'layerNorm'
          ? new LayerNorm(features)
          : new Kernel((x) => (kind === 'gelu' ? gelu : softmax)(x));
      return { make, batch: rows, shape: [features] };
    }
    case 'attention': {
      const { batch, tokens, heads, headDim, backward } = task;
      if (backward) return undefined;
      const make = (): TensorModule => new Kernel((qkv) => attentionPacked(qkv, { numHeads: heads }));
      return { make, batch, shape: [tokens, 3 * heads * headDim] };
    }
    case 'windowAttention': {
      const { batch, map, window, shift, heads, headDim, backward } = task;
      if (backward) return undefined;
      const make = (): TensorModule =>
        new Kernel(
          (qkv, table) => windowAttention(qkv, table, { window, shift }),
          [(2 * window - 1) ** 2, heads],
        );
      return { make, batch, shape: [map, map, 3 * heads * headDim] };
    }
    case 'vit':
    case 'swin':
    case 'convnet': {
      if (task.train) return undefined;
      const { image } = imagesOf(task);
      return { make: () => createTaskModel(task), batch: task.batch, shape: [3, image, image] };
    }
    case 'dispatch':
    case 'load':
    case 'copy':
    case 'crossEntropy':
    case 'adamw':
      return undefined;
  }
}

/** Prints the sizes of the input, or nothing for a task that is no forward pass in float32. */
async function main(task: string, path: string): Promise<void> {
  const model = modelOf(JSON.parse(task) as Task);
  if (model === undefined) return;
  const { make, batch, shape } = model;
  await exportOnnx(path, make(), { shape });
  console.log(JSON.stringify([batch, ...shape]));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main(process.argv[2], process.argv[3]);
