/**
 * Models from elsewhere: a folder of transformers or timm, a file of Tenon or a file of weights becomes a model, with
 * positions for another image size and another classifier where they are wanted.
 */
import { type FloatTensor, describe } from '../nn/index.js';
import { pairOf } from '../ops/operand.js';
import { type OptionNames, expectOptions } from '../tensor/arguments.js';
import { fail } from '../tensor/error.js';
import { type Device, type Tensor, noGrad, scope } from '../tensor/index.js';
import type { Model } from './family.js';
import type { ModelInfo } from './file.js';
import { type LayoutName, recognizeLayout, toOwnNames } from './layouts/layout.js';
import { unnamedLabels } from './layouts/transformers.js';
import { type FamilyName, type ModelOptions, createModel, familyOf } from './registry.js';
import { findSource, readTensors } from './source.js';

/** What becomes of a pretrained model. */
export interface PretrainedOptions {
  /** The registered model, for weights that do not say whose they are. */
  readonly model?: string | undefined;
  /** Settings instead of the model's own, such as `imgSize` or `dropPathRate`. */
  readonly settings?: ModelOptions;
  /** The classes of another task. */
  readonly classes?: readonly string[];
  /** Where the model is to be. Default 'cpu'. */
  readonly device?: Device;
}

const OPTIONS = {
  model: true,
  settings: true,
  classes: true,
  device: true,
} satisfies OptionNames<PretrainedOptions>;

/** The weights of a model, under Tenon's names. */
export interface PretrainedWeights {
  readonly info: ModelInfo;
  readonly family: FamilyName;
  readonly layout: LayoutName;
  readonly tensors: Readonly<Record<string, Tensor>>;
  /** Names in the files of what no classifier needs. */
  readonly ignored: readonly string[];
}

/** What was changed to fit. */
export interface PretrainedReport {
  /** Whose names the tensors had. */
  readonly layout: LayoutName;
  /** Position tables that were resized, by name. */
  readonly resized: readonly string[];
  /** Classifiers that have new, random weights, because the classes are others in number. */
  readonly replaced: readonly string[];
  /** Names in the files of what no classifier needs. */
  readonly ignored: readonly string[];
}

/** What the files of a pretrained model say of it, without its weights. @throws TensorError IO or VALUE */
export async function readPretrainedInfo(path: string, model?: string): Promise<ModelInfo> {
  return (await findSource(path, model)).info;
}

/** Reads a model's weights, whatever their layout. The caller disposes of the tensors. @throws TensorError IO or VALUE */
export async function readPretrained(path: string, model?: string): Promise<PretrainedWeights> {
  const { info, family, layouts, files } = await findSource(path, model);
  const stored = await readTensors(files);
  const layout = recognizeLayout(layouts, Object.keys(stored));
  try {
    const { tensors, ignored } = toOwnNames(layout, stored);
    return { info, family, layout: layout.name, tensors, ignored };
  } catch (error) {
    for (const tensor of Object.values(stored)) tensor.dispose();
    throw error;
  }
}

/**
 * Puts weights into a model of the same family. Position tables are resized where their grids differ; a classifier for
 * another number of classes keeps its random weights.
 *
 * @throws TensorError VALUE when anything else is missing, left over or of another shape
 */
export function applyPretrained(model: Model, weights: PretrainedWeights): PretrainedReport {
  const { family, layout, tensors, ignored } = weights;
  const architecture = familyOf(family);
  const { classifiers } = architecture;
  const isClassifier = (name: string): boolean => classifiers.some((head) => name.startsWith(`${head}.`));
  const own = model.stateDict();
  const resized: string[] = [];
  return scope(() => {
    const fitting = Object.entries(tensors).flatMap(([name, value]): [string, Tensor][] => {
      const target = own[name] as Tensor | undefined;
      if (target?.shape.join() === value.shape.join()) return [[name, value]];
      if (isClassifier(name)) return [];
      const other =
        target &&
        noGrad(() => architecture.resize?.(name, value as FloatTensor, model, weights.info.options));
      if (other === undefined) return [[name, value]];
      resized.push(name);
      return [[name, other]];
    });
    const { missing, unexpected, mismatched } = model.loadStateDict(Object.fromEntries(fitting), {
      strict: false,
    });
    const misfits = { missing: missing.filter((name) => !isClassifier(name)), unexpected, mismatched };
    if (misfits.missing.length + unexpected.length + mismatched.length > 0) {
      fail(
        'loadPretrained',
        'VALUE',
        `expected the tensors of ${weights.info.name}, got ${describe(misfits)}`,
      );
    }
    const replaced = classifiers.filter((head) => missing.some((name) => name.startsWith(`${head}.`)));
    return { layout, resized, replaced, ignored };
  });
}

/**
 * Loads a pretrained model, in evaluation mode: a folder of transformers (config.json, preprocessor_config.json,
 * safetensors in one file or several) or of timm, a file that Tenon saved, or a file of weights whose model is named.
 *
 * @throws TensorError IO when a file cannot be read; VALUE when the weights do not fit the model;
 *   DEVICE for a device that is not there
 * @example
 * const { model, info, report } = await loadPretrained('vit-base-patch16-224', { classes: ['cat', 'dog'] });
 * console.log(report.replaced); // ['head']: the classifier is new
 */
export async function loadPretrained(
  path: string,
  options: PretrainedOptions = {},
): Promise<{ model: Model; info: ModelInfo; report: PretrainedReport }> {
  expectOptions('loadPretrained', options, OPTIONS);
  const weights = await readPretrained(path, options.model);
  try {
    const info = infoWith(weights.info, options);
    const model = createModel(info.name, info.options);
    try {
      const report = applyPretrained(model, weights);
      return { model: model.to(options.device ?? 'cpu').eval(), info, report };
    } catch (error) {
      model.dispose();
      throw error;
    }
  } finally {
    for (const tensor of Object.values(weights.tensors)) tensor.dispose();
  }
}

/** A model's info with other settings and classes. */
function infoWith(info: ModelInfo, { settings = {}, classes }: PretrainedOptions): ModelInfo {
  const options: ModelOptions = {
    ...info.options,
    ...settings,
    ...(classes !== undefined && { numClasses: classes.length }),
  };
  const count = options.numClasses ?? info.classes.length;
  return {
    ...info,
    options,
    classes: classes ?? (count === info.classes.length ? info.classes : unnamedLabels(count)),
    input:
      settings.imgSize === undefined
        ? info.input
        : { ...info.input, size: pairOf('loadPretrained', 'imgSize', settings.imgSize) },
  };
}
