/**
 * The two layers of a transformer's block, with the activation between them, as one op.
 */
import { native } from '../native.js';
import { type OptionNames, expectOptions, optionalId } from '../tensor/arguments.js';
import { cast } from '../tensor/autocast.js';
import { ownOp } from '../tensor/define-op.js';
import type { FloatDType } from '../tensor/dtype.js';
import { isFixed } from '../tensor/tape.js';
import { type Tensor, wrap } from '../tensor/tensor.js';
import { type Activation, weightGradientDType } from './linear.js';

/** What else the op does on the way. */
export interface MlpOptions<D extends FloatDType = FloatDType> {
  /** Default 'gelu'. */
  readonly activation?: Exclude<Activation, 'none'>;
  /** Added to the second layer's result; the shape of it. */
  readonly residual?: Tensor<D> | undefined;
}

const OPTIONS = { activation: true, residual: true } satisfies OptionNames<MlpOptions>;

const mlpOp = ownOp({
  name: 'mlp',
  autocast: ['lower', 'lower', 'keep', 'lower', 'keep', 'keep'], // as in linear
  forward(
    ctx,
    x: Tensor,
    weight1: Tensor,
    bias1: Tensor | undefined,
    weight2: Tensor,
    bias2: Tensor | undefined,
    residual: Tensor | undefined,
    activation: Activation,
  ): Tensor {
    const [y, before] = native.mlp(
      x.id,
      weight1.id,
      optionalId('mlp', 'bias1', bias1),
      weight2.id,
      optionalId('mlp', 'bias2', bias2),
      optionalId('mlp', 'residual', residual),
      activation,
      ctx.recording,
      isFixed(weight1) && isFixed(weight2),
    );
    if (ctx.recording) ctx.save(x, weight1, weight2, wrap(before));
    ctx.state = activation;
    return wrap(y);
  },
  backward(ctx, dy) {
    if (dy === undefined) return [];
    const { needsGrad, state } = ctx;
    const [x, weight1, weight2, before] = ctx.saved;
    const own = cast(dy, x.dtype); // beside a float32 residual the result is float32
    const [dx, ...gradients] = native
      .mlpBackward(
        own.id,
        x.id,
        before.id,
        weight1.id,
        weight2.id,
        state as Activation,
        needsGrad[0],
        needsGrad[1],
        needsGrad[2],
        needsGrad[3],
        needsGrad[4],
        weightGradientDType(ctx, 1, x.dtype),
      )
      .map((id) => ((id as unknown) === undefined ? undefined : wrap(id)));
    return [dx, ...gradients, needsGrad[5] ? dy : undefined];
  },
});

/**
 * Two fully connected layers, as in a transformer's block: `y = activation(x W1^T + b1) W2^T + b2 + residual`.
 *
 * Shapes: x `[..., in]`, weight1 `[hidden, in]`, bias1 `[hidden]`, weight2 `[out, hidden]`, bias2 `[out]`, residual and
 * result `[..., out]`. While gradients are recorded, `x W1^T + b1` is kept; backward computes the activation's result again,
 * where two `linear`s would keep it too. 16-bit operands may have float32 biases and a float32 residual, as in `linear`.
 *
 * @throws TensorError SHAPE, DTYPE or VALUE when the operands do not fit
 * @example
 * const y = mlp(x, w1, b1, w2, b2, { residual: x });
 */
export function mlp<D extends FloatDType>(
  x: Tensor<D>,
  weight1: Tensor<D>,
  bias1: Tensor<D> | undefined,
  weight2: Tensor<D>,
  bias2: Tensor<D> | undefined,
  options: MlpOptions<D> = {},
): Tensor<D> {
  expectOptions('mlp', options, OPTIONS);
  return mlpOp(
    x,
    weight1,
    bias1,
    weight2,
    bias2,
    options.residual,
    options.activation ?? 'gelu',
  ) as unknown as Tensor<D>;
}
