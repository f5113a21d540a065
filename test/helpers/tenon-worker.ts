/** A worker thread that computes with its own Tenon: what test/tensor/workers.ts starts. */
import { parentPort, workerData } from 'node:worker_threads';

import {
  AdamW,
  Linear,
  crossEntropy,
  getRandomState,
  manualSeed,
  matmul,
  memoryStats,
  normal,
  ones,
  randint,
  scope,
} from '../../src/index.js';

export interface WorkerTask {
  readonly seed: number;
  /** 'train' answers with the losses; 'queue' leaves while work is queued; 'pending' leaves while a read is awaited. */
  readonly does: 'train' | 'queue' | 'pending';
}

export interface WorkerAnswer {
  readonly losses: readonly number[];
  readonly offset: number;
  readonly tensors: number;
  readonly tensorsAtStart: number;
}

const { seed, does } = workerData as WorkerTask;
const tensorsAtStart = memoryStats().tensors;

if (does === 'train') {
  parentPort?.postMessage(await train());
} else {
  let x = ones([256, 256]);
  for (let i = 0; i < 200; i++) x = matmul(x, x);
  if (does === 'pending') void x.data();
  process.exit(7);
}

/** A few steps of a classifier on random data: the same numbers for the same seed, on any thread. */
async function train(): Promise<WorkerAnswer> {
  manualSeed(seed);
  const layer = new Linear(32, 4);
  const optimizer = new AdamW(layer.parameters(), { lr: 0.01 });
  const losses: number[] = [];
  for (let i = 0; i < 20; i++) {
    const loss = scope(() => {
      const loss = crossEntropy(layer.call(normal([16, 32])), randint([16], 0, 4));
      loss.backward();
      optimizer.step();
      optimizer.zeroGrad();
      return loss;
    });
    losses.push(await loss.item());
    loss.dispose();
  }
  const { tensors } = memoryStats();
  return { losses, offset: getRandomState().offset, tensors, tensorsAtStart };
}
