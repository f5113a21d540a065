import { native } from '../native.js';
import { type OptionNames, expectOptions, expectTensors, optionalId } from '../tensor/arguments.js';
import { autocastDType } from '../tensor/autocast.js';
import { ownOp } from '../tensor/define-op.js';
import { type FloatDType, dtypeCode } from '../tensor/dtype.js';
import { named } from '../tensor/error.js';
import { type Tensor, wrap } from '../tensor/tensor.js';

/** What keeps the division of layer norm finite, and the dtype of its result. */
export interface LayerNormOptions {
  /** Added to the variance. Default 1e-6 (ViT; PyTorch's own default is 1e-5). */
  readonly eps?: number;
  /**
   * Under `autocast`, give the result in its 16-bit dtype, not in float32: for one that only matrix products read, which would
   * round it in a pass over memory of its own. Default false.
   */
  readonly lower?: boolean;
}

const OPTIONS = { eps: true, lower: true } satisfies OptionNames<LayerNormOptions>;

const DEFAULT_EPS = 1e-6;

/** The result's dtype: that of x, or in a region of `autocast` the region's own where `lower` asks for it. */
function resultDType(x: Tensor, lower: boolean): number {
  return dtypeCode(lower && x.dtype === 'float32' ? autocastDType() : x.dtype);
}

function optionalWrap(id: Parameters<typeof wrap>[0] | undefined): Tensor | undefined {
  return id === undefined ? undefined : wrap(id);
}

const layerNormOp = ownOp({
  name: 'layerNorm',
  autocast: 'float32',
  forward(
    ctx,
    x: Tensor,
    gamma: Tensor | undefined,
    beta: Tensor | undefined,
    eps: number,
    lower: boolean,
  ): Tensor {
    const gammaId = optionalId('layerNorm', 'gamma', gamma);
    const betaId = optionalId('layerNorm', 'beta', beta);
    const [y, , mean, rstd] = native.layerNorm(x.id, undefined, gammaId, betaId, eps, resultDType(x, lower));
    const statistics = [wrap(mean), wrap(rstd)] as const;
    ctx.save(x, ...statistics, gamma);
    ctx.state = beta !== undefined;
    for (const t of statistics) t.dispose();
    return wrap(y);
  },
  backward(ctx, dy) {
    if (dy === undefined) return [];
    const [x, mean, rstd, gamma] = ctx.saved;
    const around = ctx.takeGradient(0, x.dtype); // of the residual, which goes around the branch that begins here
    return native
      .layerNormBackward(dy.id, x.id, gamma?.id, ctx.state === true, mean.id, rstd.id, around?.id)
      .map(optionalWrap);
  },
});

const layerNormResidualOp = ownOp({
  name: 'layerNormResidual',
  autocast: 'float32',
  forward(
    ctx,
    x: Tensor,
    residual: Tensor,
    gamma: Tensor | undefined,
    beta: Tensor | undefined,
    eps: number,
    lower: boolean,
  ): [Tensor, Tensor] {
    const gammaId = optionalId('layerNormResidual', 'gamma', gamma);
    const betaId = optionalId('layerNormResidual', 'beta', beta);
    const dtype = resultDType(x, lower);
    const [y, sum, mean, rstd] = native.layerNorm(x.id, residual.id, gammaId, betaId, eps, dtype);
    const s = wrap(sum);
    const statistics = [wrap(mean), wrap(rstd)] as const;
    ctx.save(s, ...statistics, gamma);
    ctx.state = beta !== undefined;
    for (const t of statistics) t.dispose();
    return [wrap(y), s];
  },
  backward({ saved: [s, mean, rstd, gamma], state }, dy, dsum) {
    if (dy === undefined) return [dsum, dsum, undefined, undefined, undefined];
    const [dx, dgamma, dbeta] = native
      .layerNormBackward(dy.id, s.id, gamma?.id, state === true, mean.id, rstd.id, dsum?.id)
      .map(optionalWrap);
    return [dx, dx, dgamma, dbeta];
  },
});

/**
 * Layer normalisation over the last dimension: `y = (x - mean) / sqrt(var + eps) * gamma + beta`.
 *
 * Shapes: x and y `[..., C]`, gamma and beta `[C]` (either may be left out). Statistics are computed in float32 for
 * 16-bit inputs. Source: Ba, Kiros, Hinton, "Layer Normalization", 2016.
 *
 * @throws TensorError SHAPE or DTYPE when gamma or beta do not fit x; VALUE for a negative eps
 * @example
 * const y = layerNorm(x, gamma, beta, { eps: 1e-5 });
 */
export function layerNorm<D extends FloatDType>(
  x: Tensor<D>,
  gamma?: Tensor<D>,
  beta?: Tensor<D>,
  options: LayerNormOptions = {},
): Tensor<D> {
  expectTensors('layerNorm', x);
  expectOptions('layerNorm', options, OPTIONS);
  return layerNormOp(
    x,
    gamma,
    beta,
    options.eps ?? DEFAULT_EPS,
    options.lower === true,
  ) as unknown as Tensor<D>;
}

/**
 * Layer normalisation of a residual sum, in one pass over memory: `s = x + residual; y = layerNorm(s)`.
 * Returns `[y, s]`: the normalised values and the sum, which the next block adds to.
 *
 * Shapes and errors as `layerNorm`; residual has x's shape.
 *
 * @example
 * const [y, s] = layerNormResidual(branch, stream, gamma, beta);
 */
export function layerNormResidual<D extends FloatDType>(
  x: Tensor<D>,
  residual: Tensor<D>,
  gamma?: Tensor<D>,
  beta?: Tensor<D>,
  options: LayerNormOptions = {},
): [Tensor<D>, Tensor<D>] {
  expectTensors('layerNormResidual', x, residual); // the native op takes none for a residual
  expectOptions('layerNormResidual', options, OPTIONS);
  return named('layerNormResidual', 'layerNorm', () =>
    layerNormResidualOp(x, residual, gamma, beta, options.eps ?? DEFAULT_EPS, options.lower === true),
  ) as unknown as [Tensor<D>, Tensor<D>];
}
