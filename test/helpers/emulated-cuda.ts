/**
 * Import this before anything else to have two GPUs that the host emulates (`native/test/cuda_emulator`): the CUDA plugin's
 * own sources, compiled for the host. They are slow, and what they compute is what a GPU would, up to rounding. With
 * TENON_TEST_GPU in the environment a real GPU takes their place (gpu/run.sh).
 */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../../', import.meta.url)); // from dist/test/helpers/
export const EMULATED_PLUGIN = `${root}build/Release/tenon_cuda_emulated.so`;

if (process.env['TENON_TEST_GPU'] === undefined) {
  if (!existsSync(EMULATED_PLUGIN)) {
    throw new Error(`expected the emulated GPUs at ${EMULATED_PLUGIN}, found nothing there: run "npm test"`);
  }
  process.env['TENON_CUDA_PLUGIN'] = EMULATED_PLUGIN;
  process.env['TENON_CUDA_TUNE'] ??= '0'; // emulated products are slow to time
  /** What op-case.ts asks for. */
  process.env['TENON_TEST_EMULATED'] = '1';
}
