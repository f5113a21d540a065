/**
 * Class activation maps: what each place of the last map adds to a class's logit. Exact where the head is the mean of the map and
 * a linear layer: Swin, ResNet, RegNetY, and a ViT that averages normalised patches.
 *
 * Source: Zhou et al., "Learning deep features for discriminative localization", 2016.
 */
import type { FloatTensor, Linear } from '../nn/index.js';
import { type Model, RegNet, ResNet, SwinTransformer, VisionTransformer } from '../models/index.js';
import { einsum, indexSelect, to } from '../ops/index.js';
import { fail } from '../tensor/error.js';
import { noGrad, scope } from '../tensor/index.js';
import { inEvaluation } from './in-evaluation.js';
import { type ClassTarget, type Explanation, targetsOf } from './target.js';

/** The last map `[B, h, w, C]` and the layer that makes logits of its mean. */
interface MapAndHead {
  readonly map: FloatTensor;
  readonly head: Linear | undefined;
  readonly logits: FloatTensor;
}

/** @internal Whether a model's logits are sums over places. */
export function hasActivationMap(model: Model): boolean {
  if (model instanceof VisionTransformer) {
    return model.config.globalPool === 'avg' && model.fcNorm === undefined;
  }
  return model instanceof SwinTransformer || model instanceof ResNet || model instanceof RegNet;
}

/** @internal The map of each image, whose sum and the head's bias are the logit. */
export function activationMap(
  model: Model,
  images: FloatTensor,
  target: ClassTarget | undefined,
): Explanation {
  return noGrad(() =>
    scope(() => {
      const { map, head, logits } = inEvaluation(model, () => lastMap(model, images));
      if (head === undefined)
        return fail('explain', 'VALUE', 'expected a model with classes, got one without a head');
      const targets = targetsOf(logits, target);
      const [, rows, columns] = map.shape;
      const weights = indexSelect(head.weight, 0, targets);
      const sums = einsum('b h w c, b c -> b h w', map, weights);
      return { map: to(sums, 'float32').div(rows * columns), targets, logits };
    }),
  );
}

function lastMap(model: Model, images: FloatTensor): MapAndHead {
  if (model instanceof SwinTransformer) {
    const map = model.forwardFeatures(images);
    return { map, head: model.head.fc, logits: model.forwardHead(map) };
  }
  if (model instanceof ResNet || model instanceof RegNet) {
    const map = model.forwardFeatures(images);
    const head = model instanceof ResNet ? model.fc : model.head.fc;
    return { map: map.permute([0, 2, 3, 1]), head, logits: model.forwardHead(map) };
  }
  if (model instanceof VisionTransformer && hasActivationMap(model)) {
    const tokens = model.forwardFeatures(images);
    const [batch, n, dim] = tokens.shape;
    const [rows, columns] = gridOfImages(model, images);
    const patches = tokens.narrow(1, model.prefixTokens, n - model.prefixTokens);
    const map = patches.reshape([batch, rows, columns, dim]);
    return { map, head: model.head, logits: model.forwardHead(tokens) };
  }
  return fail(
    'explain',
    'VALUE',
    "expected a model whose head is the mean of a map, for the method 'activation'",
  );
}

/** @internal Patches down and across. */
export function gridOfImages(model: VisionTransformer, images: FloatTensor): [rows: number, columns: number] {
  const [height, width] = images.shape.slice(-2);
  const { patchSize } = model.config;
  return [height / patchSize, width / patchSize];
}
