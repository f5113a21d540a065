/**
 * The native module: the only importer of `tenon.node`. Its types are generated from the C++ signatures
 * (`native-types.ts`); everything above this file sees typed functions on tensor identifiers.
 */
import { createRequire } from 'node:module';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isMainThread } from 'node:worker_threads';

import type { NativeOps, TensorId } from './native-types.js';

export type { DTypeCode, DeviceIndex, NativeOps, TensorId } from './native-types.js';

/** Bytes and counts of one device's allocator. */
export interface MemoryStats {
  /** Bytes in live tensors (rounded up to 64). */
  readonly current: number;
  /** The most `current` has been since `resetPeakMemory()`. */
  readonly peak: number;
  /** Bytes held from the system, in use or cached. */
  readonly reserved: number;
  /** The most `reserved` has been. */
  readonly reservedPeak: number;
  /** Live blocks. */
  readonly blocks: number;
  /** Blocks handed out since the start. */
  readonly allocations: number;
  /** Segments taken from the system since the start: constant in a steady training loop. */
  readonly segments: number;
  /** Live native tensors, views included. */
  readonly tensors: number;
}

/** The GPUs that the CUDA backend can use. */
export interface CudaInfo {
  /** Why there are none, as a clause; empty where there are some. */
  readonly reason: string;
  readonly devices: readonly {
    readonly name: string;
    /** Bytes of memory. */
    readonly bytes: number;
    /** Compute capability, such as '9.0'. */
    readonly capability: string;
  }[];
}

/** What the CUDA backend uses beside its GPUs. A file is empty where a reason says why there is none. */
export interface CudaDetails {
  /** cuBLASLt and cuDNN, which ops open when they first need them. */
  readonly libraries: readonly {
    readonly name: string;
    readonly version: string;
    readonly file: string;
    readonly reason: string;
  }[];
  /** The file of choices of algorithms, and how many it holds. */
  readonly tuning: { readonly file: string; readonly choices: number; readonly reason: string };
}

/** What the CPU backend runs with. */
export interface CpuInfo {
  /**
   * Cores that this process may use: those of its affinity, hyperthreads counted once, or fewer where a container limits
   * its CPU time.
   */
  readonly cores: number;
  /** Threads that kernels run on: one for each core, or TENON_NUM_THREADS. */
  readonly threads: number;
  /** Of the kernels: 'AVX-512', 'AVX2' or 'NEON'; 'none' on a processor without. */
  readonly instructionSet: string;
  /**
   * How bfloat16 is multiplied: in tiles (AMX), in pairs (AVX-512 BF16), or as float32, at whose speed `--precision bf16`
   * then runs: where the processor has neither, or has pairs that are slower.
   */
  readonly bfloat16: 'tiles' | 'pairs' | 'float32';
  readonly oneDNN: string;
}

/** Pixels as the native functions give them; `Image` of src/data. */
export interface NativeImage {
  readonly data: Uint8Array;
  readonly height: number;
  readonly width: number;
}

