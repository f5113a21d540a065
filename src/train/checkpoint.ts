/**
 * Training states as files: everything a run needs to continue exactly, in one safetensors file, so that it is written
 * in one step: a kill at any moment leaves the file of before or the new one, each whole.
 */
import { readSafetensors, saveSafetensors } from '../io/index.js';
import type { GradScalerState, OptimizerState } from '../optim/index.js';
import { fail } from '../tensor/error.js';
import type { RandomState, Tensor } from '../tensor/index.js';
import type { Progress } from './progress.js';

/** What a trainer needs to continue: tensors, and plain values. */
export interface TrainingState {
  /** Named `model.*`, `optimizer.*` and `ema.*`. */
  readonly tensors: Readonly<Record<string, Tensor>>;
  readonly values: {
    readonly optimizer: OptimizerState['values'];
    readonly emaSteps: number;
    /** Of training in float16. */
    readonly scaler?: GradScalerState | undefined;
    /** Of dropout and stochastic depth; the data's order follows from the epoch and the seed. */
    readonly random: RandomState;
    readonly progress: Progress;
  };
}

/** Where the values are in the file's metadata. */
const KEY = 'tenon.training';

/** Writes a state. @throws TensorError IO; the file of before is then still whole */
export async function saveTrainingState(path: string, state: TrainingState): Promise<void> {
  await saveSafetensors(path, state.tensors, { [KEY]: JSON.stringify(state.values) });
}

/** Reads a state. The caller disposes of the tensors. @throws TensorError IO when the file is none */
export async function readTrainingState(path: string): Promise<TrainingState> {
  const { tensors, metadata } = await readSafetensors(path);
  const json = metadata[KEY] as string | undefined;
  if (json === undefined) {
    for (const tensor of Object.values(tensors)) tensor.dispose();
    return fail(
      'readTrainingState',
      'IO',
      `expected a training checkpoint, got ${path} without '${KEY}' in its metadata`,
    );
  }
  try {
    return { tensors, values: JSON.parse(json) as TrainingState['values'] };
  } catch (error) {
    for (const tensor of Object.values(tensors)) tensor.dispose();
    return fail(
      'readTrainingState',
      'IO',
      `expected JSON in the metadata of ${path}, got ${(error as Error).message}`,
    );
  }
}
