/**
 * Attention through all layers: how much of what a token says in the end it has from each token of the beginning.
 *
 * A layer adds what its attention mixes to what was there, so one layer passes on (W + I) / 2, and layers multiply.
 *
 * Sources: Abnar and Zuidema, "Quantifying attention flow in transformers", 2020 (rollout); Chefer, Gur and Wolf, "Generic
 * attention-model explainability", 2021 (relevance); gradient rollout: J. Gildenblat, 2020.
 */
import {
  cat,
  eye,
  matmul,
  max,
  mean,
  min,
  mul,
  relu,
  scatterAdd,
  sum,
  topk,
  zeros,
  zerosLike,
} from '../ops/index.js';
import { type OptionNames, expectOptions, expectTensorList } from '../tensor/arguments.js';
import { fail, shown } from '../tensor/error.js';
import { type Tensor, noGrad, scope } from '../tensor/index.js';
import type { LayerAttention } from './attention.js';

/** How heads become one, and what is left out. */
export interface RolloutOptions {
  /** How a layer's heads become one matrix. Default 'mean', as in the paper. */
  readonly headFusion?: 'mean' | 'max' | 'min';
  /** Share of a matrix's entries, the smallest, that become 0; the class token's attention to itself stays. Default 0. */
  readonly discardRatio?: number;
  /** The first layer that counts. Default 0. */
  readonly startLayer?: number;
}

/** @internal */
export const ROLLOUT_OPTIONS = {
  headFusion: true,
  discardRatio: true,
  startLayer: true,
} satisfies OptionNames<RolloutOptions>;

const GRADIENT_OPTIONS = { discardRatio: true, startLayer: true } satisfies OptionNames<
  Omit<RolloutOptions, 'headFusion'>
>;

/**
 * Attention rollout: `R = A_L ... A_1` with `A = (W + I) / 2`, rows made to sum to 1, W being a layer's heads as one.
 *
 * Shapes: each layer `[B, H, N, N]` -> `[B, N, N]`, whose rows sum to 1.
 *
 * @throws TensorError SHAPE when layers differ, VALUE for an option out of range
 * @example
 * const map = attentionRollout(attentionMaps(model, images)).select(1, 0).narrow(1, 1, 196); // the class token's patches
 */
export function attentionRollout(
  layers: readonly Tensor<'float32'>[],
  options: RolloutOptions = {},
): Tensor<'float32'> {
  checkLayers('attentionRollout', layers);
  expectOptions('attentionRollout', options, ROLLOUT_OPTIONS);
  const fuse = headFusion(options.headFusion ?? 'mean');
  return noGrad(() => scope(() => rolloutOf('attentionRollout', layers.map(fuse), options)));
}

/**
 * Gradient rollout: the rollout of `max(0, mean over heads of (attention * gradient))`, which sees a class.
 *
 * Shapes: each layer `[B, H, N, N]` -> `[B, N, N]`.
 *
 * @throws TensorError SHAPE when layers differ, VALUE for an option out of range
 * @example
 * const map = gradientRollout(attentionGradients(model, images)).select(1, 0).narrow(1, 1, 196);
 */
export function gradientRollout(
  layers: readonly LayerAttention[],
  options: Omit<RolloutOptions, 'headFusion'> = {},
): Tensor<'float32'> {
  checkPairs('gradientRollout', layers);
  expectOptions('gradientRollout', options, GRADIENT_OPTIONS);
  return noGrad(() =>
    scope(() => rolloutOf('gradientRollout', layers.map(positiveMean), { ...options, keepFirst: false })),
  );
}

/**
 * Relevance of tokens for a class: from R = I, layer by layer, `R = R + E R` with `E = mean over heads of
 * max(0, attention * gradient)`.
 *
 * Shapes: each layer `[B, H, N, N]` -> `[B, N, N]`. Values grow with the logit's scale: compare them within an image.
 *
 * @throws TensorError SHAPE when layers differ
 * @example
 * const map = attentionRelevance(attentionGradients(model, images)).select(1, 0).narrow(1, 1, 196);
 */
export function attentionRelevance(layers: readonly LayerAttention[]): Tensor<'float32'> {
  checkPairs('attentionRelevance', layers);
  return noGrad(() => scope(() => relevanceOf(layers.map(meanPositive))));
}

