/**
 * How far attention looks, and which patches hold most of it.
 *
 * Sources: Dosovitskiy et al., "An image is worth 16x16 words", 2021, figure 7 (distance); Caron et al., "Emerging properties in
 * self-supervised vision transformers", 2021 (mask).
 */
import { cumsum, greater, mul, scatterAdd, sum, tensor, to, topk, zerosLike } from '../ops/index.js';
import { type OptionNames, expectOptions, expectTensors } from '../tensor/arguments.js';
import { fail } from '../tensor/error.js';
import { type Tensor, noGrad, scope } from '../tensor/index.js';

/** Where a layer's tokens are. */
export interface DistanceOptions {
  /** Patches down and across. */
  readonly grid: readonly [rows: number, columns: number];
  /** Pixels of a patch's side. */
  readonly patchSize: number;
  /** Tokens before the patches, which have no place. Default 1. */
  readonly prefixTokens?: number;
  /** Make a patch's attention to patches sum to 1, leaving out what goes to prefix tokens. Default false. */
  readonly renormalize?: boolean;
}

const OPTIONS = {
  grid: true,
  patchSize: true,
  prefixTokens: true,
  renormalize: true,
} satisfies OptionNames<DistanceOptions>;

/**
 * The mean attention distance of each head, in pixels: `mean over images and patches i of sum_j A_ij |place_i - place_j|`.
 *
 * Shapes: one layer `[B, H, N, N]` -> `[H]`. Attention that is even over a 14 x 14 grid of 16 pixels has 116.5.
 *
 * @throws TensorError SHAPE when the grid and the prefix are not N tokens
 * @example
 * const pixels = attentionMaps(model, images).map((layer) => attentionDistance(layer, { grid: [14, 14], patchSize: 16 }));
 */
export function attentionDistance(attention: Tensor<'float32'>, options: DistanceOptions): Tensor<'float32'> {
  expectTensors('attentionDistance', attention);
  expectOptions('attentionDistance', options, OPTIONS);
  const { grid, patchSize, prefixTokens = 1, renormalize = false } = options;
  const [rows, columns] = grid;
  const patches = rows * columns;
  const n = attention.shape.at(-1);
  if (attention.ndim !== 4 || n !== attention.shape[2] || n !== prefixTokens + patches) {
    fail(
      'attentionDistance',
      'SHAPE',
      `expected attention [B, H, N, N] with N = ${prefixTokens} + ${rows} * ${columns}, got [${attention.shape.join(', ')}]`,
    );
  }
  const places = Float32Array.from({ length: patches * patches }, (_, at) => {
    const [i, j] = [Math.floor(at / patches), at % patches];
    const down = Math.floor(i / columns) - Math.floor(j / columns);
    return patchSize * Math.hypot(down, (i % columns) - (j % columns));
  });
  return noGrad(() =>
    scope(() => {
      const distances = tensor(places, { shape: [patches, patches], device: attention.device });
      const between = attention.narrow(2, prefixTokens, patches).narrow(3, prefixTokens, patches);
      const weights = renormalize ? between.div(sum(between, { dim: 3, keepdim: true })) : between;
      return sum(mul(weights, distances), { dim: 3 }).mean({ dim: [0, 2] });
    }),
  );
}

/**
 * Where the smallest set of patches is that holds about `share` of a map's mass: those whose cumulative sum, from the smallest
 * on, exceeds `1 - share`.
 *
 * Shapes: map `[..., patches]`, not negative -> bool, alike.
 *
 * @throws TensorError VALUE for a share outside (0, 1]
 * @example
 * const mask = massMask(headMaps, 0.6); // DINO's pictures
 */
export function massMask(map: Tensor<'float32'>, share: number): Tensor<'bool'> {
  expectTensors('massMask', map);
  if (!(share > 0 && share <= 1)) fail('massMask', 'VALUE', `expected a share in (0, 1], got ${share}`);
  return noGrad(() =>
    scope(() => {
      const n = map.shape[map.ndim - 1];
      const { values, indices } = topk(map, n, { largest: false });
      const reached = cumsum(values.div(sum(values, { dim: -1, keepdim: true })), -1);
      const kept = to(greater(reached, 1 - share), 'float32');
      return to(scatterAdd(zerosLike(kept), kept.ndim - 1, indices, kept), 'bool');
    }),
  );
}
