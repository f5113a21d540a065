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
 * @throws TensorError VALUE for a model that does not say them, says them in another form, or names a layer without
 *   parameters: a misspelt name would put its parameters into the last layer, one that is named before into the first
 */
export function layersOf(op: string, model: LayeredModel, setting: string): LayerNames {
  const { layerNames } = model;
  if (layerNames === undefined) {
    return fail(op, 'VALUE', `expected a model with layerNames for ${setting}, got ${shown(model)} without`);
  }
  expectLayers(op, layerNames);
  const names = model.namedParameters().map(([name]) => name);
  const empty = layerNames.findIndex((layer) => !names.some((name) => isIn(layer, name)));
  if (empty >= 0 && empty < layerNames.length - 1) {
    const own = layerNames[empty];
    const named = own.length === 0 ? ', which has no names' : `: ${own.join(', ')}`;
    fail(op, 'VALUE', `expected parameters in each of layerNames, got none in layer ${empty}${named}`);
  }
  return layerNames;
}

/** That layers are arrays of names, each name in one of them. */
function expectLayers(op: string, layerNames: unknown): asserts layerNames is LayerNames {
  if (!Array.isArray(layerNames)) {
    return fail(
      op,
      'VALUE',
      `expected layerNames to be an array of arrays of names, got ${shown(layerNames)}`,
    );
  }
  const layers = layerNames as readonly unknown[];
  if (layers.length === 0) fail(op, 'VALUE', 'expected at least one layer in layerNames, got none');
  for (const [i, layer] of layers.entries()) {
    const what = `an array of names for layer ${i} of layerNames`;
    if (!Array.isArray(layer)) return fail(op, 'VALUE', `expected ${what}, got ${shown(layer)}`);
    for (const name of layer as readonly unknown[]) {
      if (typeof name !== 'string') return fail(op, 'VALUE', `expected ${what}, got ${shown(name)} in it`);
      const before = (layers as LayerNames).slice(0, i).findIndex((other) => isIn(other, name));
      if (before < 0) continue;
      fail(op, 'VALUE', `expected each name in one of layerNames, got ${name} in layers ${before} and ${i}`);
    }
  }
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
    const all = model.namedParameters();
    const trained = all.filter(([, tensor]) => tensor.requiresGrad);
    this.parameters = trained.flatMap(([name, tensor]) => (isFrozen(name) ? [tensor] : []));
    if (this.parameters.length === trained.length) {
      const got =
        trained.length > 0
          ? `none beside those of freezeLayers ${shown(freeze)}`
          : all.length > 0
            ? `none: all ${all.length} are frozen`
            : 'a model without parameters';
      fail(op, 'VALUE', `expected at least one parameter to train, got ${got}`);
    }
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
