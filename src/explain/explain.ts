/**
 * Which parts of an image speak for a class: one map for each image, by the method that suits the model.
 */
import type { FloatTensor } from '../nn/index.js';
import { DistilledVisionTransformer, type Model, VisionTransformer } from '../models/index.js';
import { type OptionNames, expectOptions, expectTensors } from '../tensor/arguments.js';
import { fail } from '../tensor/error.js';
import { type Tensor, noGrad, scope } from '../tensor/index.js';
import { activationMap, gridOfImages } from './activation.js';
import { type Layers, withAttention, withGradients } from './attention.js';
import {
  ROLLOUT_OPTIONS,
  type RolloutOptions,
  headFusion,
  meanPositive,
  positiveMean,
  relevanceOf,
  rolloutOf,
} from './rollout.js';
import type { ClassTarget, Explanation } from './target.js';

/** How a map is made. */
export type ExplainMethod = (typeof EXPLAIN_METHODS)[number];

/** What `explain` knows, by name. */
export const EXPLAIN_METHODS = [
  'relevance',
  'rollout',
  'gradientRollout',
  'attention',
  'activation',
] as const;

/** What to explain, and how. */
export interface ExplainOptions extends RolloutOptions {
  /**
   * - `relevance`: attention times its slope, through all layers (Chefer et al., 2021): of the class, for ViT and DeiT. Default there.
   * - `gradientRollout`: the same by rollout.
   * - `rollout`: attention through all layers, whatever the class (Abnar and Zuidema, 2020), for ViT and DeiT.
   * - `attention`: that of the last layer alone, the mean of its heads, for ViT and DeiT.
   * - `activation`: what each place of a map adds to the logit (Zhou et al., 2016): of the class, for Swin, ResNet, RegNetY, and a
   *   ViT that averages normalised patches. Default for all but ViT and DeiT.
   */
  readonly method?: ExplainMethod | undefined;
  /** At whose end the map of `activation` is, from 1. Default: the last stage, where it is exact; of Swin the first. */
  readonly stage?: number | undefined;
  /** Default: the most probable class of each image. */
  readonly target?: ClassTarget | undefined;
}

const OPTIONS = {
  ...ROLLOUT_OPTIONS,
  method: true,
  stage: true,
  target: true,
} satisfies OptionNames<ExplainOptions>;

/**
 * Explains what a model sees in images: a value for each patch, or place of the last map. The model is taken as in evaluation.
 *
 * A ViT's map is what the token that its head reads has from each patch: the class token; the mean of class and distillation token;
 * or the mean of the patches. `activation` of the last stage is exact: an image's map sums to the logit less the head's bias.
 *
 * Shapes: images `[B, C, H, W]`, normalised as for the model.
 *
 * @throws TensorError VALUE for a method that the model has not, or a class that is not there; SHAPE for images of another size
 * @example
 * const { map, targets } = explain(model, images);
 * const picture = await heatmap(image, await map.select(0, 0).data(), { grid: map.shape.slice(1) });
 */
export function explain(model: Model, images: FloatTensor, options: ExplainOptions = {}): Explanation {
  expectTensors('explain', images);
  expectOptions('explain', options, OPTIONS);
  const { method = defaultMethod(model), target, stage } = options;
  if (model.config.numClasses === 0) {
    fail('explain', 'VALUE', 'expected a model with classes, got one without a head');
  }
  if (method === 'activation') return activationMap(model, images, target, stage);
  if (!(EXPLAIN_METHODS as readonly string[]).includes(method)) {
    fail('explain', 'VALUE', `expected a method of ${EXPLAIN_METHODS.join(', ')}, got '${String(method)}'`);
  }
  if (stage !== undefined) {
    fail(
      'explain',
      'VALUE',
      `expected a stage with the method 'activation' alone, got ${stage} with '${method}'`,
    );
  }
  if (!(model instanceof VisionTransformer)) {
    return fail(
      'explain',
      'VALUE',
      `expected the method 'activation' for a model without global attention, got '${method}'`,
    );
  }
  return noGrad(() =>
    scope(() => {
      const { tokens, targets, logits } = tokenMatrix(model, images, method, options);
      return { map: mapOf(model, images, tokens), targets, logits };
    }),
  );
}

/** The method where none is named. */
function defaultMethod(model: Model): ExplainMethod {
  return model instanceof VisionTransformer ? 'relevance' : 'activation';
}

interface TokenMatrix extends Omit<Layers<never>, 'layers'> {
  /** `[B, N, N]`: what the row's token has from the column's. */
  readonly tokens: Tensor<'float32'>;
}

function tokenMatrix(
  model: VisionTransformer,
  images: FloatTensor,
  method: Exclude<ExplainMethod, 'activation'>,
  options: ExplainOptions,
): TokenMatrix {
  const { target, headFusion: fusion = 'mean' } = options;
  const chain = (
    found: Layers<Tensor<'float32'>>,
    join: (layers: Tensor<'float32'>[]) => Tensor<'float32'>,
  ): TokenMatrix => ({
    ...found,
    tokens: join(found.layers),
  });
  switch (method) {
    case 'relevance':
      return chain(withGradients(model, images, target, meanPositive), relevanceOf);
    case 'gradientRollout':
      return chain(withGradients(model, images, target, positiveMean), (layers) =>
        rolloutOf('explain', layers, { ...options, keepFirst: false }),
      );
    case 'rollout':
      return chain(withAttention(model, images, target, headFusion(fusion)), (layers) =>
        rolloutOf('explain', layers, options),
      );
    case 'attention':
      return chain(
        withAttention(model, images, target, headFusion(fusion)),
        (layers) => layers[layers.length - 1],
      );
  }
}

/** The patches' part of the rows that the head reads, as a grid. */
function mapOf(model: VisionTransformer, images: FloatTensor, tokens: Tensor<'float32'>): Tensor<'float32'> {
  const [batch, n] = tokens.shape;
  const prefix = model.prefixTokens;
  const [rows, columns] = gridOfImages(model, images);
  const [first, count] =
    model.config.globalPool === 'avg'
      ? [prefix, n - prefix]
      : [0, model instanceof DistilledVisionTransformer ? 2 : 1];
  const read = tokens.narrow(1, first, count).mean({ dim: 1 });
  return read.narrow(1, prefix, n - prefix).reshape([batch, rows, columns]);
}
