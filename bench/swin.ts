/**
 * The Swin that the benchmarks train and run, as numbers that every system builds its model from.
 */
import { dropPathRates } from '../src/models/family.js';

export interface SwinShape {
  readonly image: number;
  readonly patch: number;
  readonly dim: number;
  readonly depths: readonly number[];
  readonly heads: readonly number[];
  readonly window: number;
  readonly classes: number;
}

/** Swin-T at 224 px. */
export const SWIN_TINY: SwinShape = {
  image: 224,
  patch: 4,
  dim: 96,
  depths: [2, 2, 6, 2],
  heads: [3, 6, 12, 24],
  window: 7,
  classes: 1000,
};

/**
 * Floating-point operations of one image's forward pass, for maps that the window divides: matrix products only, and of a
 * block's branches as many as stochastic depth (`dropPath` in the last block) keeps on average.
 */
export function swinFlops({ image, patch, dim, depths, window, classes }: SwinShape, dropPath = 0): number {
  const kept = dropPathRates(
    dropPath,
    depths.reduce((sum, depth) => sum + depth),
  ).map((rate) => 1 - rate);
  const stages = depths.map((depth, i) => {
    const width = dim * 2 ** i;
    const tokens = (image / patch / 2 ** i) ** 2;
    const merge = i > 0 ? tokens * 2 * width ** 2 : 0;
    const blocks = kept.splice(0, depth).reduce((sum, share) => sum + share, 0);
    return merge + blocks * (tokens * 12 * width ** 2 + 2 * tokens * window ** 2 * width);
  });
  const embed = (image / patch) ** 2 * 3 * patch ** 2 * dim;
  const head = dim * 2 ** (depths.length - 1) * classes;
  return 2 * (embed + stages.reduce((sum, macs) => sum + macs, 0) + head);
}
