/**
 * TensorFlow.js's tasks, on its cpu, wasm and node backends. Its models are written as its users write them: composed
 * ops under `tidy`, because it has no fused attention, layer norm or GELU; Adam stands for AdamW, which it lacks.
 */
import type { Prepared, System, Unsupported } from '../system.js';
import { type Task, type TaskOf, flops } from '../tasks.js';
import { parameterShapes } from '../vit.js';
import { loadPackage, packageFolder, packageVersion } from './packages.js';

interface T {
  readonly shape: readonly number[];
  dataSync(): ArrayLike<number>;
}

interface Optimizer {
  applyGradients(gradients: Readonly<Record<string, T>>): void;
}

/** The part of tfjs that is used. */
interface Tf {
  setBackend(name: string): Promise<boolean>;
  engine(): { startScope(): void; endScope(): void };
  tidy<R>(fn: () => R): R;
  variable(x: T, trainable: boolean, name: string): T;
  randomNormal(shape: readonly number[], mean?: number, deviation?: number): T;
  ones(shape: readonly number[]): T;
  zeros(shape: readonly number[]): T;
  tensor1d(values: Int32Array, dtype: 'int32'): T;
  oneHot(labels: T, classes: number): T;
  add(a: T, b: T | number): T;
  sub(a: T, b: T): T;
  mul(a: T, b: T | number): T;
  matMul(a: T, b: T, transposeA?: boolean, transposeB?: boolean): T;
  mean(x: T, axis: number, keepDims: boolean): T;
  square(x: T): T;
  rsqrt(x: T): T;
  erf(x: T): T;
  softmax(x: T): T;
  reshape(x: T, shape: readonly number[]): T;
  transpose(x: T, perm: readonly number[]): T;
  slice(x: T, begin: readonly number[], size: readonly number[]): T;
  unstack(x: T, axis: number): T[];
  concat(xs: readonly T[], axis: number): T;
  tile(x: T, reps: readonly number[]): T;
  grads(fn: (...xs: T[]) => T): (xs: readonly T[], dy?: T) => T[];
  variableGrads(fn: () => T): { value: T; grads: Record<string, T> };
  readonly losses: { softmaxCrossEntropy(labels: T, logits: T): T };
  readonly train: { adam(lr: number): Optimizer };
}

type Parameters = Readonly<Record<string, T>>;

/** The tasks on one backend. `share` is the share of a model's batch that it is given: 1 where it is fast enough. */
class Tasks {
  constructor(
    private readonly tf: Tf,
    private readonly share: number,
  ) {}

  private prepared(fn: () => T | readonly T[]): Prepared {
    return {
      run: () => {
        // tidy searches what it is given for tensors, so it is given nothing.
        this.tf.tidy(() => void [fn()].flat().at(-1)?.dataSync());
      },
    };
  }

  private linear(x: T, weight: T, bias: T): T {
    const { tf } = this;
    const inputs = x.shape.at(-1) ?? 1;
    const rows = tf.reshape(x, [-1, inputs]);
    const y = tf.add(tf.matMul(rows, weight, false, true), bias);
    return tf.reshape(y, [...x.shape.slice(0, -1), weight.shape[0]]);
  }

  private layerNorm(x: T, gamma: T, beta: T): T {
    const { tf } = this;
    const centred = tf.sub(x, tf.mean(x, -1, true));
    const scale = tf.rsqrt(tf.add(tf.mean(tf.square(centred), -1, true), 1e-6));
    return tf.add(tf.mul(tf.mul(centred, scale), gamma), beta);
  }

  private gelu(x: T): T {
    const { tf } = this;
    return tf.mul(tf.mul(x, 0.5), tf.add(tf.erf(tf.mul(x, Math.SQRT1_2)), 1));
  }

