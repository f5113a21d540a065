/**
 * The memory of each device: statistics, a limit, and waiting for its stream.
 */
import { type MemoryStats, native } from '../native.js';
import { expectTensors } from './arguments.js';
import { type Device, deviceIndex } from './device.js';
import { type Tensor, wrap } from './tensor.js';
import { awaited, fail, shown } from './error.js';

export type { MemoryStats } from '../native.js';

/**
 * What the allocator of a device holds.
 *
 * @example
 * console.log(`${(memoryStats().peak / 2 ** 20).toFixed()} MiB at most`);
 */
export function memoryStats(device: Device = 'cpu'): MemoryStats {
  return native.memoryStats(deviceIndex(device));
}

/** Starts `memoryStats().peak` anew from the bytes in use now. */
export function resetPeakMemory(device: Device = 'cpu'): void {
  native.resetPeak(deviceIndex(device));
}

/**
 * Limits the bytes that a device takes from the system. An op that would go beyond it throws a TensorError MEMORY.
 *
 * @param bytes Infinity for no limit
 * @throws TensorError VALUE unless bytes is a whole number above 0 or Infinity
 * @example
 * setMemoryLimit(2 * 2 ** 30);
 */
export function setMemoryLimit(bytes: number, device: Device = 'cpu'): void {
  if (bytes !== Infinity && !(Number.isSafeInteger(bytes) && bytes > 0)) {
    fail(
      'setMemoryLimit',
      'VALUE',
      `expected a whole number of bytes above 0 or Infinity, got ${shown(bytes)}`,
    );
  }
  native.setMemoryLimit(deviceIndex(device), bytes === Infinity ? 0 : bytes); // 0 is the allocator's "none"
}

/** Gives the memory that the allocator keeps for reuse back to the system. */
export function releaseCachedMemory(device: Device = 'cpu'): void {
  native.releaseCached(deviceIndex(device));
}

/**
 * Waits until a device has run everything enqueued so far, without blocking the event loop.
 *
 * @throws TensorError the first error of the ops waited for
 */
export function synchronize(device: Device = 'cpu'): Promise<void> {
  return awaited(native.synchronize(deviceIndex(device)));
}

/**
 * Overwrites the elements of a tensor, in place and unrecorded by autograd: for loading weights and updating buffers. The
 * source broadcasts to the target, is converted to its dtype, and may be on another device. A backward pass that needs what
 * the target, or a view of its memory, held before is a TensorError AUTOGRAD. What is written has no gradient: join tensors with
 * `cat` or `stack`, or choose with `where`, for that.
 *
 * @throws TensorError SHAPE; VALUE for a target whose elements share memory, as those of an expanded view do
 * @example
 * copyInto(model.head.weight, zeros(model.head.weight.shape));
 */
export function copyInto(target: Tensor, source: Tensor): void {
  expectTensors('copyInto', target, source);
  if (source.device === target.device) return native.copyInto(target.id, source.id);
  const moved = wrap(native.toDevice(source.id, deviceIndex(target.device)));
  try {
    native.copyInto(target.id, moved.id);
  } finally {
    moved.dispose();
  }
}
