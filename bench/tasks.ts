/**
 * What is measured: tasks that every system prepares in its own way, and the work that one run of each does.
 */
import { describeModel, modelEntry } from '../src/index.js';
import { type SwinShape, swinFlops } from './swin.js';
import { type VitConfig, elements, forwardFlops, parameterShapes } from './vit.js';

/** What a small call costs, whatever it computes. */
export type DispatchOp =
  'add' | 'addBackward' | 'linear' | 'linearBackward' | 'reshape' | 'permute' | 'slice' | 'item';

/** Where the tasks of a run are computed. */
export type BenchDevice = 'cpu' | 'cuda';

export type Task =
  /** `calls` ops on the smallest tensors. */
  | { readonly kind: 'dispatch'; readonly op: DispatchOp; readonly calls: number }
  /** Square matrix product: the rate that no kernel here can pass. */
  | ({ readonly kind: 'gemm'; readonly size: number } & KernelRun)
  /** A copy of a large tensor. */
  | { readonly kind: 'copy'; readonly elements: number }
  /** A linear layer: forward (`gelu` fused where the system can), or its gradient for the input or the weight. */
  | ({
      readonly kind: 'linear';
      readonly rows: number;
      readonly inputs: number;
      readonly outputs: number;
      readonly pass: 'forward' | 'forwardGelu' | 'input' | 'weight';
    } & KernelRun)
  /** Along the last dimension, forward alone or with backward. */
  | ({
      readonly kind: 'layerNorm' | 'gelu' | 'softmax';
      readonly rows: number;
      readonly features: number;
      readonly backward: boolean;
    } & KernelRun)
  /** Self-attention from a packed projection `[batch, tokens, 3 heads headDim]`. */
  | ({
      readonly kind: 'attention';
      readonly batch: number;
      readonly tokens: number;
      readonly heads: number;
      readonly headDim: number;
      readonly backward: boolean;
    } & KernelRun)
  /** Swin's attention in windows of square maps, from the projection of a map `[batch, map, map, 3 heads headDim]`. */
  | {
      readonly kind: 'windowAttention';
      readonly batch: number;
      readonly map: number;
      readonly window: number;
      readonly shift: number;
      readonly heads: number;
      readonly headDim: number;
      readonly backward: boolean;
    }
  /** Loss and gradient. */
  | { readonly kind: 'crossEntropy'; readonly rows: number; readonly classes: number }
  /** One update of all parameters of a model. */
  | { readonly kind: 'adamw'; readonly vit: VitConfig }
  | ({ readonly kind: 'vit'; readonly vit: VitConfig } & ModelRun)
  /** With the stochastic depth of its last block in training (0 where left out). */
  | ({ readonly kind: 'swin'; readonly swin: SwinShape; readonly dropPath?: number } & ModelRun)
  | ({
      readonly kind: 'convnet';
      readonly model: 'resnet18' | 'regnety_002';
      readonly image: number;
      readonly classes: number;
    } & ModelRun)
  /** A batch, from images to one tensor, by the workers of a loader: one for each thread. */
  | {
      readonly kind: 'load';
      /**
       * `crop`: a random part at 224 pixels, mirrored or not; `augment`: with RandAugment and random erasing too; `center`: resized,
       * and the middle of it; `cifar`: a random place in 32 x 32 pixels with a margin, mirrored or not. All are normalised.
       */
      readonly transform: 'crop' | 'augment' | 'center' | 'cifar';
      readonly batch: number;
      /** In one epoch, which is one run. */
      readonly batchesPerWorker: number;
      /** Where the photographs are, as the harness has written them; without, small images in memory. */
      readonly photographs?: string;
    };

/** A kernel on random numbers. */
interface KernelRun {
  /** Of what it reads and writes; float32 where nothing is said. */
  readonly precision?: 'bfloat16';
}

/** A training step (forward, backward, AdamW) or a forward pass of a model. */
interface ModelRun {
  readonly batch: number;
  readonly train: boolean;
  /** Mixed precision with float32 weights, where it is not all float32. */
  readonly precision?: 'bfloat16';
}

/** The tasks of some kinds. */
export type TaskOf<K extends Task['kind']> = Extract<Task, { readonly kind: K }>;

/** A task that a system computes with tensors. */
export type TensorTask = Exclude<Task, TaskOf<'load'>>;

/** Whether a task runs a whole model. */
export function isModel(task: Task): task is TaskOf<'vit' | 'swin' | 'convnet'> {
  return task.kind === 'vit' || task.kind === 'swin' || task.kind === 'convnet';
}

