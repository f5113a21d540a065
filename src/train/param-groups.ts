import type { FloatTensor, Module } from '../nn/index.js';
import type { ParamGroup } from '../optim/index.js';

/** A model, and the names of the parameters that it wants no weight decay on. */
export type DecayableModel = Pick<Module, 'namedParameters'> & { readonly noWeightDecay?: readonly string[] };

/**
 * The parameters that train, in two groups: with weight decay, and without it for vectors (biases, norms, scales) and
 * for what the model names: positions and tokens.
 *
 * Source: timm's `param_groups_weight_decay`.
 *
 * @example
 * const optimizer = new AdamW(paramGroups(model, 0.05), { lr: 1e-3 });
 */
export function paramGroups(model: DecayableModel, weightDecay: number): ParamGroup[] {
  const spared = new Set(model.noWeightDecay ?? []);
  const decay: FloatTensor[] = [];
  const noDecay: FloatTensor[] = [];
  for (const [name, tensor] of model.namedParameters()) {
    if (!tensor.requiresGrad) continue;
    const plain = tensor.ndim <= 1 || name.endsWith('.bias') || spared.has(name);
    (plain ? noDecay : decay).push(tensor);
  }
  return [
    { params: decay, weightDecay },
    { params: noDecay, weightDecay: 0 },
  ].filter((group) => group.params.length > 0);
}