/** @internal */
export function headFusion(
  how: NonNullable<RolloutOptions['headFusion']>,
): (attention: Tensor<'float32'>) => Tensor<'float32'> {
  switch (how) {
    case 'mean':
      return (attention) => mean(attention, { dim: 1 });
    case 'max':
      return (attention) => max(attention, { dim: 1 });
    case 'min':
      return (attention) => min(attention, { dim: 1 });
    default:
      return fail(
        'attentionRollout',
        'VALUE',
        `expected a headFusion of mean, max or min, got '${String(how)}'`,
      );
  }
}

/** @internal */
export const positiveMean = ({ attention, gradient }: LayerAttention): Tensor<'float32'> =>
  relu(mean(mul(attention, gradient), { dim: 1 }));

/** @internal */
export const meanPositive = ({ attention, gradient }: LayerAttention): Tensor<'float32'> =>
  mean(relu(mul(attention, gradient)), { dim: 1 });

/** @internal The rollout of layers whose heads are one, `[B, N, N]` each. */
export function rolloutOf(
  op: string,
  fused: readonly Tensor<'float32'>[],
  options: Omit<RolloutOptions, 'headFusion'> & { readonly keepFirst?: boolean } = {},
): Tensor<'float32'> {
  const { discardRatio = 0, startLayer = 0, keepFirst = true } = options;
  if (!(discardRatio >= 0 && discardRatio < 1)) {
    fail(op, 'VALUE', `expected a discardRatio in [0, 1), got ${discardRatio}`);
  }
  if (!(Number.isInteger(startLayer) && startLayer >= 0 && startLayer < fused.length)) {
    fail(op, 'VALUE', `expected a startLayer from 0 to ${fused.length - 1}, got ${startLayer}`);
  }
  const steps = fused.slice(startLayer).map((layer) => {
    const kept = discardRatio > 0 ? withoutSmallest(layer, discardRatio, keepFirst) : layer;
    const mixed = kept.add(identityLike(layer)); // without the half, which the rows' sums take back
    return mixed.div(sum(mixed, { dim: 2, keepdim: true }));
  });
  return steps.reduce((rollout, step) => matmul(step, rollout));
}

/** @internal */
export function relevanceOf(fused: readonly Tensor<'float32'>[]): Tensor<'float32'> {
  const start = identityLike(fused[0]).expand(fused[0].shape);
  return fused.reduce((relevance, layer) => relevance.add(matmul(layer, relevance)), start);
}

function withoutSmallest(layer: Tensor<'float32'>, ratio: number, keepFirst: boolean): Tensor<'float32'> {
  const [batch, n] = layer.shape;
  const count = Math.trunc(n * n * ratio);
  if (count === 0) return layer;
  const flat = layer.reshape([batch, n * n]);
  const { values, indices } = topk(flat, count, { largest: false });
  const loss = scatterAdd(zerosLike(flat), 1, indices, values);
  const gone = keepFirst
    ? cat([zeros([batch, 1], { device: layer.device }), loss.narrow(1, 1, n * n - 1)], 1)
    : loss;
  return flat.sub(gone).reshape(layer.shape); // x - x is 0
}

function identityLike(layer: Tensor<'float32'>): Tensor<'float32'> {
  return eye(layer.shape[2], { device: layer.device }).unsqueeze(0);
}

function checkLayers(op: string, layers: readonly Tensor<'float32'>[]): void {
  expectTensorList(op, 'layers', layers);
  if (layers.length === 0) fail(op, 'VALUE', 'expected at least one layer, got none');
  const [{ shape }] = layers;
  for (const layer of layers) {
    const square = layer.ndim === 4 && layer.shape[2] === layer.shape[3];
    if (!square || layer.shape.join() !== shape.join()) {
      fail(
        op,
        'SHAPE',
        `expected layers [B, H, N, N] of one size, got [${shape.join(', ')}] and [${layer.shape.join(', ')}]`,
      );
    }
  }
}

function checkPairs(op: string, layers: readonly LayerAttention[]): void {
  const given: unknown = layers;
  if (!Array.isArray(given) || given.some((layer: unknown) => typeof layer !== 'object' || layer === null)) {
    fail(op, 'VALUE', `expected what attentionGradients gives, got ${shown(layers)}`);
  }
  checkLayers(
    op,
    layers.flatMap(({ attention, gradient }) => [attention, gradient]),
  );
}
