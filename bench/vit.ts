/**
 * The vision transformers that the benchmarks train and run, as numbers that every system builds its model from.
 */
export interface VitConfig {
  readonly image: number;
  readonly patch: number;
  readonly dim: number;
  readonly depth: number;
  readonly heads: number;
  readonly classes: number;
}

/** ViT-Ti/16 at 224 px. */
export const VIT_TINY: VitConfig = { image: 224, patch: 16, dim: 192, depth: 12, heads: 3, classes: 1000 };

/** ViT-B/16 at 224 px. */
export const VIT_BASE: VitConfig = { image: 224, patch: 16, dim: 768, depth: 12, heads: 12, classes: 1000 };

/** The small ViT for 32 px images of the CIFAR-10 recipe. */
export const VIT_CIFAR: VitConfig = { image: 32, patch: 4, dim: 96, depth: 6, heads: 3, classes: 10 };

/** Tokens, the class token included. */
export function tokens(vit: VitConfig): number {
  return (vit.image / vit.patch) ** 2 + 1;
}

/** Names (timm's) and shapes of the parameters; linear weights are `[out, in]`. */
export function parameterShapes(vit: VitConfig): [name: string, shape: readonly number[]][] {
  const { dim, patch } = vit;
  const norm = (name: string): [string, number[]][] => [
    [`${name}.weight`, [dim]],
    [`${name}.bias`, [dim]],
  ];
  const linear = (name: string, inputs: number, outputs: number): [string, number[]][] => [
    [`${name}.weight`, [outputs, inputs]],
    [`${name}.bias`, [outputs]],
  ];
  const block = (name: string): [string, number[]][] => [
    ...norm(`${name}.norm1`),
    ...linear(`${name}.attn.qkv`, dim, 3 * dim),
    ...linear(`${name}.attn.proj`, dim, dim),
    ...norm(`${name}.norm2`),
    ...linear(`${name}.mlp.fc1`, dim, 4 * dim),
    ...linear(`${name}.mlp.fc2`, 4 * dim, dim),
  ];
  return [
    ['cls_token', [1, 1, dim]],
    ['pos_embed', [1, tokens(vit), dim]],
    ['patch_embed.proj.weight', [dim, 3, patch, patch]],
    ['patch_embed.proj.bias', [dim]],
    ...Array.from({ length: vit.depth }, (_, i) => block(`blocks.${i}`)).flat(),
    ...norm('norm'),
    ...linear('head', dim, vit.classes),
  ];
}

/** Number of elements of a shape. */
export function elements(shape: readonly number[]): number {
  return shape.reduce((product, n) => product * n, 1);
}

/** Floating-point operations of one image's forward pass: matrix products only, as model tables count them. */
export function forwardFlops(vit: VitConfig): number {
  const n = tokens(vit);
  const { dim, depth, classes, patch } = vit;
  const embed = (n - 1) * 3 * patch * patch * dim;
  const block = n * 12 * dim * dim + 2 * n * n * dim;
  return 2 * (embed + depth * block + dim * classes);
}
