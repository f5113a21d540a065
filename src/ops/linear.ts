import { native } from '../native.js';
import { type OptionNames, expectOptions, optionalId } from '../tensor/arguments.js';
import { cast } from '../tensor/autocast.js';
import { type OpContext, ownOp } from '../tensor/define-op.js';
import { type DType, type FloatDType, dtypeCode } from '../tensor/dtype.js';
import { isFixed } from '../tensor/tape.js';
import { type Tensor, wrap } from '../tensor/tensor.js';

/** What may follow the product inside the same kernel. */
export type Activation = 'none' | 'gelu' | 'geluTanh' | 'relu' | 'silu';

/** What else the kernel of a linear layer does on the way. */
export interface LinearOptions<D extends FloatDType = FloatDType> {
  /** Applied to the product plus bias. Default 'none'. */
  readonly activation?: Activation;
  /** Added after the activation; the shape of the result. */
  readonly residual?: Tensor<D> | undefined;
}

const DERIVATIVES = {
  gelu: native.geluBackward,
  geluTanh: native.geluTanhBackward,
  relu: native.reluBackward,
  silu: native.siluBackward,
};

const OPTIONS = { activation: true, residual: true } satisfies OptionNames<LinearOptions>;

/** A float32 weight that autocast has cast has a gradient in float32 at once; any other, one in the dtype of x. */
export function weightGradientDType(ctx: OpContext, weight: number, dtype: DType): number {
  return dtypeCode(ctx.gradientDType(weight) === 'float32' ? 'float32' : dtype);
}

interface State {
  readonly activation: Activation;
  readonly dtype: DType;
  readonly outputs: number;
}

const linearOp = ownOp({
  name: 'linear',
  autocast: ['lower', 'lower', 'keep', 'keep'], // a float32 bias is added as such; a float32 residual stays one
  forward(
    ctx,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | undefined,
    residual: Tensor | undefined,
    activation: Activation,
  ): Tensor {
    const needsBefore = ctx.recording && activation !== 'none';
    const biasId = optionalId('linear', 'bias', bias);
    const residualId = optionalId('linear', 'residual', residual);
    const [y, before] = native.linear(
      x.id,
      weight.id,
      biasId,
      residualId,
      activation,
      needsBefore,
      isFixed(weight),
    );
    // Each operand's gradient needs the other alone.
    ctx.save(
      ctx.needsGrad[1] === true ? x : undefined,
      ctx.needsGrad[0] === true ? weight : undefined,
      needsBefore ? wrap(before) : undefined,
    );
    if (ctx.recording) ctx.state = { activation, dtype: x.dtype, outputs: weight.shape[0] } satisfies State;
    return wrap(y);
  },
  backward(ctx, dy) {
    if (dy === undefined) return [];
    const { needsGrad, state } = ctx;
    const [x, weight, before] = ctx.saved;
    const { activation, dtype, outputs } = state as State;
    const own = cast(dy, dtype); // beside a float32 residual the result is float32
    const dz = activation === 'none' ? own : wrap(DERIVATIVES[activation](own.id, before.id, 0));
    const dx = needsGrad[0] ? wrap(native.matmul(dz.id, weight.id)) : undefined;
    const residualGrad = needsGrad[3] ? dy : undefined;
    if (!needsGrad[1]) {
      const dbias = needsGrad[2] ? wrap(native.sumTo(dz.id, [outputs])) : undefined;
      return [dx, undefined, dbias, residualGrad];
    }
    const [dweight, dbias] = native.linearWeightGradient(
      dz.id,
      x.id,
      needsGrad[2],
      weightGradientDType(ctx, 1, dtype),
    );
    return [dx, wrap(dweight), needsGrad[2] ? wrap(dbias) : undefined, residualGrad];
  },
});

/**
 * A fully connected layer in one kernel: `y = activation(x W^T + b) + residual`.
 *
 * Shapes: x `[..., in]`, weight `[out, in]`, bias `[out]`, residual and result `[..., out]`. Bias, activation and
 * residual ride in the matrix product's epilogue; while gradients are recorded, the kernel writes what goes into an activation
 * too, and a residual after one is added by a kernel of its own.
 *
 * @throws TensorError SHAPE or DTYPE when the operands do not fit
 * @example
 * const h = linear(x, w1, b1, { activation: 'gelu' });
 * const y = linear(h, w2, b2, { residual: x });
 */
export function linear<D extends FloatDType>(
  x: Tensor<D>,
  weight: Tensor<D>,
  bias?: Tensor<D>,
  options: LinearOptions<D> = {},
): Tensor<D> {
  expectOptions('linear', options, OPTIONS);
  return linearOp(x, weight, bias, options.residual, options.activation ?? 'none') as unknown as Tensor<D>;
}
