/**
 * Models as files: a safetensors file with timm's tensor names, whose metadata say how to build the model, what its
 * classes are called and how its images are prepared.
 */
import { readSafetensors, readSafetensorsHeader, saveSafetensors } from '../io/index.js';
import { expectOptions } from '../tensor/arguments.js';
import { fail } from '../tensor/error.js';
import type { Device, Tensor } from '../tensor/index.js';
import type { Model } from './family.js';
import type { InputSpec } from './input.js';
import { type ModelOptions, createModel, familyOf, isModelName, modelEntry } from './registry.js';

/** All that a model's file says besides tensors. */
export interface ModelInfo {
  /** In the registry. */
  readonly name: string;
  readonly options: ModelOptions;
  readonly classes: readonly string[];
  readonly input: InputSpec;
}

/** The key of a model's info in the metadata of its file, whatever the format. */
export const INFO_KEY = 'tenon.model';

/**
 * Writes a model's weights (or others under the same names) and its info.
 *
 * @throws TensorError IO; VALUE for classes that are not the model's outputs
 */
export async function saveModel(
  path: string,
  weights: Readonly<Record<string, Tensor>>,
  info: ModelInfo,
): Promise<void> {
  expectClasses('saveModel', info);
  await saveSafetensors(path, weights, { [INFO_KEY]: JSON.stringify(info) });
}

/** What a model's file says of it, without reading the weights. @throws TensorError IO */
export async function readModelInfo(path: string): Promise<ModelInfo> {
  const { metadata } = await readSafetensorsHeader(path);
  return parseInfo(path, metadata);
}

/**
 * Builds the model of a file that `saveModel` wrote, in evaluation mode.
 *
 * @param options.device where it is to be; default 'cpu'
 * @throws TensorError IO when the file is no model of Tenon; VALUE when its tensors or classes do not fit; DEVICE for a device that
 *   is not there
 * @example
 * const { model, info } = await loadModel('runs/demo/checkpoints/best.safetensors');
 */
export async function loadModel(
  path: string,
  options: { readonly device?: Device } = {},
): Promise<{ model: Model; info: ModelInfo }> {
  expectOptions('loadModel', options, { device: true });
  const { tensors, metadata } = await readSafetensors(path);
  try {
    const info = parseInfo(path, metadata);
    const model = createModel(info.name, info.options);
    model.loadStateDict(tensors);
    return { model: model.to(options.device ?? 'cpu').eval(), info };
  } finally {
    for (const tensor of Object.values(tensors)) tensor.dispose();
  }
}

function parseInfo(path: string, metadata: Readonly<Record<string, string>>): ModelInfo {
  return (
    infoIn(path, metadata) ??
    fail(
      'loadModel',
      'IO',
      `expected a model that Tenon saved, got ${path} without '${INFO_KEY}' in its metadata`,
    )
  );
}

/** What the metadata of a file say of its model; undefined when Tenon did not write them. @throws TensorError IO or VALUE */
export function infoIn(path: string, metadata: Readonly<Record<string, string>>): ModelInfo | undefined {
  const json = metadata[INFO_KEY] as string | undefined;
  if (json === undefined) return undefined;
  let info: Partial<ModelInfo>;
  try {
    info = JSON.parse(json) as Partial<ModelInfo>;
  } catch (error) {
    return fail(
      'loadModel',
      'IO',
      `expected JSON in the metadata of ${path}, got ${(error as Error).message}`,
    );
  }
  if (typeof info.name !== 'string' || !Array.isArray(info.classes) || info.input === undefined) {
    return fail(
      'loadModel',
      'IO',
      `expected a model's name, classes and input in ${path}, got ${json.slice(0, 60)}`,
    );
  }
  expectClasses('loadModel', info as ModelInfo, ` in ${path}`);
  return info as ModelInfo;
}

/** @throws TensorError VALUE unless there is a class for each output */
function expectClasses(op: string, { name, options, classes }: ModelInfo, where = ''): void {
  if (!isModelName(name)) return; // who makes the model says so
  const { family, config } = modelEntry(name);
  const { numClasses } = { ...familyOf(family).defaults, ...config, ...options };
  if (classes.length === numClasses) return;
  fail(op, 'VALUE', `expected ${numClasses} classes${where}, one for each output, got ${classes.length}`);
}
