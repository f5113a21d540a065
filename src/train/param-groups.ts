import type { LayerNames } from '../models/index.js';
import type { FloatTensor, Module } from '../nn/index.js';
import type { ParamGroup } from '../optim/index.js';
import { type OptionNames, expectOptions } from '../tensor/arguments.js';
import { fail } from '../tensor/error.js';
import { layerOf, layersOf } from './layers.js';

/** A model, the names of the parameters that it wants no weight decay on, and its layers. */
export type DecayableModel = Pick<Module, 'namedParameters'> & {
  readonly noWeightDecay?: readonly string[];
  readonly layerNames?: LayerNames | undefined;
};

/** What `paramGroups` makes groups by, besides weight decay. */
export interface ParamGroupOptions {
  /** Learning rate of a layer, as a share of that of the layer after it, in (0, 1]. Default 1. */
  readonly layerDecay?: number;
}

const OPTIONS = { layerDecay: true } satisfies OptionNames<ParamGroupOptions>;

/**
 * The parameters that train, in two groups: with weight decay, and without it for vectors (biases, norms, scales) and
 * for what the model names: positions and tokens.
 *
 * With `layerDecay` each layer of the model's `layerNames` has such two groups of its own, whose rates are scaled
 * (`lrScale`) by `layerDecay^(last - layer)`: 1 for the head, least for the patches.
 *
 * Source: timm's `param_groups_weight_decay`; layers as in Bao et al., "BEiT", 2022, and He et al., "Masked autoencoders
 * are scalable vision learners", 2022.
 *
 * @throws TensorError VALUE for a layerDecay outside (0, 1], or with one for a model without `layerNames`
 * @example
 * const optimizer = new AdamW(paramGroups(model, 0.05, { layerDecay: 0.75 }), { lr: 1e-3 });
 */
export function paramGroups(
  model: DecayableModel,
  weightDecay: number,
  options: ParamGroupOptions = {},
): ParamGroup[] {
  expectOptions('paramGroups', options, OPTIONS);
  const { layerDecay = 1 } = options;
  if (!(layerDecay > 0 && layerDecay <= 1)) {
    fail('paramGroups', 'VALUE', `expected a layerDecay above 0 and up to 1, got ${layerDecay}`);
  }
  const layers = layerDecay === 1 ? [[]] : layersOf('paramGroups', model, 'layerDecay');
  const groups = layers.map(() => ({ decay: [] as FloatTensor[], noDecay: [] as FloatTensor[] }));
  const spared = new Set(model.noWeightDecay ?? []);
  for (const [name, tensor] of model.namedParameters()) {
    if (!tensor.requiresGrad) continue;
    const plain = tensor.ndim <= 1 || name.endsWith('.bias') || spared.has(name);
    const group = groups[layerOf(layers, name)];
    (plain ? group.noDecay : group.decay).push(tensor);
  }
  return groups
    .flatMap(({ decay, noDecay }, layer): ParamGroup[] => {
      const scaled = layerDecay === 1 ? {} : { lrScale: layerDecay ** (layers.length - 1 - layer) };
      return [
        { params: decay, weightDecay, ...scaled },
        { params: noDecay, weightDecay: 0, ...scaled },
      ];
    })
    .filter((group) => group.params.length > 0);
}