export interface NativeModule extends NativeOps {
  readonly schema: readonly {
    readonly name: string;
    readonly parameters: readonly { readonly name: string; readonly type: string }[];
    readonly result: string;
  }[];
  /** Filled by `describe`: dtype, device, number of dimensions, sizes, strides. */
  readonly mailbox: Float64Array;
  upload(device: number, dtype: number, shape: readonly number[], data: NodeJS.TypedArray): TensorId;
  read(id: TensorId): Promise<ArrayBuffer>;
  readSync(id: TensorId): ArrayBuffer;
  synchronize(device: number): Promise<void>;
  synchronizeSync(device: number): void;
  /** Runs to its end what devices were given, and throws nothing: for a process that is about to exit. */
  settle(): void;
  release(id: TensorId): void;
  describe(id: TensorId): void;
  memoryStats(device: number): MemoryStats;
  /** Tells the garbage collector how much native memory there is. */
  reportMemory(): void;
  resetPeak(device: number): void;
  setMemoryLimit(device: number, bytes: number): void;
  releaseCached(device: number): void;
  /** Whether a device captures steps. */
  captures(device: number): boolean;
  /** Records what the device of `random` (seed and distance, see device.h) is given from now on. */
  beginCapture(random: TensorId): void;
  /** Ends that; `kept` are the tensors made since that live on. Returns the captured step's number. */
  endCapture(kept: readonly TensorId[]): number;
  /** Ends it without a result, where it has begun. */
  abandonCapture(): void;
  /** Marks what a replay writes in place as written. */
  markWrites(step: number): void;
  launchCapture(step: number): void;
  releaseCapture(step: number): void;
  /** Writes numbers to the beginning of a float64 tensor. */
  write(id: TensorId, numbers: Float64Array): void;
  setCudaPath(path: string): void;
  cudaInfo(): CudaInfo;
  cudaDetails(): CudaDetails | undefined;
  /** The kernels of backend.h that a device was given since the last call. */
  launchedKernels(device: number): string[];
  cpuInfo(): CpuInfo;
  /**
   * The pixels of a JPEG, decoded on another thread: the bytes must stay as they are until then. Undefined for one that is damaged,
   * too large, or of other colours than grey and YCbCr: what becomes of it is for another decoder to say.
   */
  decodeJpeg(bytes: Uint8Array, maxPixels: number): Promise<NativeImage | undefined>;
  /** The same on this thread. */
  decodeJpegSync(bytes: Uint8Array, maxPixels: number): NativeImage | undefined;
  /**
   * Resizes as Pillow does, and gives a window of the result.
   *
   * @param size of the image whose pixels `data` are
   * @param part top, left, height and width of the part that is taken as all of it
   * @param box of that part, what is resized: left, top, right and bottom
   * @param window of the result: top, left, height and width
   */
  resizeImage(
    data: Uint8Array,
    size: readonly [height: number, width: number],
    part: readonly [top: number, left: number, height: number, width: number],
    box: readonly [left: number, top: number, right: number, bottom: number],
    mode: string,
    to: readonly [height: number, width: number],
    window: readonly [top: number, left: number, height: number, width: number],
  ): Uint8Array;
  /** `(x / 255 - mean) / std` of pixels `[height, width, 3]`, to `out` from `offset` on, as `[3, height, width]`. */
  normalizeImage(
    data: Uint8Array,
    mean: readonly number[],
    std: readonly number[],
    out: Float32Array,
    offset: number,
  ): void;
  setErrorClass(constructor: new (message: string, op: string, code: string) => Error): void;
}

/** Where the built addon is looked for, in order. */
function addonPath(): string {
  const root = fileURLToPath(new URL('../../', import.meta.url)); // from dist/src/
  const named = process.env['TENON_ADDON'];
  const places = named === undefined ? [`${root}build/Release/tenon.node`] : [named];
  const found = places.find((place) => existsSync(place));
  if (found === undefined) {
    throw new Error(
      `tenon: expected the native addon at ${places.join(' or ')}, found nothing there; build it with "npm run build"`,
    );
  }
  return found;
}

function load(): NativeModule {
  // OpenMP's threads must sleep between kernels: spinning starves Node and the data workers. But they sleep only after a
  // short spin (libgomp's count is some 50 microseconds), so that one kernel after another finds them awake: that made
  // inference of one image with ViT-Ti/16 1.3 times faster. libgomp reads both when it is loaded, and only the main
  // thread's process.env reaches the real environment.
  if (isMainThread) {
    process.env['OMP_WAIT_POLICY'] ??= 'passive';
    process.env['GOMP_SPINCOUNT'] ??= '2000';
  }
  const path = addonPath();
  try {
    const module = createRequire(import.meta.url)(path) as NativeModule;
    module.setCudaPath(process.env['TENON_CUDA_PLUGIN'] ?? join(dirname(path), 'tenon_cuda.so'));
    return module;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new Error(
      `tenon: the native addon ${path} could not be loaded: ${reason}; rebuild it with "npm run build" for this ` +
        `Node (${process.version}, ${process.platform}-${process.arch}) and check that oneDNN is installed`,
      { cause },
    );
  }
}

export const native: NativeModule = load();

// `process.exit()` destroys what libraries keep for their kernels, beside threads that may still run them. A worker that
// exits leaves the process alive, and waits for its own kernels.
if (isMainThread) {
  process.on('exit', () => {
    native.settle();
  });
}
