/**
 * Tenon's tasks, through its public API as a user would write them.
 */
import {
  AdamW,
  type FloatTensor,
  type Tensor,
  type Model,
  SwinTransformer,
  VisionTransformer,
  attentionPacked,
  autocast,
  capture,
  copyInto,
  cpuInfo,
  createModel,
  crossEntropy,
  gelu,
  grad,
  inferenceMode,
  keep,
  layerNorm,
  linear,
  matmul,
  memoryStats,
  permute,
  reshape,
  scope,
  setRequiresGrad,
  slice,
  softmax,
  tensor,
  windowAttention,
} from '../src/index.js';
import * as ops from '../src/index.js';
import { deviceIndex } from '../src/tensor/device.js';
import { native } from '../src/native.js';
import { tenonVersion } from './machine.js';
import { profileNative } from './profile.js';
import type { Prepared, System } from './system.js';
import { type BenchDevice, type TaskOf, type TensorTask, flops, isModel } from './tasks.js';
import { prepareLoader } from './tenon-data.js';
import type { SwinShape } from './swin.js';
import type { VitConfig } from './vit.js';

type F32 = Tensor<'float32'>;

/** Where all of a process's tensors are. */
let device: BenchDevice = 'cpu';

type Dtype = 'float32' | 'bfloat16';
const normal = (shape: readonly number[], dtype: Dtype = 'float32'): F32 =>
  ops.normal(shape, { device, dtype }) as F32;
const ones = (shape: readonly number[], dtype: Dtype = 'float32'): F32 =>
  ops.ones(shape, { device, dtype }) as F32;
const zeros = (shape: readonly number[], dtype: Dtype = 'float32'): F32 =>
  ops.zeros(shape, { device, dtype }) as F32;

/** What a kernel's task does once. */
type Op = () => unknown;

/** Runs ops, frees what they made, and waits for their kernels. */
function prepared(op: Op, calls = 1): Prepared {
  return {
    run() {
      for (let i = 0; i < calls; i++) scope(() => void op());
      native.synchronizeSync(deviceIndex(device));
    },
    portion: calls,
  };
}

/** One forward pass, or one with the gradients of its inputs. */
function differentiable(op: (...inputs: F32[]) => Tensor, inputs: readonly F32[], backward: boolean): Op {
  if (!backward) return () => op(...inputs);
  for (const input of inputs) setRequiresGrad(input);
  const dy = scope(() => {
    const { shape, dtype } = op(...inputs);
    return normal(shape, dtype as Dtype);
  });
  return () => grad(op(...inputs), inputs, { gradients: [dy] });
}

function dispatch({ op, calls }: TaskOf<'dispatch'>): Prepared {
  const one = ones([1]);
  const x = setRequiresGrad(ones([1]));
  const square = ones([8, 8]);
  const row = ones([1, 8]);
  const bias = zeros([8]);
  const inputs = [
    setRequiresGrad(ones([1, 8])),
    setRequiresGrad(normal([8, 8])),
    setRequiresGrad(zeros([8])),
  ];

  const repeat = (call: () => unknown): Prepared =>
    prepared(() => {
      for (let i = 0; i < calls; i++) call();
    });
  const chain = (first: F32, next: (h: F32) => F32, wanted: readonly F32[], gradient: F32): Prepared =>
    prepared(() => {
      let h = first;
      for (let i = 0; i < calls; i++) h = next(h);
      grad(h, wanted, { gradients: [gradient] });
    });

  switch (op) {
    case 'add':
      return repeat(() => one.add(one));
    case 'addBackward':
      return chain(x, (h) => h.add(one), [x], one);
    case 'linear':
      return repeat(() => linear(row, square, bias));
    case 'linearBackward':
      return chain(inputs[0], (h) => linear(h, inputs[1], inputs[2]), inputs, row);
    case 'reshape':
      return repeat(() => reshape(square, [4, 16]));
    case 'permute':
      return repeat(() => permute(square, [1, 0]));
    case 'slice':
      return repeat(() => slice(square, [2, 6]));
    case 'item':
      return repeat(() => one.add(one).itemSync());
  }
}

function linearPass({ rows, inputs, outputs, pass, precision }: TaskOf<'linear'>): Op {
  const x = normal([rows, inputs], precision);
  const weight = normal([outputs, inputs], precision);
  const bias = normal([outputs], precision);
  const dy = normal([rows, outputs], precision);
  switch (pass) {
    case 'forward':
      return () => linear(x, weight, bias);
    case 'forwardGelu':
      return () => linear(x, weight, bias, { activation: 'gelu' });
    case 'input':
      return () => matmul(dy, weight);
    case 'weight':
      return () => matmul(dy.transpose(0, 1), x);
  }
}

function rowwise(task: TaskOf<'layerNorm' | 'gelu' | 'softmax'>): Op {
  const { kind, rows, features, backward, precision } = task;
  const x = normal([rows, features], precision);
  switch (kind) {
    case 'layerNorm':
      return differentiable(
        (x, gamma, beta) => layerNorm(x, gamma, beta, { eps: 1e-6 }),
        [x, ones([features], precision), zeros([features], precision)],
        backward,
      );
    case 'gelu':
      return differentiable((x) => gelu(x), [x], backward);
    case 'softmax':
      return differentiable((x) => softmax(x), [x], backward);
  }
}

function attention({ batch, tokens, heads, headDim, backward, precision }: TaskOf<'attention'>): Op {
  const qkv = normal([batch, tokens, 3 * heads * headDim], precision);
  return differentiable((qkv) => attentionPacked(qkv, { numHeads: heads }), [qkv], backward);
}

