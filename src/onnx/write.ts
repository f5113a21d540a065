/**
 * From a model to its file: two recordings of a forward pass become a program, that a graph, and that bytes.
 */
import { type AnyModule, type FloatTensor, Module, type TensorModule } from '../nn/index.js';
import { inEvaluation } from '../nn/module.js';
import { INFO_KEY } from '../models/file.js';
import type { Model, ModelInfo } from '../models/index.js';
import { tensor } from '../ops/index.js';
import { pairOf } from '../ops/operand.js';
import { type OptionNames, expectArray, expectOptions, expectWhole } from '../tensor/arguments.js';
import { fail, shown } from '../tensor/error.js';
import type { Handle } from '../tensor/handle.js';
import { autocast, keep, scope } from '../tensor/index.js';
import type { ExportOnnxOptions, OnnxExport } from './export.js';
import { OPSET, describedSize, writeOnnx } from './file.js';
import { Graph, INPUT } from './graph.js';
import { BatchSize, type Program, type ValueForm, joinRecordings } from './program.js';
import { type Recording, record } from './recording.js';
import { TRANSLATED, translationOf } from './translations/index.js';

const OPTIONS = { info: true, shape: true, output: true } satisfies OptionNames<ExportOnnxOptions>;

/** The sizes of the batches whose recordings are compared: no size that models treat as a case of its own. */
const BATCHES = [2, 3] as const;

/** @internal `exportOnnx`, with weights of up to so many bytes in one file. */
export async function exportWithin(
  path: string,
  model: TensorModule,
  options: ExportOnnxOptions,
  maxInline?: number,
): Promise<OnnxExport> {
  expectOptions('exportOnnx', options, OPTIONS);
  if (typeof path !== 'string' || path === '') {
    fail('exportOnnx', 'VALUE', `expected the path of a file, got ${shown(path)}`);
  }
  if (!((model as unknown) instanceof Module)) {
    fail('exportOnnx', 'VALUE', `expected a model, got ${shown(model)}`);
  }
  const { info, output = outputName(model, info) } = options;
  const shape = options.shape ?? imageShape(model, info);
  expectArray('exportOnnx', 'shape', shape);
  for (const size of shape) expectWhole('exportOnnx', 'each size', size, 1);
  if (typeof output !== 'string' || output === '' || output === INPUT) {
    fail('exportOnnx', 'VALUE', `expected a name for the result other than '${INPUT}', got ${shown(output)}`);
  }
  const input: ValueForm = { shape: [new BatchSize(1), ...shape], dtype: 'float32' };
  const recordings: Recording[] = [];
  const graph = new Graph(output);
  let program: Program | undefined;
  try {
    for (const batch of BATCHES) recordings.push(recordPass(model, [batch, ...shape]));
    const samples = recordings.map((recording, i) => ({ recording, batch: BATCHES[i] }));
    program = await joinRecordings(samples[0], samples[1], input);
    expectOutputs(program.result, info);
    translate(program, graph);
    const { result } = program;
    const metadata = info === undefined ? {} : { [INFO_KEY]: JSON.stringify(info) };
    const name = info?.name ?? model.constructor.name;
    const { bytes, dataPath } = await writeOnnx(path, { graph, name, input, result, metadata }, maxInline);
    return {
      path,
      ...(dataPath !== undefined && { dataPath }),
      bytes,
      opset: OPSET,
      input: { name: INPUT, shape: input.shape.map(describedSize) },
      output: { name: output, shape: result.shape.map(describedSize) },
    };
  } finally {
    graph.dispose();
    program?.dispose();
    for (const recording of recordings) recording.dispose();
  }
}

/** Whether a model is one of the families', which know their images and classes. */
function isOfFamily(model: AnyModule): model is Model {
  return (
    'config' in model &&
    typeof model.config === 'object' &&
    model.config !== null &&
    'imgSize' in model.config
  );
}

function outputName(model: AnyModule, info: ModelInfo | undefined): string {
  const classes = info?.classes.length ?? (isOfFamily(model) ? model.config.numClasses : undefined);
  return classes === 0 ? 'features' : 'logits';
}

/** @throws TensorError VALUE for a model that does not say what its images are */
function imageShape(model: AnyModule, info: ModelInfo | undefined): readonly number[] {
  const config = isOfFamily(model) ? model.config : undefined;
  const size = info?.input.size ?? (config && pairOf('exportOnnx', 'imgSize', config.imgSize));
  if (size !== undefined) return [config?.inChans ?? 3, ...size];
  return fail(
    'exportOnnx',
    'VALUE',
    'expected a shape for a model that does not say what its images are, got none',
  );
}

/** @throws TensorError VALUE unless there is a class for each output */
function expectOutputs({ shape }: ValueForm, info: ModelInfo | undefined): void {
  const classes = info?.classes.length ?? 0;
  const outputs = shape.at(-1);
  if (classes === 0 || (shape.length === 2 && outputs === classes)) return;
  const got = `[${shape.map(describedSize).join(', ')}]`;
  fail('exportOnnx', 'VALUE', `expected outputs [batch, ${classes}], one for each class, got ${got}`);
}

/** Numbers that look like none of a model's own, others for each batch. */
function inputOf(model: AnyModule, shape: readonly number[]): FloatTensor {
  const size = shape.reduce((product, n) => product * n, 1);
  const values = Float32Array.from(
    { length: size },
    (_, i) => 1.5 * Math.sin(12.9898 * i * shape[0] + shape[0]),
  );
  const dtype = model.parameters().at(0)?.dtype ?? 'float32';
  return scope(() => keep(tensor(values, { shape, device: model.device }).to(dtype)));
}

function recordPass(model: TensorModule, shape: readonly number[]): Recording {
  const names = new Map<Handle, string>();
  for (const [name, value] of Object.entries(model.stateDict())) {
    if (!names.has(value.handle)) names.set(value.handle, name);
  }
  const input = inputOf(model, shape);
  try {
    return inEvaluation(model, () =>
      autocast('float32', () =>
        record({
          run: (x) => model.call(x),
          input,
          names,
          isWhole: (op) => translationOf(op) !== undefined,
        }),
      ),
    );
  } finally {
    input.dispose();
  }
}

/** Adds the nodes of a program. @throws TensorError VALUE for an op that has no translation */
function translate({ steps, result }: Program, graph: Graph): void {
  for (const step of steps) {
    const translation =
      translationOf(step.name) ??
      fail(
        'exportOnnx',
        'VALUE',
        `expected ops that have a translation (${TRANSLATED.join(', ')}), got '${step.name}'`,
      );
    graph.define(
      step,
      translation(graph, step).map((value) => (value === undefined ? undefined : graph.nameOf(value))),
    );
  }
  graph.finish(result);
}
