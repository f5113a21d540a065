/**
 * transformers' models in ../shared/golden, through the public loader.
 */
import type { ExecutionContext } from 'ava';

import {
  type AnyModule,
  type Device,
  type FloatTensor,
  type Model,
  type Tensor,
  crossEntropy,
  familyOf,
  keep,
  loadPretrained,
  modelEntry,
} from '../../src/index.js';
import { recognizeLayout, toOwnNames } from '../../src/models/layouts/layout.js';
import { asTensor, goldenPath, readGolden, relativeError } from './golden.js';

/**
 * Loads a golden folder, and compares logits, hidden states, loss and gradients in evaluation mode with transformers'.
 *
 * @param stages the modules whose results are `hidden.1`, `hidden.2` and so on
 */
export async function matchesTransformers(
  t: ExecutionContext,
  folder: string,
  stages: (model: Model) => readonly AnyModule[],
  device: Device,
): Promise<void> {
  const { tensors: io } = readGolden(`models/${folder}/io.safetensors`);
  const { model, info, report } = await loadPretrained(goldenPath(`models/${folder}`));
  t.deepEqual(report, { layout: 'hf', resized: [], replaced: [], ignored: [] });
  t.is(info.classes[3], 'LABEL_3');
  model.to(device);
  const hidden: Tensor[] = [];
  for (const stage of stages(model)) {
    stage.registerForwardHook((_, result) => void hidden.push(keep((result as Tensor).clone())));
  }
  const logits = model.call(asTensor(io['pixel_values'], device) as FloatTensor);
  t.true(relativeError(await logits.data(), io['logits'].data) < 1e-4);
  for (const [i, state] of hidden.entries()) {
    t.true(relativeError(await state.data(), io[`hidden.${i + 1}`].data) < 1e-4, `hidden.${i + 1}`);
  }
  const loss = crossEntropy(logits, asTensor(io['labels'], device) as Tensor<'int64'>);
  t.true(Math.abs((await loss.item()) / Number(io['loss'].data[0]) - 1) < 1e-4);
  loss.backward();
  const wanted = gradientsOf(io, info.name);
  t.is(Object.keys(wanted).length, model.namedParameters().length);
  for (const [name, { grad }] of model.namedParameters()) {
    const error = relativeError(await grad!.data(), await wanted[name].data());
    t.true(error < 1e-3, `gradient of ${name}: ${error}`);
  }
  model.dispose();
}

/** The gradients under Tenon's names; the file has the names of version 5. */
function gradientsOf(io: ReturnType<typeof readGolden>['tensors'], model: string): Record<string, Tensor> {
  const stored = Object.entries(io)
    .filter(([name]) => name.startsWith('grad.'))
    .map(([name, value]): [string, Tensor] => [name.slice('grad.'.length), asTensor(value)]);
  const layouts = familyOf(modelEntry(model).family).layouts ?? [];
  const layout = recognizeLayout(
    layouts,
    stored.map(([name]) => name),
  );
  return toOwnNames(layout, Object.fromEntries(stored)).tensors;
}
