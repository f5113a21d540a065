/**
 * ONNX Runtime's tasks: inference alone. Models are those of Tenon, as `exportOnnx` writes them, and optimised by the runtime as far as
 * it goes.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import type { Prepared, System, Unsupported } from '../system.js';
import type { Task } from '../tasks.js';
import { elements } from '../vit.js';
import { loadPackage, packageVersion } from './packages.js';

/** The part of onnxruntime-node that is used. */
interface OnnxRuntime {
  readonly InferenceSession: {
    create(path: string, options: object): Promise<Session>;
  };
  readonly Tensor: new (type: 'float32', data: Float32Array, dims: readonly number[]) => object;
}

interface Session {
  run(feeds: Readonly<Record<string, object>>): Promise<unknown>;
  release(): Promise<void>;
}

/** What the program that writes models says: the sizes of the input, or nothing where a task is no inference. */
async function writeModel(task: Task, path: string): Promise<readonly number[] | undefined> {
  const writer = fileURLToPath(new URL('onnx.js', import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [writer, JSON.stringify(task), path]);
  return stdout === '' ? undefined : (JSON.parse(stdout) as readonly number[]);
}

export function loadOnnxruntime(threads: number): System {
  const ort = loadPackage('onnxruntime-node') as OnnxRuntime;
  return {
    versions: { 'onnxruntime-node': packageVersion('onnxruntime-node') },
    threads,
    async prepare(task): Promise<Prepared | Unsupported> {
      const folder = await mkdtemp(join(tmpdir(), 'tenon-bench-'));
      try {
        const path = join(folder, 'model.onnx');
        const shape = await writeModel(task, path);
        if (shape === undefined) return { unsupported: 'it runs inference in float32 alone' };
        const session = await ort.InferenceSession.create(path, {
          intraOpNumThreads: threads,
          interOpNumThreads: 1,
          graphOptimizationLevel: 'all',
        });
        const values = Float32Array.from({ length: elements(shape) }, () => (Math.random() - 0.5) * 3.46);
        const images = new ort.Tensor('float32', values, shape);
        return { run: () => session.run({ images }), dispose: () => void session.release() };
      } finally {
        await rm(folder, { recursive: true, force: true });
      }
    },
  };
}
