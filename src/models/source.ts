/**
 * Where a model's weights are, and what the files beside them say of it: a folder of transformers or timm, a file of
 * Tenon, or a file of weights alone.
 */
import { existsSync, statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';

import { CONVERSION, readSafetensors, readSafetensorsHeader } from '../io/index.js';
import { pairOf } from '../ops/operand.js';
import { fail } from '../tensor/error.js';
import type { Tensor } from '../tensor/index.js';
import { type ModelInfo, infoIn } from './file.js';
import { IMAGENET_INPUT, readPreprocessor, readPretrainedCfg } from './input.js';
import type { Json, Layout } from './layouts/layout.js';
import { labelsOf, numberOf, unnamedLabels } from './layouts/transformers.js';
import {
  type FamilyName,
  type ModelOptions,
  describeModel,
  families,
  familyOf,
  isModelName,
  modelEntry,
  nameOfModel,
} from './registry.js';

/** A model that is not loaded yet. */
export interface Source {
  readonly info: ModelInfo;
  readonly family: FamilyName;
  /** The layouts that its tensors may have. */
  readonly layouts: readonly Layout[];
  /** Its safetensors files. */
  readonly files: readonly string[];
}

const WEIGHTS = 'model.safetensors';
const INDEX = `${WEIGHTS}.index.json`;

/**
 * The model that a path names: the best one of a run's folder, or else the path itself.
 *
 * @param op what the path was given to, for messages
 * @throws TensorError IO when there is nothing, or a run without a finished epoch
 */
export function modelPath(op: string, path: string): string {
  if (!existsSync(path)) {
    fail(op, 'IO', `expected a run's folder, or a model's folder or file, got ${path}, which does not exist`);
  }
  const checkpoints = join(path, 'checkpoints');
  if (!existsSync(checkpoints)) return path;
  const best = join(checkpoints, 'best.safetensors');
  return existsSync(best) ? best : fail(op, 'IO', `expected a finished epoch in the run ${path}, got none`);
}

/** Finds the weights of a path, which may be a run's folder, and the model that they belong to. @throws TensorError IO or VALUE */
export async function findSource(given: string, name?: string): Promise<Source> {
  if (!existsSync(given)) bad(`a model's folder or file`, `${given}, which does not exist`);
  const path = modelPath('loadPretrained', given);
  const stat = statSync(path);
  const folder = stat.isDirectory();
  const files = folder ? await weightFiles(path) : [path];
  const { metadata } = await readSafetensorsHeader(files[0]);
  const own = infoIn(files[0], metadata);
  if (own !== undefined) {
    const { family } = modelEntry(own.name);
    return { info: own, family, layouts: [], files };
  }
  const config = folder ? await readJson(join(path, 'config.json')) : undefined;
  if (config !== undefined && ('model_type' in config || 'architectures' in config)) {
    const preprocessor = await readJson(join(path, 'preprocessor_config.json'));
    return { ...transformersModel(path, config, preprocessor), files };
  }
  const architecture = config?.['architecture'];
  return {
    ...timmModel(path, name ?? (typeof architecture === 'string' ? architecture : undefined), config),
    files,
  };
}

/** A model of transformers, from its `config.json`. */
function transformersModel(
  path: string,
  config: Json,
  preprocessor: Json | undefined,
): Omit<Source, 'files'> {
  const [architecture] = Array.isArray(config['architectures']) ? (config['architectures'] as unknown[]) : [];
  const known = families().flatMap(([family, { layouts = [] }]) =>
    layouts.flatMap((layout) =>
      layout.config === undefined ? [] : [{ family, layout, config: layout.config }],
    ),
  );
  const found =
    known.find((one) => one.config.architecture === architecture) ??
    known.find((one) => one.config.modelType === config['model_type']) ??
    bad(
      `an architecture among ${[...new Set(known.map((one) => one.config.architecture))].join(', ')}`,
      `${String(architecture ?? config['model_type'])} in ${path}`,
    );
  const classes = labelsOf(config);
  const options: ModelOptions = { ...found.config.read(config), numClasses: classes.length };
  const name = nameOfModel(found.family, options);
  const input = readPreprocessor(preprocessor, pairOf('loadPretrained', 'imgSize', options.imgSize ?? 224));
  const layouts = known.filter((one) => one.config === found.config).map(({ layout }) => layout);
  return { info: { name, options, classes, input }, family: found.family, layouts };
}

/** A model of timm: by its `config.json`, by the name that the caller gave, or by that of the file. */
function timmModel(path: string, given: string | undefined, config: Json = {}): Omit<Source, 'files'> {
  const stem = basename(path).replace(/\.safetensors$/, '');
  const name =
    given?.split('.')[0] ?? // 'vit_base_patch16_224.augreg_in21k' is an architecture and a set of weights
    [stem, stem.split(/[.-]/)[0]].find(isModelName) ??
    bad('a config.json, or the name of the model', `${path} alone`);
  const entry = modelEntry(name);
  const cfg = (config['pretrained_cfg'] ?? {}) as Json;
  const options: ModelOptions = {
    ...Object.fromEntries(
      Object.entries((config['model_args'] ?? {}) as Json).map(([key, value]) => [camelCase(key), value]),
    ),
    ...(config['norm_eps'] !== undefined && { normEps: numberOf(config, 'norm_eps', 0) }),
    ...(config['num_classes'] !== undefined && { numClasses: numberOf(config, 'num_classes', 0) }),
  };
  const whole = { ...entry, config: { ...entry.config, ...options } };
  const { layouts = [], input = IMAGENET_INPUT } = familyOf(entry.family);
  const labels = config['label_names'];
  const classes = Array.isArray(labels) ? labels.map(String) : unnamedLabels(whole.config.numClasses ?? 1000);
  return {
    info: { name, options, classes, input: readPretrainedCfg(cfg, describeModel(whole).imgSize, input) },
    family: entry.family,
    layouts,
  };
}

const camelCase = (name: string): string =>
  name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());

