/**
 * Class activation maps: what each place of a map adds to a class's logit, which is its activation times the logit's slope.
 *
 * Of the last map it is exact, as the head is the mean of the map and a linear layer: Swin, ResNet, RegNetY, and a ViT that
 * averages normalised patches. A convolution's place looks at the same place of the image; Swin's last maps do not, as its windows
 * have carried things about, and the first stage says more of the image.
 *
 * Sources: Zhou et al., "Learning deep features for discriminative localization", 2016 (of the last map); Draelos and Carin, "Use
 * HiResCAM instead of Grad-CAM", 2020 (of others).
 */
import type { FloatTensor, Linear, TensorModule } from '../nn/index.js';
import { type Model, RegNet, ResNet, SwinTransformer, VisionTransformer } from '../models/index.js';
import { einsum, indexSelect, mul, sum, to } from '../ops/index.js';
import { fail } from '../tensor/error.js';
import { enableGrad, keep, noGrad, scope } from '../tensor/index.js';
import { inEvaluation } from '../nn/module.js';
import { type ClassTarget, type Explanation, recordedImages, slopesOf, targetsOf } from './target.js';

/** The last map `[B, h, w, C]` and the layer that makes logits of its mean, of a model with classes. */
interface MapAndHead {
  readonly map: FloatTensor;
  readonly head: Linear;
  readonly logits: FloatTensor;
}

/** @internal The map of each image, at the end of a stage: 1 is the first. */
export function activationMap(
  model: Model,
  images: FloatTensor,
  target: ClassTarget | undefined,
  stage: number | undefined,
): Explanation {
  const stages = stagesOf(model);
  const chosen = stage ?? (model instanceof SwinTransformer ? 1 : stages.length);
  if (stage !== undefined && !(Number.isInteger(stage) && stage >= 1 && stage <= stages.length)) {
    const choice =
      stages.length === 0 ? 'no stage for a model without' : `a stage from 1 to ${stages.length}`;
    fail('explain', 'VALUE', `expected ${choice}, got ${stage}`);
  }
  return chosen === stages.length
    ? ofLastMap(model, images, target)
    : ofStage(model, stages[chosen - 1], images, target);
}

function stagesOf(model: Model): readonly TensorModule[] {
  if (model instanceof SwinTransformer) return [...model.layers];
  return model instanceof ResNet || model instanceof RegNet ? model.stages : [];
}

/** Maps that with the head's bias sum to the logit. */
function ofLastMap(model: Model, images: FloatTensor, target: ClassTarget | undefined): Explanation {
  return noGrad(() =>
    scope(() => {
      const { map, head, logits } = inEvaluation(model, () => lastMap(model, images));
      const targets = targetsOf(logits, target);
      const [, rows, columns] = map.shape;
      const weights = indexSelect(head.weight, 0, targets);
      const sums = einsum('b h w c, b c -> b h w', map, weights);
      return { map: to(sums, 'float32').div(rows * columns), targets, logits };
    }),
  );
}

function ofStage(
  model: Model,
  stage: TensorModule,
  images: FloatTensor,
  target: ClassTarget | undefined,
): Explanation {
  let map: FloatTensor | undefined;
  const unhook = stage.registerForwardHook((_, y: FloatTensor) => {
    map = keep(y);
    return undefined;
  });
  try {
    return scope(() =>
      enableGrad(() => {
        const x = recordedImages(images);
        const logits = inEvaluation(model, () => model.call(x));
        const targets = targetsOf(logits, target);
        const [slope] = slopesOf(logits, targets, [map!]);
        return noGrad(() => {
          const channels = model instanceof SwinTransformer ? 3 : 1;
          const sums = sum(mul(map!, slope!), { dim: channels });
          return { map: to(sums, 'float32').clone(), targets, logits: logits.detach() };
        });
      }),
    );
  } finally {
    unhook();
    map?.dispose();
  }
}

function lastMap(model: Model, images: FloatTensor): MapAndHead {
  if (model instanceof SwinTransformer) {
    const map = model.forwardFeatures(images);
    return { map, head: model.head.fc!, logits: model.forwardHead(map) };
  }
  if (model instanceof ResNet || model instanceof RegNet) {
    const map = model.forwardFeatures(images);
    const head = (model instanceof ResNet ? model.fc : model.head.fc)!;
    return { map: map.permute([0, 2, 3, 1]), head, logits: model.forwardHead(map) };
  }
  const isMean = model instanceof VisionTransformer && model.config.globalPool === 'avg';
  if (isMean && model.fcNorm === undefined) {
    const tokens = model.forwardFeatures(images);
    const [batch, n, dim] = tokens.shape;
    const [rows, columns] = gridOfImages(model, images);
    const patches = tokens.narrow(1, model.prefixTokens, n - model.prefixTokens);
    const map = patches.reshape([batch, rows, columns, dim]);
    return { map, head: model.head!, logits: model.forwardHead(tokens) };
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
