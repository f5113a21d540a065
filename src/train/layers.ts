/**
 * Which layer of a model a parameter or a module belongs to.
 */
import type { LayerNames } from '../models/index.js';
import type { Module } from '../nn/index.js';
import { fail, shown } from '../tensor/error.js';

/** A model that may say what its layers are. */
type LayeredModel = Pick<Module, 'namedParameters'> & { readonly layerNames?: LayerNames | undefined };

/**
 * The layers of a model.
 *
 * @throws TensorError VALUE for a model that does not say them, or names a layer without parameters: a misspelt name would
 *   put its parameters into the last layer
 */
export function layersOf(op: string, model: LayeredModel, setting: string): LayerNames {
  const { layerNames } = model;
  if (layerNames === undefined) {
    return fail(op, 'VALUE', `expected a model with layerNames for ${setting}, got ${shown(model)} without`);
  }
  const names = model.namedParameters().map(([name]) => name);
  const empty = layerNames.findIndex((layer) => !names.some((name) => isIn(layer, name)));
  if (empty >= 0 && empty < layerNames.length - 1) {
    fail(
      op,
      'VALUE',
      `expected parameters in each of layerNames, got none in layer ${empty}: ${layerNames[empty].join(', ')}`,
    );
  }
  return layerNames;
}

/** Whether a name in a state dict is one of a layer's, or below it. */
export function isIn(layer: readonly string[], name: string): boolean {
  return layer.some((own) => name === own || name.startsWith(`${own}.`));
}

/** The layer that a parameter or a module belongs to, from 0; what none names is of the last. */
export function layerOf(layers: LayerNames, name: string): number {
  const found = layers.findIndex((layer) => isIn(layer, name));
  return found >= 0 ? found : layers.length - 1;
}
