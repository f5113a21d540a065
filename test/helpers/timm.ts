/**
 * timm's models in ../shared/golden: small ones with their tensors, and the names and shapes of the published ones.
 */
import { existsSync, readFileSync } from 'node:fs';

import type { ExecutionContext } from 'ava';

import {
  AdamW,
  type Device,
  type FloatTensor,
  type Model,
  type Tensor,
  createModel,
  crossEntropy,
  listModels,
  noGrad,
  scope,
} from '../../src/index.js';
import { asTensor, goldenPath, readGolden, relativeError } from './golden.js';

/** The constructor's arguments of a golden model, in Tenon's names. */
export function timmConfig(folder: string): Record<string, unknown> {
  const json = JSON.parse(readFileSync(goldenPath(`models/${folder}/config.json`), 'utf8')) as Record<
    string,
    unknown
  >;
  const camel = (name: string): string => name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
  return Object.fromEntries(
    Object.entries(json)
      .filter(([key]) => key !== 'model')
      .map(([key, value]) => [camel(key), value]),
  );
}

/** The tensors of a golden file. */
export function goldenState(path: string): Record<string, Tensor> {
  return Object.fromEntries(
    Object.entries(readGolden(path).tensors).map(([name, values]) => [name, asTensor(values)]),
  );
}

/** Loads timm's weights, and compares features, logits, loss and gradients in evaluation mode with timm's. */
export async function matchesTimm(
  t: ExecutionContext,
  folder: string,
  model: Model & { forwardFeatures(images: FloatTensor): FloatTensor },
  device: Device,
): Promise<void> {
  const { tensors: io } = readGolden(`models/${folder}/io.safetensors`);
  model.eval().loadStateDict(goldenState(`models/${folder}/model.safetensors`));
  model.to(device);
  const images = asTensor(io['pixel_values'], device) as FloatTensor;
  const labels = asTensor(io['labels'], device) as Tensor<'int64'>;
  const features = noGrad(() => model.forwardFeatures(images));
  t.true(relativeError(await features.data(), io['features'].data) < 1e-4);
  const logits = model.call(images);
  t.true(relativeError(await logits.data(), io['logits'].data) < 1e-4);
  const loss = crossEntropy(logits, labels);
  t.true(Math.abs((await loss.item()) / Number(io['loss'].data[0]) - 1) < 1e-4);
  loss.backward();
  for (const [name, parameter] of model.namedParameters()) {
    const expected = io[`grad.${name}`];
    if (parameter.grad === undefined) {
      t.is(expected, undefined as never, `${name} has no gradient here, but one in timm`);
      continue;
    }
    const error = relativeError(await parameter.grad.data(), expected.data);
    t.true(error < 1e-3, `gradient of ${name}: ${error}`);
  }
}

/** Trains from timm's first weights, and compares losses, gradient norms and final weights with timm's and PyTorch's. */
export async function followsTimm(
  t: ExecutionContext,
  folder: string,
  model: Model,
  device: Device,
): Promise<void> {
  const { tensors: io } = readGolden(`train/${folder}/io.safetensors`);
  const recipe = JSON.parse(readFileSync(goldenPath(`train/${folder}/trajectory.json`), 'utf8')) as {
    label_smoothing: number;
    clip_grad_norm: number;
    lr: number;
    weight_decay: number;
    losses: number[];
    grad_norms: number[];
  };
  model.loadStateDict(goldenState(`train/${folder}/init.safetensors`));
  model.to(device);
  const optimizer = new AdamW(model.parameters(), { lr: recipe.lr, weightDecay: recipe.weight_decay });
  const images = asTensor(io['pixel_values'], device) as FloatTensor;
  const labels = asTensor(io['labels'], device) as Tensor<'int64'>;
  for (const [step, expected] of recipe.losses.entries()) {
    const [loss, norm] = scope(() => {
      const loss = crossEntropy(model.call(images), labels, { labelSmoothing: recipe.label_smoothing });
      loss.backward();
      const norm = optimizer.step({ maxNorm: recipe.clip_grad_norm });
      optimizer.zeroGrad();
      return [loss, norm];
    });
    const got = await loss.item();
    t.true(Math.abs(got / expected - 1) < 1e-3, `loss of step ${step}: ${got}, expected ${expected}`);
    const gotNorm = await (norm as Tensor<'float64'>).item();
    t.true(Math.abs(gotNorm / recipe.grad_norms[step] - 1) < 5e-3, `norm of step ${step}: ${gotNorm}`);
  }
  for (const [name, parameter] of model.namedParameters()) {
    const expected = io[`final.${name}`];
    const error = relativeError(await parameter.data(), expected.data);
    t.true(error < 5e-3, `final ${name}: ${error}`);
  }
}

/**
 * Compares names and shapes of the published models of a family of stages with timm's. The first two blocks stand for all of
 * a stage, so that no test allocates the largest models.
 *
 * @param depths the setting that has the blocks of each stage
 * @param block what begins the names of a stage's block, both counted from 0
 */
export function haveTimmShapes(
  t: ExecutionContext,
  pattern: string,
  count: number,
  depths: 'depths' | 'layers',
  block: (stage: number, index: number) => string,
): void {
  const known = listModels(pattern).filter(({ name }) => timmShapes(name) !== undefined);
  t.is(known.length, count);
  for (const { name, config } of known) {
    const all = config[depths] as readonly number[];
    using model = createModel(name, { [depths]: all.map((depth) => Math.min(depth, 2)) });
    const shapes = Object.entries(model.stateDict()).flatMap(([key, { shape }]): [string, number[]][] => {
      const stage = all.findIndex((_, s) => key.startsWith(block(s, 1)));
      if (stage < 0) return [[key, [...shape]]];
      const rest = key.slice(block(stage, 1).length);
      return Array.from({ length: all[stage] - 1 }, (_, i) => [block(stage, i + 1) + rest, [...shape]]);
    });
    t.deepEqual(Object.fromEntries(shapes), timmShapes(name), name);
  }
}

/** The shapes of a published model by tensor name, as timm has them. */
export function timmShapes(name: string): Record<string, readonly number[]> | undefined {
  const path = goldenPath(`state_dicts/timm-${name}.json`);
  return existsSync(path)
    ? (JSON.parse(readFileSync(path, 'utf8')) as Record<string, readonly number[]>)
    : undefined;
}