function windowed(task: TaskOf<'windowAttention'>): Op {
  const { batch, map, window, shift, heads, headDim, backward } = task;
  const qkv = normal([batch, map, map, 3 * heads * headDim]);
  const table = normal([(2 * window - 1) ** 2, heads]);
  return differentiable(
    (qkv, table) => windowAttention(qkv, table, { window, shift }),
    [qkv, table],
    backward,
  );
}

function labelsFor(rows: number, classes: number): Tensor<'int64'> {
  return tensor(
    Array.from({ length: rows }, (_, i) => i % classes),
    { dtype: 'int64', device },
  );
}

function loss({ rows, classes }: TaskOf<'crossEntropy'>): Op {
  const logits = setRequiresGrad(normal([rows, classes]));
  const labels = labelsFor(rows, classes);
  return () => grad(crossEntropy(logits, labels), [logits]);
}

/** Tenon's own model of a benchmark's configuration. */
export function createVit(vit: VitConfig): VisionTransformer {
  return new VisionTransformer({
    imgSize: vit.image,
    patchSize: vit.patch,
    embedDim: vit.dim,
    depth: vit.depth,
    numHeads: vit.heads,
    numClasses: vit.classes,
  });
}

/** Tenon's own Swin of a benchmark's configuration. */
export function createSwin(swin: SwinShape, dropPathRate = 0): SwinTransformer {
  return new SwinTransformer({
    imgSize: swin.image,
    patchSize: swin.patch,
    embedDim: swin.dim,
    depths: swin.depths,
    numHeads: swin.heads,
    windowSize: swin.window,
    numClasses: swin.classes,
    dropPathRate,
  });
}

const ADAMW = { lr: 1e-3, weightDecay: 0.05 };

function adamw({ vit }: TaskOf<'adamw'>): Op {
  const parameters = createVit(vit).to(device).parameters();
  for (const parameter of parameters) parameter.grad = keep<FloatTensor>(normal(parameter.shape));
  const optimizer = new AdamW(parameters, ADAMW);
  return () => optimizer.step();
}

type ModelTask = TaskOf<'vit' | 'swin' | 'convnet'>;

/** Tenon's own model of a task. */
export function createTaskModel(task: ModelTask): Model {
  switch (task.kind) {
    case 'vit':
      return createVit(task.vit);
    case 'swin':
      return createSwin(task.swin, task.dropPath);
    case 'convnet':
      return createModel(task.model, { imgSize: task.image, numClasses: task.classes });
  }
}

/** Pixels and classes of a task's images. */
export function imagesOf(task: ModelTask): { readonly image: number; readonly classes: number } {
  return task.kind === 'vit' ? task.vit : task.kind === 'swin' ? task.swin : task;
}

/** @param asGraph whether a training step on a GPU is a CUDA graph, as the Trainer's are */
function model(task: ModelTask, asGraph: boolean): Prepared {
  const { batch, train, precision = 'float32' } = task;
  const { image, classes } = imagesOf(task);
  const model = createTaskModel(task);
  model.to(device);
  const images: FloatTensor = normal([batch, 3, image, image]);
  if (!train) {
    model.eval();
    return { run: () => inferenceMode(() => autocast(precision, () => model.call(images)).dataSync()) };
  }
  const labels = labelsFor(batch, classes);
  const optimizer = new AdamW(model.parameters(), ADAMW);
  const step = (): Tensor => {
    const loss = autocast(precision, () => crossEntropy(model.call(images), labels));
    loss.backward();
    optimizer.step();
    optimizer.zeroGrad();
    return loss;
  };
  const run = asGraph ? capture(step, { device }) : step;
  return { run: () => scope(() => run().itemSync()) };
}

function kernel(task: Exclude<TensorTask, TaskOf<'dispatch' | 'vit' | 'swin' | 'convnet'>>): Op {
  switch (task.kind) {
    case 'gemm': {
      const a = normal([task.size, task.size], task.precision);
      const b = normal([task.size, task.size], task.precision);
      return () => matmul(a, b);
    }
    case 'copy': {
      const source = ones([task.elements]);
      const target = zeros([task.elements]);
      return () => copyInto(target, source);
    }
    case 'linear':
      return linearPass(task);
    case 'layerNorm':
    case 'gelu':
    case 'softmax':
      return rowwise(task);
    case 'attention':
      return attention(task);
    case 'windowAttention':
      return windowed(task);
    case 'crossEntropy':
      return loss(task);
    case 'adamw':
      return adamw(task);
  }
}

function prepare(task: TensorTask, asGraph = device === 'cuda'): Prepared {
  if (task.kind === 'dispatch') return dispatch(task);
  if (isModel(task)) return model(task, asGraph);
  // As in a model, a kernel is enqueued while others run: waiting for each would add what it takes to wake threads. A GPU
  // is done with a kernel before another reaches it unless many are in the queue.
  const calls = device === 'cuda' ? 32 : flops(task) > 1e9 ? 1 : 8;
  return prepared(kernel(task), calls);
}

export function loadTenon(_threads: number, where: BenchDevice): System {
  device = where;
  deviceIndex(device); // throws where there is none
  const { threads, oneDNN } = cpuInfo();
  return {
    versions: { tenon: tenonVersion(), oneDNN },
    threads,
    prepare: (task) => (task.kind === 'load' ? prepareLoader(task, threads) : prepare(task)),
    profile: (task) => profileNative(prepare(task, false), deviceIndex(device)),
    ...(device === 'cuda' ? { peakBytes: () => memoryStats('cuda').reservedPeak } : {}),
  };
}