/** The files of a folder's weights: one, or those of its index. */
async function weightFiles(folder: string): Promise<string[]> {
  const index = await readJson(join(folder, INDEX));
  if (index === undefined) {
    const file = join(folder, WEIGHTS);
    if (existsSync(file)) return [file];
    const pickle = ['pytorch_model.bin', 'pytorch_model.bin.index.json'].find((name) =>
      existsSync(join(folder, name)),
    );
    bad(
      `${WEIGHTS} or ${INDEX} in ${folder}`,
      pickle === undefined ? 'neither' : `${pickle} alone, PyTorch's own format; ${CONVERSION}`,
    );
  }
  const map = index['weight_map'];
  const names = typeof map === 'object' && map !== null ? Object.values(map as Record<string, unknown>) : [];
  // Names alone: an index must not lead out of its folder.
  const fits = (name: unknown): name is string => typeof name === 'string' && basename(name) === name;
  if (names.length === 0 || !names.every(fits))
    bad(`file names in the weight_map of ${join(folder, INDEX)}`, 'others');
  return [...new Set(names)].map((name) => join(folder, name));
}

/** The tensors of all files, which the caller owns. @throws TensorError IO */
export async function readTensors(files: readonly string[]): Promise<Record<string, Tensor>> {
  const all: Record<string, Tensor> = {};
  try {
    for (const file of files) Object.assign(all, (await readSafetensors(file)).tensors);
  } catch (error) {
    for (const tensor of Object.values(all)) tensor.dispose();
    throw error;
  }
  return all;
}

async function readJson(path: string): Promise<Json | undefined> {
  if (!existsSync(path)) return undefined;
  try {
    const json: unknown = JSON.parse(await readFile(path, 'utf8'));
    if (typeof json === 'object' && json !== null && !Array.isArray(json)) return json as Json;
    return bad(`a JSON object in ${path}`, JSON.stringify(json).slice(0, 40));
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return bad(`JSON in ${path}`, error.message);
  }
}

function bad(expected: string, got: string): never {
  return fail('loadPretrained', 'IO', `expected ${expected}, got ${got}`);
}
