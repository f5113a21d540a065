/**
 * Models for elsewhere: folders that transformers and timm load.
 */
import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';

import { saveSafetensors, writeFileAtomic } from '../io/index.js';
import { fail } from '../tensor/error.js';
import type { Tensor } from '../tensor/index.js';
import type { Model } from './family.js';
import type { ModelInfo } from './file.js';
import { writePreprocessor, writePretrainedCfg } from './input.js';
import { type Json, type Layout, type LayoutName, layoutsNamed, toStoredNames } from './layouts/layout.js';
import { familyOf, modelEntry, nearestEntry } from './registry.js';

/**
 * Writes a folder with the weights and what says whose they are: config.json and preprocessor_config.json for
 * transformers, timm's config.json otherwise. The folder is new or empty: what is in another, a run say, has files of the
 * same names.
 *
 * @throws TensorError IO when the folder holds something, or cannot be written; VALUE when the layout has no names for the model
 * @example
 * const { model, info } = await loadModel('runs/demo/checkpoints/best.safetensors');
 * await savePretrained('demo-hf', model, info, 'hf');
 */
export async function savePretrained(
  folder: string,
  model: Model,
  info: ModelInfo,
  layout: LayoutName,
): Promise<void> {
  const entry = modelEntry(info.name);
  const settings: Json = { ...model.config, ...entry.config, ...info.options, ...model.config };
  const { names, files } = describeFor(
    layout,
    layoutsNamed(familyOf(entry.family).layouts ?? [], layout),
    settings,
    info,
  );
  await expectEmpty(folder);
  await mkdir(folder, { recursive: true });
  const own = model.stateDict();
  const stored = toStoredNames(names, own);
  try {
    await saveSafetensors(join(folder, 'model.safetensors'), stored, { format: 'pt' });
  } finally {
    const kept = new Set<Tensor>(Object.values(own));
    for (const tensor of Object.values(stored)) if (!kept.has(tensor)) tensor.dispose();
  }
  for (const [name, json] of Object.entries(files)) {
    await writeFileAtomic(join(folder, name), `${JSON.stringify(json, null, 2)}\n`);
  }
}

async function expectEmpty(folder: string): Promise<void> {
  let names: string[];
  try {
    names = await readdir(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    return fail('savePretrained', 'IO', `expected a folder at ${folder}, got ${(error as Error).message}`);
  }
  if (names.length === 0) return;
  const shown = names.sort().slice(0, 3).join(', ') + (names.length > 3 ? ', …' : '');
  fail(
    'savePretrained',
    'IO',
    `expected a new or empty folder to write, got ${folder}, which holds ${shown}`,
  );
}

/** The table of names, and the files beside the weights. */
function describeFor(
  layout: LayoutName,
  candidates: readonly Layout[],
  settings: Json,
  info: ModelInfo,
): { names: Layout; files: Readonly<Record<string, Json>> } {
  const reasons: string[] = [];
  for (const names of candidates) {
    if (names.config === undefined) return { names, files: { 'config.json': timmConfig(settings, info) } };
    const config = names.config.write(settings);
    if (typeof config === 'string') {
      reasons.push(config);
      continue;
    }
    const { architecture, modelType } = names.config;
    const labels = info.classes.map((label, i): [string, string] => [String(i), label]);
    return {
      names,
      files: {
        'config.json': {
          architectures: [architecture],
          model_type: modelType,
          ...config,
          id2label: Object.fromEntries(labels),
          label2id: Object.fromEntries(labels.map(([id, label]) => [label, Number(id)])),
        },
        'preprocessor_config.json': writePreprocessor(info.input),
      },
    };
  }
  return fail(
    'savePretrained',
    'VALUE',
    `expected a model that the layout '${layout}' has names for, got ${info.name}` +
      (reasons.length === 0 ? '' : ` with ${reasons[0]}`),
  );
}

/**
 * timm's config.json. `model_args` holds the settings in which the model differs from the named one, as timm's arguments;
 * timm has none for the norms' eps, which stands beside them.
 */
function timmConfig(settings: Json, { name, options, classes, input }: ModelInfo): Json {
  const named = modelEntry(name);
  // A model of a size of its own bears its family's name, which timm does not know.
  const known = { ...options, numClasses: classes.length };
  const entry = (name === named.family ? nearestEntry(named.family, known) : undefined) ?? named;
  const args = Object.entries(options).filter(
    ([key, value]) =>
      key !== 'numClasses' &&
      key !== 'normEps' &&
      JSON.stringify(value) !== JSON.stringify(entry.config[key]),
  );
  return {
    architecture: entry.name,
    num_classes: settings['numClasses'],
    label_names: classes,
    model_args: Object.fromEntries(args.map(([key, value]) => [snakeCase(key), value])),
    ...(options['normEps'] !== undefined && { norm_eps: options['normEps'] }),
    pretrained_cfg: writePretrainedCfg(input),
  };
}

const snakeCase = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
