/**
 * Which layer of a model a parameter or a module belongs to, and layers that do not train.
 */
import type { LayerNames } from '../models/index.js';
import type { AnyModule, FloatTensor, Module } from '../nn/index.js';
import { fail, shown } from '../tensor/error.js';
import { setRequiresGrad } from '../tensor/index.js';

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

/** Layers that do not train: the first so many, or all but what the last names, which is the head. */
export type FreezeLayers = number | 'all';

/** @throws TensorError VALUE for layers that a model does not have, or where none would train */
function frozenNames(op: string, model: LayeredModel, freeze: FreezeLayers): (name: string) => boolean {
  if (freeze === 0) return () => false;
  const isCount = Number.isInteger(freeze) && (freeze as number) > 0;
  if (freeze !== 'all' && !isCount) {
    fail(
      op,
      'VALUE',
      `expected freezeLayers to be a whole number of at least 0, or 'all', got ${shown(freeze)}`,
    );
  }
  const layers = layersOf(op, model, 'freezeLayers');
  const last = layers.length - 1;
  if (freeze === 'all') {
    const isAbove = (name: string): boolean =>
      layers[last].some((own) => name === '' || own.startsWith(`${name}.`));
    return (name) => !isIn(layers[last], name) && !isAbove(name);
  }
  if (freeze > last) {
    fail(
      op,
      'VALUE',
      `expected freezeLayers up to ${last} of the model's ${layers.length} layers, got ${freeze}`,
    );
  }
  return (name) => layerOf(layers, name) < freeze;
}

/** The layers of a model that do not train, from when it is made until `thaw`. */
export class FrozenLayers {
  private readonly modules: readonly AnyModule[];
  /** Those that trained before. */
  private readonly parameters: readonly FloatTensor[];

  /** @throws TensorError VALUE for layers that the model does not have, or where none would train */
  constructor(
    op: string,
    private readonly model: AnyModule & LayeredModel,
    freeze: FreezeLayers,
  ) {
    const isFrozen = frozenNames(op, model, freeze);
    this.modules = model.namedModules().flatMap(([name, module]) => (isFrozen(name) ? [module] : []));
    this.parameters = model
      .namedParameters()
      .flatMap(([name, tensor]) => (isFrozen(name) && tensor.requiresGrad ? [tensor] : []));
    for (const tensor of this.parameters) setRequiresGrad(tensor, false);
  }

  /** Switches the model to training, and these layers to evaluation: no dropout, no batch's own statistics. */
  train(): void {
    this.model.train();
    for (const module of this.modules) module.training = false;
  }

  /** Lets the parameters train again. */
  thaw(): void {
    for (const tensor of this.parameters) if (!tensor.isDisposed) setRequiresGrad(tensor);
  }
}
