/**
 * Devices by their names: the CPU, and the GPUs of the CUDA backend. That backend is a plugin, opened when a program first
 * asks for it; each GPU is taken when a program first uses it.
 */
import { type CudaDetails, type CudaInfo, native } from '../native.js';
import { fail } from './error.js';

export type { CudaDetails, CudaInfo } from '../native.js';

/** Where a tensor's memory is, and its ops run. `'cuda'` is `'cuda:0'`, the first GPU. */
export type Device = 'cpu' | 'cuda' | `cuda:${number}`;

let cuda: CudaInfo | undefined;
const indices = new Map<string, number>([['cpu', 0]]);

/**
 * The GPUs that can be used, and where there are none, why.
 *
 * @example
 * const { devices, reason } = cudaInfo();
 * console.log(devices.length > 0 ? devices[0].name : reason);
 */
export function cudaInfo(): CudaInfo {
  cuda ??= native.cudaInfo();
  return cuda;
}

/**
 * The libraries that the CUDA backend finds, and the file in which it keeps its choices of algorithms; undefined where CUDA is
 * off. Opens the libraries, which takes some tenths of a second.
 *
 * @example
 * for (const { name, version, reason } of cudaDetails()?.libraries ?? []) console.log(name, version || reason);
 */
export function cudaDetails(): CudaDetails | undefined {
  return native.cudaDetails();
}

/**
 * The names of the devices that can hold tensors.
 *
 * @example
 * const device = devices().at(1) ?? 'cpu'; // the first GPU, where there is one
 */
export function devices(): Device[] {
  return ['cpu', ...cudaInfo().devices.map((_, i): Device => `cuda:${i}`)];
}

/** Whether a text has the form of a device's name. */
export function isDeviceName(text: string): text is Device {
  return /^(cpu|cuda(:\d+)?)$/.test(text);
}

/** @internal The native index of a device. @throws TensorError DEVICE */
export function deviceIndex(device: Device): number {
  const known = indices.get(device);
  if (known !== undefined) return known;
  if (!isDeviceName(device))
    fail('device', 'DEVICE', `expected cpu, cuda or cuda:N, got '${String(device)}'`);
  const present = devices();
  const index = present.indexOf(device === 'cuda' ? 'cuda:0' : device);
  if (index < 0) {
    const why = present.length === 1 ? `: CUDA is off, ${cudaInfo().reason}` : '';
    fail('device', 'DEVICE', `expected one of ${present.join(', ')}, got '${device}'${why}`);
  }
  indices.set(device, index);
  return index;
}

/** @internal The full name of a device, by its native index. */
export function deviceName(index: number): Device {
  return index === 0 ? 'cpu' : `cuda:${index - 1}`;
}