  private attention(qkv: T, heads: number): T {
    const { tf } = this;
    const [batch, n, features] = qkv.shape;
    const d = features / (3 * heads);
    const parts = tf.transpose(tf.reshape(qkv, [batch, n, 3, heads, d]), [2, 0, 3, 1, 4]);
    const [q, k, v] = tf.unstack(tf.reshape(parts, [3, batch * heads, n, d]), 0);
    const scores = tf.softmax(tf.matMul(tf.mul(q, 1 / Math.sqrt(d)), k, false, true));
    const mixed = tf.reshape(tf.matMul(scores, v), [batch, heads, n, d]);
    return tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), [batch, n, heads * d]);
  }

  private differentiable(op: (...xs: T[]) => T, inputs: readonly T[], backward: boolean): Prepared {
    if (!backward) return this.prepared(() => op(...inputs));
    const dy = this.tf.tidy(() => this.tf.randomNormal(op(...inputs).shape));
    const gradients = this.tf.grads(op);
    return this.prepared(() => gradients(inputs, dy));
  }

  private dispatch({ op, calls }: TaskOf<'dispatch'>): Prepared {
    const { tf } = this;
    const one = tf.ones([1]);
    const square = tf.ones([8, 8]);
    const row = tf.ones([1, 8]);
    const bias = tf.zeros([8]);
    const repeat = (call: () => unknown): Prepared => ({
      run: () =>
        tf.tidy(() => {
          for (let i = 0; i < calls; i++) call();
        }),
    });
    const chain = (next: (h: T, ...rest: T[]) => T, inputs: readonly T[], dy: T): Prepared => {
      const gradients = tf.grads((first, ...rest) => {
        let h = first;
        for (let i = 0; i < calls; i++) h = next(h, ...rest);
        return h;
      });
      return this.prepared(() => gradients(inputs, dy));
    };
    switch (op) {
      case 'add':
        return repeat(() => tf.add(one, one));
      case 'addBackward':
        return chain((h) => tf.add(h, one), [one], one);
      case 'linear':
        return repeat(() => this.linear(row, square, bias));
      case 'linearBackward':
        return chain((h, w, b) => this.linear(h, w, b), [row, square, bias], row);
      case 'reshape':
        return repeat(() => tf.reshape(square, [4, 16]));
      case 'permute':
        return repeat(() => tf.transpose(square, [1, 0]));
      case 'slice':
        return repeat(() => tf.slice(square, [2, 0], [4, 8]));
      case 'item':
        return repeat(() => tf.add(one, one).dataSync());
    }
  }

  private linearPass({ rows, inputs, outputs, pass }: TaskOf<'linear'>): Prepared {
    const { tf } = this;
    const x = tf.randomNormal([rows, inputs]);
    const weight = tf.randomNormal([outputs, inputs]);
    const bias = tf.randomNormal([outputs]);
    const dy = tf.randomNormal([rows, outputs]);
    switch (pass) {
      case 'forward':
        return this.prepared(() => this.linear(x, weight, bias));
      case 'forwardGelu':
        return this.prepared(() => this.gelu(this.linear(x, weight, bias)));
      case 'input':
        return this.prepared(() => tf.matMul(dy, weight));
      case 'weight':
        return this.prepared(() => tf.matMul(dy, x, true));
    }
  }

  private parameters(task: TaskOf<'vit' | 'adamw'>): Parameters {
    const { tf } = this;
    const entries = parameterShapes(task.vit).map(([name, shape]): [string, T] => {
      // Patches are projected by a product: the wasm backend has no gradient of a convolution's filter.
      const own = shape.length === 4 ? [shape[0], shape[1] * shape[2] * shape[3]] : shape;
      const first = /norm\d?\.weight$/.test(name) ? tf.ones(own) : tf.randomNormal(own, 0, 0.02);
      return [name, tf.variable(first, true, name)];
    });
    return Object.fromEntries(entries);
  }

  private forward(p: Parameters, images: T, { vit }: TaskOf<'vit'>): T {
    const { tf } = this;
    const batch = images.shape[0];
    const linear = (x: T, name: string): T => this.linear(x, p[`${name}.weight`], p[`${name}.bias`]);
    const norm = (x: T, name: string): T => this.layerNorm(x, p[`${name}.weight`], p[`${name}.bias`]);

    const { patch } = vit;
    const grid = vit.image / patch;
    const cut = tf.transpose(tf.reshape(images, [batch, grid, patch, grid, patch, 3]), [0, 1, 3, 2, 4, 5]);
    const patches = linear(tf.reshape(cut, [batch, grid * grid, patch * patch * 3]), 'patch_embed.proj');
    let x = tf.add(tf.concat([tf.tile(p['cls_token'], [batch, 1, 1]), patches], 1), p['pos_embed']);
    for (let i = 0; i < vit.depth; i++) {
      const block = `blocks.${i}`;
      const qkv = linear(norm(x, `${block}.norm1`), `${block}.attn.qkv`);
      x = tf.add(x, linear(this.attention(qkv, vit.heads), `${block}.attn.proj`));
      const hidden = this.gelu(linear(norm(x, `${block}.norm2`), `${block}.mlp.fc1`));
      x = tf.add(x, linear(hidden, `${block}.mlp.fc2`));
    }
    const first = tf.reshape(tf.slice(norm(x, 'norm'), [0, 0, 0], [batch, 1, vit.dim]), [batch, vit.dim]);
    return linear(first, 'head');
  }

  private labels(rows: number, classes: number): T {
    return this.tf.oneHot(
      this.tf.tensor1d(
        Int32Array.from({ length: rows }, (_, i) => i % classes),
        'int32',
      ),
      classes,
    );
  }

  private vit(task: TaskOf<'vit'>): Prepared {
    const { tf } = this;
    const batch = Math.max(1, Math.round(task.batch * this.share));
    const parameters = this.parameters(task);
    const images = tf.randomNormal([batch, task.vit.image, task.vit.image, 3]);
    const portion = batch / task.batch;
    if (!task.train) return { ...this.prepared(() => this.forward(parameters, images, task)), portion };
    const labels = this.labels(batch, task.vit.classes);
    const optimizer = tf.train.adam(1e-3);
    const run = (): unknown =>
      tf.tidy(() => {
        const { value, grads } = tf.variableGrads(() =>
          tf.losses.softmaxCrossEntropy(labels, this.forward(parameters, images, task)),
        );
        optimizer.applyGradients(grads);
        return value.dataSync()[0];
      });
    return { run, portion };
  }

  private adamw(task: TaskOf<'adamw'>): Prepared {
    const { tf } = this;
    const parameters = this.parameters(task);
    const gradients = Object.fromEntries(
      Object.entries(parameters).map(([name, { shape }]) => [name, tf.randomNormal(shape)]),
    );
    const optimizer = tf.train.adam(1e-3);
    return {
      run: () => {
        optimizer.applyGradients(gradients);
        return parameters['head.bias'].dataSync();
      },
    };
  }

  prepare(task: Task): Prepared | Unsupported {
    const { tf } = this;
    switch (task.kind) {
      case 'dispatch':
        return this.dispatch(task);
      case 'linear':
        return this.linearPass(task);
      case 'layerNorm': {
        const inputs = [
          tf.randomNormal([task.rows, task.features]),
          tf.ones([task.features]),
          tf.zeros([task.features]),
        ];
        return this.differentiable((x, g, b) => this.layerNorm(x, g, b), inputs, task.backward);
      }
      case 'gelu':
      case 'softmax': {
        const op = task.kind === 'gelu' ? (x: T) => this.gelu(x) : (x: T) => tf.softmax(x);
        return this.differentiable(op, [tf.randomNormal([task.rows, task.features])], task.backward);
      }
      case 'attention': {
        const qkv = tf.randomNormal([task.batch, task.tokens, 3 * task.heads * task.headDim]);
        return this.differentiable((x) => this.attention(x, task.heads), [qkv], task.backward);
      }
      case 'crossEntropy': {
        const labels = this.labels(task.rows, task.classes);
        const logits = tf.randomNormal([task.rows, task.classes]);
        return this.differentiable((x) => tf.losses.softmaxCrossEntropy(labels, x), [logits], true);
      }
      case 'adamw':
        return this.adamw(task);
      case 'vit':
        return task.precision === undefined ? this.vit(task) : { unsupported: 'it has no bfloat16' };
      case 'gemm':
      case 'copy':
        return { unsupported: 'it is not near the limits of the machine' };
      case 'windowAttention':
      case 'swin':
        return { unsupported: 'it has no Swin' };
      case 'convnet':
        return { unsupported: 'its convnets are not written here' };
      case 'load':
        return { unsupported: 'it has no loader of images' };
    }
  }
}

