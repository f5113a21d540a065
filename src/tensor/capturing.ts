/**
 * The step that is being captured, as ops, optimizers and the random numbers see it: what they do on the host besides
 * launching kernels they leave here, to be done again before each replay.
 */
import { native } from '../native.js';
import { TensorError } from './error.js';
import type { RandomState } from './random.js';
import { type Tensor, wrap } from './tensor.js';

/** Numbers that a captured step may take from the host at each replay: four for each of 4,000 parameters. */
const MOST_NUMBERS = 16384;

/** A step that is being captured, and later what its replays do on the host. */
export class Recording {
  /** Whether a replay is still what a call of the step would be; they may bring it up to date. */
  readonly checks: (() => boolean)[] = [];
  /** In the order of the step. */
  readonly effects: (() => void)[] = [];
  /** Who has got a gradient in the step. */
  readonly leaves = new Set<Tensor>();
  /** What could not be captured. */
  error: TensorError | undefined;
  /** What device memory gets before each replay: seed and distance of the random numbers, then what was asked for. */
  private readonly numbers = new Float64Array(MOST_NUMBERS);
  private used = 2;

  /**
   * @param block `MOST_NUMBERS` float64 numbers on the device
   * @param start where the random numbers of the step begin
   */
  constructor(
    readonly block: Tensor,
    readonly start: RandomState,
  ) {}

  static makeBlock(device: number, float64: number): Tensor {
    return wrap(native.full(device, [MOST_NUMBERS], 0, float64));
  }

  /** A place in device memory that gets what `compute` gives before each replay. */
  take(compute: () => readonly number[]): Tensor {
    const { used } = this;
    const count = compute().length;
    if (used + count > MOST_NUMBERS) {
      this.refuse('capture', `expected at most ${MOST_NUMBERS} numbers that change, got ${used + count}`);
    }
    this.used += count;
    this.effects.push(() => {
      this.numbers.set(compute(), used);
    });
    return wrap(native.slice(this.block.id, 0, used, used + count, 1));
  }

  /** Brings host and device to where the next run of the step begins. */
  prepare(random: RandomState): void {
    this.numbers[0] = random.seed;
    this.numbers[1] = random.offset - this.start.offset;
    for (const effect of this.effects) effect();
    native.write(this.block.id, this.numbers.subarray(0, this.used));
  }

  /** What cannot be captured is an error, and makes the capture worthless even where the step catches it. */
  refuse(op: string, why: string): never {
    const error = new TensorError(`${op}: ${why}`, op, 'VALUE');
    this.error ??= error;
    throw error;
  }
}

let recording: Recording | undefined;

/** Runs `fn` while a step is being captured. */
export function whileRecording<T>(next: Recording, fn: () => T): T {
  recording = next;
  try {
    return fn();
  } finally {
    recording = undefined;
  }
}

/** The step that is being captured. */
export function currentRecording(): Recording | undefined {
  return recording;
}

/** Does something on the host: now, or if a step is being captured, before each replay. */
export function onHost(effect: () => void): void {
  if (recording === undefined) effect();
  else recording.effects.push(effect);
}

/**
 * Numbers of a kernel that change from replay to replay, in device memory. Undefined where nothing is being captured:
 * the kernel then gets them by value.
 */
export function capturedNumbers(compute: () => readonly number[]): Tensor | undefined {
  return recording?.take(compute);
}

/** Has each replay ask whether it is still what the step would do. */
export function beforeReplay(check: () => boolean): void {
  recording?.checks.push(check);
}

/** Throws if a step is being captured. */
export function refuseInCapture(op: string, why: string): void {
  recording?.refuse(op, why);
}

/** Called before a gradient is replaced or dropped: in a captured step it must be of that step. */
export function checkGradient(op: string, leaf: Tensor): void {
  if (recording === undefined) return;
  if (leaf.grad !== undefined && !recording.leaves.has(leaf)) {
    recording.refuse(op, 'expected no gradient from before a captured step; call zeroGrad() at its end');
  }
  recording.leaves.add(leaf);
}
