/**
 * Steps that run as CUDA graphs: docs/adr/0006-cuda-graphs.md.
 */
import { native } from '../native.js';
import { type OptionNames, expectOptions } from './arguments.js';
import { autocastDType } from './autocast.js';
import { Recording, currentRecording, whileRecording } from './capturing.js';
import { type Device, deviceIndex } from './device.js';
import { dtypeCode } from './dtype.js';
import { fail } from './error.js';
import { getRandomState, setRandomState } from './random.js';
import { keep, scope } from './scope.js';
import { isGradEnabled } from './tape.js';
import { Tensor, share, wrap } from './tensor.js';

/** What a captured step returns. */
export type CaptureResult = Tensor | readonly Tensor[] | Readonly<Record<string, Tensor>>;

/** What `capture` makes of a step. */
export interface CapturedStep<
  Args extends readonly Tensor[],
  Result extends CaptureResult,
> extends Disposable {
  (...args: Args): Result;
  /** Frees the graph and its memory. A later call begins anew. */
  dispose(): void;
}

/** Where a step runs. */
export interface CaptureOptions {
  /** Default: the device of the first argument. */
  readonly device?: Device;
}

const OPTIONS = { device: true } satisfies OptionNames<CaptureOptions>;

/**
 * Makes a step that runs as one CUDA graph: a whole training step, say, of forward, backward and an optimizer's update,
 * whose hundreds of launches become one. It gives the same bits as the step itself.
 *
 * The first call runs the step as it is. A call whose arguments have the dtypes and shapes of the call before records the
 * step, and it and later ones replay that: arguments are copied in, results are copied out. Calls with other shapes run the
 * step as it is; the second of them in a row records anew, and the graph before is freed. On the CPU, and with
 * TENON_CUDA_SYNC=1, every call runs the step as it is.
 *
 * In every case what the step makes and does not return is freed, and its results are copies without a gradient. A replay
 * runs no JavaScript of the step: random numbers go on, and optimizers and averages count their updates and take the
 * learning rates and weight decays of their groups as they are then, but whatever else the step looks at (a number, a
 * module's mode) stays as it was recorded. Set learning rates before the call.
 *
 * @throws TensorError VALUE, while recording, when the step reads values on the host (`data`, `item`), makes tensors from
 *   values, waits, seeds the random numbers, uses a GradScaler, updates a parameter for the first time or returns a promise;
 *   DEVICE for tensors of another device; MEMORY when it leaves gradients or other tensors that it does not return, or when
 *   there is too little memory; AUTOGRAD for arguments that require a gradient. Nothing has then run on the device.
 * @example
 * const step = capture((images: Tensor<'float32'>, labels: Tensor<'int64'>) => {
 *   const loss = crossEntropy(model.call(images), labels);
 *   loss.backward();
 *   optimizer.step({ maxNorm: 1 });
 *   optimizer.zeroGrad();
 *   return loss;
 * });
 * for (const { images, labels } of batches) {
 *   optimizer.setLearningRate(schedule(n++));
 *   using loss = step(images, labels);
 * }
 */
export function capture<Args extends readonly Tensor[], Result extends CaptureResult>(
  step: (...args: Args) => Result,
  options: CaptureOptions = {},
): CapturedStep<Args, Result> {
  expectOptions('capture', options, OPTIONS);
  let graph: Graph<Args, Result> | undefined;
  let lastKey: string | undefined;
  const dispose = (): void => {
    graph?.dispose();
    graph = undefined;
    lastKey = undefined;
  };
  const call = (...args: Args): Result => {
    const device = deviceIndex(options.device ?? (args as readonly Tensor[]).at(0)?.device ?? 'cpu');
    if (!native.captures(device) || currentRecording() !== undefined) return runEagerly(step, args);
    if ((args as readonly Tensor[]).some(({ requiresGrad }) => requiresGrad)) {
      fail('capture', 'AUTOGRAD', 'expected arguments that require no gradient, got one that does');
    }
    const key = keyOf(args);
    if (graph?.key === key && !graph.isValid()) dispose();
    const comesAgain = key === lastKey;
    lastKey = key;
    if (graph?.key === key) return graph.replay(args);
    if (!comesAgain) return runEagerly(step, args);
    graph?.dispose();
    graph = undefined; // what follows may throw
    graph = record(step, args, device, key);
    return graph.replay(args);
  };
  return Object.assign(call, { dispose, [Symbol.dispose]: dispose });
}