/** Takes a task unless it has more operations than a backend does in some ten seconds. */
function system(tf: Tf, threads: number, versions: System['versions'], share: number, most: number): System {
  const tasks = new Tasks(tf, share);
  return {
    versions,
    threads,
    prepare(task) {
      const work = flops(task) * (task.kind === 'vit' ? Math.max(share, 1 / task.batch) : 1);
      if (work > most) return { unsupported: 'it would take too long' };
      // What a task makes is freed with it: tfjs has no finalizers.
      tf.engine().startScope();
      const prepared = tasks.prepare(task);
      if ('unsupported' in prepared) tf.engine().endScope();
      return { ...prepared, dispose: () => tf.engine().endScope() };
    },
  };
}

const TFJS = '@tensorflow/tfjs';
const WASM = '@tensorflow/tfjs-backend-wasm';
const NODE = '@tensorflow/tfjs-node';

export async function loadTfjsCpu(): Promise<System> {
  const tf = loadPackage(TFJS) as Tf;
  await tf.setBackend('cpu');
  return system(tf, 1, { tfjs: packageVersion(TFJS) }, 1 / 16, 8e9);
}

/** On one thread: tfjs finds no support for its threads in Node. */
export async function loadTfjsWasm(): Promise<System> {
  const tf = loadPackage(TFJS) as Tf;
  const wasm = loadPackage(WASM) as { setWasmPaths(folder: string): void; getThreadsCount(): number };
  wasm.setWasmPaths(packageFolder(WASM));
  await tf.setBackend('wasm');
  return system(tf, wasm.getThreadsCount(), { tfjs: packageVersion(TFJS) }, 1 / 16, 2e11);
}

export async function loadTfjsNode(threads: number): Promise<System> {
  const tf = loadPackage(NODE) as Tf;
  await tf.setBackend('tensorflow');
  return system(tf, threads, { 'tfjs-node': packageVersion(NODE) }, 1, Infinity);
}
