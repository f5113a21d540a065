/**
 * Mixed precision: inside `autocast` every op brings its floating-point inputs to the dtype that its definition asks
 * for. The casts are part of the op: its backward runs in the dtypes that forward used, and the gradient of each input
 * has that input's own dtype.
 *
 * Source: Micikevicius et al., "Mixed precision training", 2018; PyTorch's torch.autocast.
 */
import { native } from '../native.js';
import { beforeReplay, onHost, refuseInCapture } from './capturing.js';
import { type DType, dtypeCode } from './dtype.js';
import { fail } from './error.js';
import { swapScope } from './handle.js';
import { keep } from './scope.js';
import { type HalfCopy, Tensor, wrap } from './tensor.js';

/** What `autocast` may compute in; 'float32' switches it off. */
export type AutocastDType = 'bfloat16' | 'float16' | 'float32';

/**
 * What `autocast` does to a floating-point input: 'lower' makes a float32 one 16-bit, 'float32' makes a 16-bit one
 * float32, 'keep' leaves it.
 */
export type AutocastRule = 'lower' | 'float32' | 'keep';

/** The dtypes that autocast converts between. float64 was asked for, and stays. */
const CASTABLE: ReadonlySet<DType> = new Set(['float32', 'bfloat16', 'float16']);

/** What 'lower' means now; undefined outside every region. */
let lower: 'bfloat16' | 'float16' | undefined;

/**
 * Runs `fn` in mixed precision: matrix products and attention compute in 16 bits; exponentials, logarithms, powers, sums,
 * softmax, losses and norms in float32; any other op in the widest dtype among its inputs. Weights stay float32 and
 * so do their gradients; a weight is cast once and not again until it changes, and an optimizer writes the new cast
 * itself. Call `backward` outside of it. Inside, 'float32' switches it off.
 *
 * The dtypes that TypeScript sees do not change: a `Tensor<'float32'>` made inside may hold 16 bits.
 *
 * @throws TensorError DTYPE for another dtype; VALUE when `fn` returns a promise
 * @example
 * const loss = autocast('bfloat16', () => crossEntropy(model.call(images), labels));
 * loss.backward();
 */
export function autocast<T>(dtype: AutocastDType, fn: () => T): T {
  if (!CASTABLE.has(dtype)) {
    fail('autocast', 'DTYPE', `expected bfloat16, float16 or float32, got '${String(dtype)}'`);
  }
  const before = lower;
  lower = dtype === 'float32' ? undefined : dtype;
  try {
    const result = fn();
    if (result instanceof Promise) {
      fail('autocast', 'VALUE', 'expected a synchronous function, got a promise');
    }
    return result;
  } finally {
    lower = before;
  }
}

/** @internal What a region that `fn` later wants to continue was begun with. */
export function autocastDType(): AutocastDType {
  return lower ?? 'float32';
}

/** @internal The arguments of an op as its rules want them; what is new belongs to the current scope. */
export function castArguments<Args extends readonly unknown[]>(
  rules: AutocastRule | readonly AutocastRule[] | undefined,
  args: Args,
): Args {
  if (lower === undefined || rules === 'keep') return args;
  const dtypes = { lower, float32: 'float32', keep: undefined } as const;
  const widest = rules === undefined ? widestOf(args) : undefined;
  return args.map((arg, i) => {
    const to = rules === undefined ? widest : dtypes[typeof rules === 'string' ? rules : rules[i]];
    if (to === undefined) return arg;
    const castItem = (item: unknown): unknown => (isTensor(item) ? cast(item, to) : item);
    return Array.isArray(arg) ? arg.map(castItem) : castItem(arg);
  }) as unknown as Args;
}

function isTensor(value: unknown): value is Tensor {
  return value instanceof Tensor;
}

/** The dtype that holds all castable inputs; undefined where they agree. */
function widestOf(args: readonly unknown[]): DType | undefined {
  const dtypes = args.flat().flatMap((arg) => (isTensor(arg) && CASTABLE.has(arg.dtype) ? [arg.dtype] : []));
  return new Set(dtypes).size > 1 ? 'float32' : undefined;
}

/** @internal A castable tensor in another dtype. */
export function cast(x: Tensor, dtype: DType): Tensor {
  if (x.dtype === dtype || !CASTABLE.has(x.dtype)) return x;
  return x.kept && dtype === lower ? halfOf(x, dtype) : wrap(native.to(x.id, dtypeCode(dtype)));
}

/** The 16-bit copy of a tensor that outlives scopes, as weights do, up to date. */
function halfOf(x: Tensor, dtype: DType): Tensor {
  const known = x.half;
  if (known?.tensor.dtype === dtype) {
    renewHalf(x, known);
  } else {
    refuseInCapture('autocast', 'expected a weight that was cast before a captured step, got a new one');
    const id = native.to(x.id, dtypeCode(dtype));
    known?.tensor.dispose();
    const scope = swapScope(undefined); // it lives as long as the weight
    x.half = { tensor: keep(wrap(id)), written: native.written(x.id) };
    swapScope(scope);
  }
  const { tensor } = x.half as HalfCopy;
  beforeReplay(() => {
    if (x.half?.tensor !== tensor) return false;
    renewHalf(x, x.half);
    return true;
  });
  return tensor;
}

/** Casts again what has changed: in the same memory, which a captured step goes on reading. */
function renewHalf(x: Tensor, { tensor, written }: HalfCopy): void {
  if (written === native.written(x.id)) return;
  native.copyInto(tensor.id, x.id);
  onHost(() => {
    x.half = { tensor, written: native.written(x.id) };
  });
}