/** What two calls must have in common to be one graph. */
function keyOf(args: readonly Tensor[]): string {
  const shapes = args.map((x) => `${x.device} ${x.dtype}[${x.shape.join()}]`);
  // Random numbers come in blocks of four: a kernel is launched for a place within one.
  return [...shapes, getRandomState().offset % 4, autocastDType(), isGradEnabled()].join(' ');
}

/** The result's tensors, each replaced. */
function mapTensors<Result extends CaptureResult>(result: Result, replace: (x: Tensor) => Tensor): Result {
  const one = (x: unknown): Tensor =>
    x instanceof Tensor
      ? replace(x as Tensor)
      : fail(
          'capture',
          'VALUE',
          `expected a step that returns tensors, got ${x instanceof Promise ? 'a promise' : typeof x}`,
        );
  const map = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(one);
    const isRecord = value?.constructor === Object;
    return isRecord
      ? Object.fromEntries(Object.entries(value).map(([name, x]) => [name, one(x)]))
      : one(value);
  };
  return map(result) as Result;
}

const copy = (x: Tensor): Tensor => wrap(native.clone(x.id));

function runEagerly<Args extends readonly Tensor[], Result extends CaptureResult>(
  step: (...args: Args) => Result,
  args: Args,
): Result {
  return scope(() => mapTensors(step(...args), copy));
}

/** Records a step. Nothing runs; where that fails, everything on the host is as before. */
function record<Args extends readonly Tensor[], Result extends CaptureResult>(
  step: (...args: Args) => Result,
  args: Args,
  device: number,
  key: string,
): Graph<Args, Result> {
  const start = getRandomState();
  const block = keep(Recording.makeBlock(device, dtypeCode('float64')));
  const inputs = args.map((x) => keep(copy(x)));
  const outputs: Tensor[] = [];
  const recording = new Recording(block, start);
  try {
    native.beginCapture(block.id);
    const result = whileRecording(recording, () =>
      scope(() => {
        const own = inputs.map(share) as unknown as Args; // the step may dispose of them
        return mapTensors(step(...own), (x) => {
          const output = keep(share(x));
          outputs.push(output);
          return output;
        });
      }),
    );
    if (recording.error !== undefined) throw recording.error;
    const words = getRandomState().offset - start.offset;
    const id = native.endCapture(outputs.map((x) => x.id));
    return new Graph(key, id, inputs, outputs, result, recording, words);
  } catch (error) {
    for (const leaf of recording.leaves) {
      leaf.grad?.dispose();
      leaf.grad = undefined;
    }
    for (const tensor of [block, ...inputs, ...outputs]) tensor.dispose();
    native.abandonCapture();
    throw recording.error ?? error;
  } finally {
    setRandomState(start);
  }
}

const registry = new FinalizationRegistry<number>((id) => {
  native.releaseCapture(id);
});

/** A recorded step. */
class Graph<Args extends readonly Tensor[], Result extends CaptureResult> {
  constructor(
    readonly key: string,
    private readonly id: number,
    private readonly inputs: readonly Tensor[],
    private readonly outputs: readonly Tensor[],
    private readonly result: Result,
    private readonly recording: Recording,
    /** Random numbers that a run takes. */
    private readonly words: number,
  ) {
    registry.register(this, id, this);
  }

  /** Whether a replay would be what the step is now. */
  isValid(): boolean {
    return this.recording.checks.every((check) => check());
  }

  replay(args: Args): Result {
    const random = getRandomState();
    this.inputs.forEach((input, i) => {
      native.copyInto(input.id, args[i].id);
    });
    native.markWrites(this.id);
    this.recording.prepare(random);
    native.launchCapture(this.id);
    setRandomState({ seed: random.seed, offset: random.offset + this.words });
    return mapTensors(this.result, copy);
  }

  dispose(): void {
    registry.unregister(this);
    for (const tensor of [this.recording.block, ...this.inputs, ...this.outputs]) tensor.dispose();
    native.releaseCapture(this.id);
  }
}
