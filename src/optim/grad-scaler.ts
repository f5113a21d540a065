import { native } from '../native.js';
import { mul } from '../ops/arithmetic.js';
import { type OptionNames, expectOptions } from '../tensor/arguments.js';
import type { FloatDType } from '../tensor/dtype.js';
import { refuseInCapture } from '../tensor/capturing.js';
import { fail } from '../tensor/error.js';
import { scope } from '../tensor/scope.js';
import { type Tensor, wrap } from '../tensor/tensor.js';
import { type Optimizer, STEP_OPTIONS, type StepOptions, expectLive, globalNorm } from './optimizer.js';

/** Where the scale begins, and how it moves. Defaults are PyTorch's. */
export interface GradScalerOptions {
  /** Default 65536. */
  readonly initScale?: number;
  /** What the scale is multiplied with after `growthInterval` good updates. Default 2. */
  readonly growthFactor?: number;
  /** What the scale is multiplied with after an update with an infinite or NaN gradient. Default 0.5. */
  readonly backoffFactor?: number;
  /** Default 2000. */
  readonly growthInterval?: number;
}

/** What a checkpoint stores. */
export interface GradScalerState {
  readonly scale: number;
  /** Good updates since the scale last changed. */
  readonly growthTracker: number;
}

const OPTIONS = {
  initScale: true,
  growthFactor: true,
  backoffFactor: true,
  growthInterval: true,
} satisfies OptionNames<GradScalerOptions>;

/**
 * Scales the loss so that small gradients do not vanish in float16, whose smallest number is 6e-8, and leaves out
 * updates whose gradients overflowed. bfloat16, which has float32's range, needs none.
 *
 * The scale is halved after an overflow and doubled after 2000 updates without one.
 *
 * Source: Micikevicius et al., "Mixed precision training", 2018; PyTorch's torch.amp.GradScaler.
 *
 * @example
 * const scaler = new GradScaler();
 * const loss = autocast('float16', () => crossEntropy(model.call(images), labels));
 * scaler.scale(loss).backward();
 * await scaler.step(optimizer, { maxNorm: 1 }); // unscales, looks for infinities, then clips and updates
 * scaler.update();
 * optimizer.zeroGrad();
 */
export class GradScaler {
  private readonly growthFactor: number;
  private readonly backoffFactor: number;
  private readonly growthInterval: number;
  private factor: number;
  private growthTracker = 0;
  /** Since the last update: the norm of each optimizer's gradients, then whether it was finite. */
  private readonly seen = new Map<Optimizer, Tensor<'float64'> | boolean>();

  /** @throws TensorError VALUE for factors or an interval on the wrong side of 1 */
  constructor(options: GradScalerOptions = {}) {
    expectOptions('GradScaler', options, OPTIONS);
    const { initScale = 65536, growthFactor = 2, backoffFactor = 0.5, growthInterval = 2000 } = options;
    const check = (name: string, value: number, expected: string, fits: boolean): number =>
      fits ? value : fail('GradScaler', 'VALUE', `expected ${name} ${expected}, got ${value}`);
    this.factor = check('initScale', initScale, 'above 0', initScale > 0 && Number.isFinite(initScale));
    this.growthFactor = check('growthFactor', growthFactor, 'above 1', growthFactor > 1);
    this.backoffFactor = check(
      'backoffFactor',
      backoffFactor,
      'in (0, 1)',
      backoffFactor > 0 && backoffFactor < 1,
    );
    const whole = Number.isInteger(growthInterval) && growthInterval > 0;
    this.growthInterval = check('growthInterval', growthInterval, 'to be a whole number above 0', whole);
  }

  /** What losses are multiplied with. */
  getScale(): number {
    return this.factor;
  }

  /** The loss times the scale: call `backward` on it. */
  scale<D extends FloatDType>(loss: Tensor<D>): Tensor<D> {
    return mul<FloatDType>(loss, this.factor) as Tensor<D>;
  }

  /**
   * Divides the gradients of an optimizer's parameters by the scale, to look at them or to change them before `step`, which
   * calls this itself otherwise.
   *
   * @throws TensorError VALUE without a gradient, or at a second call before `update`; DTYPE for float16 gradients;
   *   DISPOSED as `optimizer.step`
   */
  unscale(optimizer: Optimizer): void {
    refuseInCapture(
      'GradScaler',
      'expected no gradient scaler in a captured step: the host decides on its updates',
    );
    if (this.seen.has(optimizer)) {
      fail('GradScaler', 'VALUE', 'expected one unscale of an optimizer before update, got a second');
    }
    expectLive('GradScaler', optimizer);
    const owners = optimizer.groups.flatMap(({ params }) => params).filter(({ grad }) => grad !== undefined);
    if (owners.length === 0) fail('GradScaler', 'VALUE', 'expected at least one gradient, got none');
    const inverse = 1 / this.factor;
    const grads = owners.map((param) => {
      const grad = param.grad as Tensor<FloatDType>;
      if (grad.dtype === 'float16') {
        fail('GradScaler', 'DTYPE', 'expected gradients of float32 parameters under autocast, got float16');
      }
      const unscaled = wrap<FloatDType>(native.mul(grad.id, undefined, inverse));
      unscaled.kept = true;
      grad.dispose();
      param.grad = unscaled;
      return unscaled;
    });
    // Finite when all of them are. The square of a float64 number may not be: one that is 2^-600 times as large is.
    const norm = scope(() =>
      globalNorm(grads.map((x) => (x.dtype === 'float64' ? mul<FloatDType>(x, 2 ** -600) : x))),
    );
    norm.kept = true;
    this.seen.set(optimizer, norm);
  }

  /**
   * Updates the parameters, unless a gradient is infinite or NaN. Waits for the gradients, without blocking the event
   * loop. Returns whether it updated.
   *
   * @throws TensorError VALUE without a gradient, or at a second call before `update`; what `optimizer.step` throws
   */
  async step(optimizer: Optimizer, options: StepOptions = {}): Promise<boolean> {
    expectOptions('GradScaler', options, STEP_OPTIONS);
    if (!this.seen.has(optimizer)) this.unscale(optimizer);
    const norm = this.seen.get(optimizer);
    if (norm === undefined || typeof norm === 'boolean') {
      return fail('GradScaler', 'VALUE', 'expected one step of an optimizer before update, got a second');
    }
    const finite = Number.isFinite(await norm.item());
    norm.dispose();
    this.seen.set(optimizer, finite);
    if (finite) scope(() => void optimizer.step(options));
    return finite;
  }

  /**
   * Moves the scale, after every optimizer's step.
   *
   * @throws TensorError VALUE when no optimizer has stepped, or one was unscaled and has not
   */
  update(): void {
    const found = [...this.seen.values()];
    if (found.length === 0 || found.some((value) => typeof value !== 'boolean')) {
      fail('GradScaler', 'VALUE', 'expected a step of each optimizer before update');
    }
    this.seen.clear();
    if (found.includes(false)) {
      this.factor *= this.backoffFactor;
      this.growthTracker = 0;
      return;
    }
    this.growthTracker += 1;
    if (this.growthTracker < this.growthInterval) return;
    this.growthTracker = 0;
    const grown = this.factor * this.growthFactor;
    if (Number.isFinite(Math.fround(grown))) this.factor = grown;
  }

  /** What a checkpoint stores. */
  stateDict(): GradScalerState {
    return { scale: this.factor, growthTracker: this.growthTracker };
  }

  /** Continues from a stored state. */
  loadStateDict({ scale, growthTracker }: GradScalerState): void {
    this.factor = scale;
    this.growthTracker = growthTracker;
  }
}
