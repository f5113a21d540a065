/**
 * Work on a device that may fail.
 */
import { type Device, synchronize } from '../tensor/index.js';

/**
 * Runs work. Where it fails, kernels that it has queued may fail too, with nobody to read what they compute: they are waited for,
 * or the next one who reads something would be told.
 */
export async function settled<T>(device: Device, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    await synchronize(device).catch(() => undefined);
    throw error;
  }
}