export interface Case {
  readonly suite: string;
  readonly name: string;
  readonly task: Task;
  /** Measured in processes of its own, whose peak memory is reported. */
  readonly memory: boolean;
}

/** How a number of seconds for one run is shown. */
export interface Metric {
  readonly name: string;
  readonly unit: string;
  /** True where less is better. */
  readonly lessIsBetter: boolean;
  /** The value for one run of `seconds`. */
  of(seconds: number): number;
}

const FLOAT = 4;

const sizeOf = ({ precision }: KernelRun): number => (precision === 'bfloat16' ? 2 : FLOAT);

/** Floating-point operations of one run; 0 where memory bounds the task. Backward passes count as the algorithm needs. */
export function flops(task: Task): number {
  switch (task.kind) {
    case 'gemm':
      return 2 * task.size ** 3;
    case 'linear':
      return 2 * task.rows * task.inputs * task.outputs;
    case 'attention': {
      // Forward has two products; backward recomputes the scores and has four more.
      const product = 2 * task.batch * task.heads * task.tokens ** 2 * task.headDim;
      return product * (task.backward ? 7 : 2);
    }
    case 'windowAttention': {
      const product = 2 * task.batch * task.heads * (task.map * task.window) ** 2 * task.headDim;
      return product * (task.backward ? 7 : 2);
    }
    case 'vit':
      return forwardFlops(task.vit) * task.batch * (task.train ? 3 : 1);
    case 'swin':
      return swinFlops(task.swin, task.dropPath) * task.batch * (task.train ? 3 : 1);
    case 'convnet': {
      const { gflops } = describeModel(modelEntry(task.model)); // at 224 pixels; the map's area scales
      return gflops * 1e9 * (task.image / 224) ** 2 * task.batch * (task.train ? 3 : 1);
    }
    case 'dispatch':
    case 'load':
    case 'copy':
    case 'layerNorm':
    case 'gelu':
    case 'softmax':
    case 'crossEntropy':
    case 'adamw':
      return 0;
  }
}

/** Bytes that one run must read and write at least; 0 where arithmetic bounds the task. */
export function bytes(task: Task): number {
  switch (task.kind) {
    case 'copy':
      return 2 * task.elements * FLOAT;
    case 'layerNorm':
    case 'gelu':
    case 'softmax':
      // x -> y, then (x or y, dy) -> dx
      return task.rows * task.features * sizeOf(task) * (task.backward ? 5 : 2);
    case 'crossEntropy':
      return 2 * task.rows * task.classes * FLOAT;
    case 'adamw':
      // parameter, gradient and two moments are read, all but the gradient written
      return 7 * FLOAT * parameterShapes(task.vit).reduce((sum, [, shape]) => sum + elements(shape), 0);
    case 'dispatch':
    case 'load':
    case 'gemm':
    case 'linear':
    case 'attention':
    case 'windowAttention':
    case 'vit':
    case 'swin':
    case 'convnet':
      return 0;
  }
}

/** The number that a task is reported by. */
export function metricOf(task: Task): Metric {
  if (task.kind === 'dispatch') {
    return { name: 'time per op', unit: 'us', lessIsBetter: true, of: (s) => (s / task.calls) * 1e6 };
  }
  if (isModel(task) || task.kind === 'load') {
    return { name: 'throughput', unit: 'images/s', lessIsBetter: false, of: (s) => task.batch / s };
  }
  const operations = flops(task);
  if (operations > 0) {
    return { name: 'rate', unit: 'GFLOP/s', lessIsBetter: false, of: (s) => operations / s / 1e9 };
  }
  const traffic = bytes(task);
  return { name: 'bandwidth', unit: 'GB/s', lessIsBetter: false, of: (s) => traffic / s / 1e9 };
}

/**
 * What the machine can do at most where the task is bound by arithmetic or by memory, as a task that is measured beside
 * it: a large matrix product, or a copy that moves as many bytes (so that what fits a cache is compared with a cache).
 */
export function limitOf(task: Task, device: BenchDevice = 'cpu'): TaskOf<'gemm' | 'copy'> | undefined {
  if (flops(task) > 0) {
    if (device === 'cpu') return { kind: 'gemm', size: 2048 };
    return { kind: 'gemm', size: 8192, ...('precision' in task && { precision: task.precision }) };
  }
  const traffic = bytes(task);
  return traffic > 0 ? { kind: 'copy', elements: Math.round(traffic / (2 * FLOAT)) } : undefined;
}
