/**
 * What the attention layers of a ViT do with images: their probabilities, and the slopes of a class's logit by them.
 *
 * Fused attention holds no N x N matrix, so the probabilities are computed again from the queries and keys that pass. With
 * out = A v the slope by A is that by `out`, times v transposed: autograd goes as far as `out`, and no further.
 */
import { type Attention, type FloatTensor } from '../nn/index.js';
import type { VisionTransformer } from '../models/index.js';
import { arange, attentionRows, matmul, to, zeros } from '../ops/index.js';
import { expectTensors } from '../tensor/arguments.js';
import { type Tensor, enableGrad, keep, noGrad, scope } from '../tensor/index.js';
import { inEvaluation } from '../nn/module.js';
import { type ClassTarget, recordedImages, slopesOf, targetsOf } from './target.js';

/** One layer's attention. */
export interface LayerAttention {
  /** Probabilities `[B, H, N, N]`, float32: the row is who asks, the column who is asked. Rows sum to 1. */
  readonly attention: Tensor<'float32'>;
  /** Slopes of the logits of the classes asked for by the probabilities, alike. */
  readonly gradient: Tensor<'float32'>;
}

/** A layer on its way: what passed through it. */
interface Passed {
  /** `[B, H, N, d]`, float32 */
  readonly q: Tensor<'float32'>;
  readonly k: Tensor<'float32'>;
  readonly v: Tensor<'float32'>;
  /** What attention gives to its projection, `[B, N, H d]`. */
  readonly out: FloatTensor;
}

/**
 * The attention probabilities of every layer of a ViT, DeiT or distilled DeiT: `[B, H, N, N]` each, prefix tokens first. Twelve
 * layers of ViT-B with 197 tokens are 22 MB an image.
 *
 * Shapes: images `[B, C, H, W]`, normalised as for the model, which is taken as in evaluation.
 *
 * @example
 * const [first] = attentionMaps(model, images);
 * const heads = first.select(2, 0).narrow(2, 1, 196).reshape([-1, 12, 14, 14]); // the class token's view of the patches
 */
export function attentionMaps(model: VisionTransformer, images: FloatTensor): Tensor<'float32'>[] {
  expectTensors('attentionMaps', images);
  return noGrad(() => scope(() => watched(model, images, ({ layers }) => layers.map(probabilities))));
}

/**
 * The attention of every layer of a ViT with its slopes: those of the logit of a class, or of each image's most probable one.
 * Twice the memory of `attentionMaps`; `explain` needs less.
 *
 * Shapes: images `[B, C, H, W]`, normalised as for the model, which is taken as in evaluation.
 *
 * @throws TensorError VALUE for a class that is not there
 * @example
 * const map = attentionRelevance(attentionGradients(model, images, 3)).select(1, 0).narrow(1, 1, 196);
 */
export function attentionGradients(
  model: VisionTransformer,
  images: FloatTensor,
  target?: ClassTarget,
): LayerAttention[] {
  expectTensors('attentionGradients', images);
  return scope(() => withGradients(model, images, target, (layer) => layer).layers);
}

/** @internal What is left of each layer, and what the model said. */
export interface Layers<T> {
  readonly layers: T[];
  /** `[B, classes]` */
  readonly logits: FloatTensor;
  /** int64 `[B]` */
  readonly targets: Tensor<'int64'>;
}

/** @internal What `read` makes of each layer's attention, a layer at a time: all of them at once would be large. */
export function withAttention<T>(
  model: VisionTransformer,
  images: FloatTensor,
  target: ClassTarget | undefined,
  read: (attention: Tensor<'float32'>) => T,
): Layers<T> {
  return noGrad(() =>
    scope(() =>
      watched(model, images, ({ layers, logits }) => ({
        layers: layers.map((layer) => scope(() => read(probabilities(layer)))),
        logits,
        targets: targetsOf(logits, target),
      })),
    ),
  );
}

/** @internal The same with the slopes of the targets' logits. */
export function withGradients<T>(
  model: VisionTransformer,
  images: FloatTensor,
  target: ClassTarget | undefined,
  read: (layer: LayerAttention) => T,
): Layers<T> {
  return scope(() =>
    enableGrad(() =>
      watched(model, recordedImages(images), ({ layers, logits }) => {
        const targets = targetsOf(logits, target);
        const slopes = slopesOf(
          logits,
          targets,
          layers.map(({ out }) => out),
        );
        return noGrad(() => ({
          layers: layers.map((layer, i) =>
            scope(() =>
              read({
                attention: probabilities(layer),
                gradient: gradientOf(layer, slopes[i]),
              }),
            ),
          ),
          logits: logits.detach(),
          targets,
        }));
      }),
    ),
  );
}

/** Calls `use` with the model's logits and what passed through its layers, which is freed afterwards. */
function watched<T>(
  model: VisionTransformer,
  images: FloatTensor,
  use: (seen: { readonly layers: readonly Passed[]; readonly logits: FloatTensor }) => T,
): T {
  const layers: Passed[] = [];
  const unhooks = [...model.blocks].flatMap(({ attn }) => watch(attn, (layer) => layers.push(layer)));
  try {
    return inEvaluation(model, () => use({ logits: model.call(images), layers }));
  } finally {
    for (const unhook of unhooks) unhook();
    for (const layer of layers) for (const tensor of Object.values<Tensor>({ ...layer })) tensor.dispose();
  }
}

function watch(attn: Attention, found: (layer: Passed) => void): (() => void)[] {
  let heads: Omit<Passed, 'out'> | undefined;
  return [
    attn.qkv.registerForwardHook((_, qkv) => {
      heads = noGrad(() => scope(() => headsOf(attn, qkv)));
      return undefined;
    }),
    attn.proj.registerForwardHook(([out]) => {
      if (heads !== undefined) found({ ...heads, out: keep(out) });
      return undefined;
    }),
  ];
}

function headsOf(attn: Attention, qkv: FloatTensor): Omit<Passed, 'out'> {
  const [batch, n, features] = qkv.shape;
  const packed = qkv.reshape([batch, n, 3, attn.numHeads, features / (3 * attn.numHeads)]);
  const [q, k, v] = packed.unbind(2).map((part) => part.transpose(1, 2));
  const own = (x: FloatTensor): Tensor<'float32'> => keep(to(x, 'float32').clone());
  return { q: own(attn.qNorm?.call(q) ?? q), k: own(attn.kNorm?.call(k) ?? k), v: own(v) };
}

function probabilities({ q, k }: Passed): Tensor<'float32'> {
  return attentionRows(q, k, arange(q.shape[2], { dtype: 'int64', device: q.device }));
}

function gradientOf({ v }: Passed, slope: FloatTensor | undefined): Tensor<'float32'> {
  const [batch, heads, n, d] = v.shape;
  if (slope === undefined) return zeros([batch, heads, n, n], { device: v.device });
  const byHead = to(slope, 'float32').reshape([batch, n, heads, d]).transpose(1, 2);
  return matmul(byHead, v.transpose(2, 3));
}
