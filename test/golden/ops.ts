/**
 * Every op that has reference numbers of PyTorch in shared/golden/ops, by one table from a golden's op to a call:
 * results to 1e-5 and gradients to 1e-4, relative.
 */
import { existsSync, readdirSync } from 'node:fs';

import test from 'ava';

import {
  add,
  attention,
  avgPool2d,
  batchNorm,
  cat,
  conv2d,
  crossEntropy,
  div,
  einsum,
  embedding,
  gelu,
  interpolate,
  layerNorm,
  linear,
  logSoftmax,
  logsumexp,
  matmul,
  max,
  maxPool2d,
  mean,
  mul,
  rearrange,
  roll,
  setRequiresGrad,
  softmax,
  variance,
  type FloatTensor,
  type InterpolateOptions,
  type Tensor,
} from '../../src/index.js';
import { asTensor, goldenPath, readGolden, relativeError, sharedTest } from '../helpers/golden.js';

/** A golden's arguments, as PyTorch names them. */
interface Arguments {
  readonly dim: number;
  readonly approximate: 'none' | 'tanh';
  readonly eps: number;
  readonly label_smoothing?: number;
  readonly size: readonly [number, number];
  readonly mode: Exclude<InterpolateOptions['mode'], undefined>;
  readonly antialias: boolean;
  readonly correction: number;
  readonly shifts: readonly number[];
  readonly dims: readonly number[];
  readonly equation: string;
  readonly pattern: string;
  readonly axes: Readonly<Record<string, number>>;
  readonly stride?: number;
  readonly padding?: number;
  readonly groups?: number;
  readonly kernel: number;
  readonly training: boolean;
}

type Inputs = Readonly<Record<string, FloatTensor>>;

/** An input of class indices. */
const indices = (x: FloatTensor): Tensor<'int64'> => x as unknown as Tensor<'int64'>;

const CALLS: Readonly<Record<string, (inputs: Inputs, args: Arguments) => FloatTensor>> = {
  linear: ({ x, w, b }) => linear(x, w, b),
  'linear+gelu(erf)': ({ x, w, b }) => linear(x, w, b, { activation: 'gelu' }),
  gelu: ({ x }, { approximate }) => gelu(x, { approximate }),
  softmax: ({ x }, { dim }) => softmax(x, { dim }),
  log_softmax: ({ x }, { dim }) => logSoftmax(x, { dim }),
  logsumexp: ({ x }, { dim }) => logsumexp(x, { dim }),
  layer_norm: ({ x, w, b }, { eps }) => layerNorm(x, w, b, { eps }),
  conv2d: ({ x, w, b }, { stride = 1, padding = 0, groups = 1 }) =>
    conv2d(x, w, b, { stride, padding, groups }),
  batch_norm: ({ x, w, b, rm, rv }, { training, eps = 1e-5 }) =>
    batchNorm(x, w, b, { runningMean: rm, runningVar: rv, training, eps }),
  max_pool2d: ({ x }, { kernel, stride = 1, padding = 0 }) => maxPool2d(x, kernel, { stride, padding }),
  avg_pool2d: ({ x }, { kernel, stride = 1 }) => avgPool2d(x, kernel, { stride }),
  attention: ({ q, k, v }) => attention(q, k, v),
  'attention with additive bias (broadcast over B)': ({ q, k, v, bias }) => attention(q, k, v, { bias }),
  cross_entropy: ({ x, y }, args) =>
    crossEntropy(x, indices(y), { labelSmoothing: args.label_smoothing ?? 0 }),
  'cross_entropy with probability targets': ({ x, p }) => crossEntropy(x, p),
  'mean over H and W': ({ x }) => mean(x, { dim: [2, 3] }),
  interpolate: ({ x }, { size, mode, antialias }) => interpolate(x, size, { mode, antialias }),
  add: ({ a, b }) => add(a, b),
  mul: ({ a, b }) => mul(a, b),
  div: ({ a, b }) => div(a, b),
  matmul: ({ a, b }) => matmul(a, b),
  'matmul(a, b transposed)': ({ a, b }) => matmul(a, b.transpose()),
  var: ({ x }, { dim, correction }) => variance(x, { dim, correction }),
  'max (values)': ({ x }, { dim }) => max(x, { dim }),
  roll: ({ x }, { shifts, dims }) => roll(x, shifts, dims),
  'index rows (embedding)': ({ x, i }) => embedding(indices(i), x),
  einsum: ({ a, b }, { equation }) => einsum(equation, a, b),
  rearrange: ({ x }, { pattern, axes }) => rearrange(x, pattern, axes),
  cat: ({ a, b }, { dim }) => cat([a, b], dim),
};

/** Goldens of ops that Tenon does not have yet. */
const NOT_YET = new Set(['DeiT soft distillation loss', 'DeiT hard distillation loss']);

const folder = goldenPath('ops');
const files = existsSync(folder) ? readdirSync(folder).filter((file) => file.endsWith('.safetensors')) : [];
const opOf = (metadata: Record<string, string>): string => JSON.parse(metadata['op']) as string;

sharedTest('every golden op has a call, or is listed as not there yet, never both', folder, (t) => {
  const ops = new Set(files.map((file) => opOf(readGolden(`ops/${file}`).metadata)));
  for (const op of ops) t.true(op in CALLS !== NOT_YET.has(op), op);
  for (const op of [...Object.keys(CALLS), ...NOT_YET]) t.true(ops.has(op), `no golden for ${op}`);
  t.true(files.length >= 48);
});

for (const file of files) {
  const { tensors, metadata } = readGolden(`ops/${file}`);
  const op = opOf(metadata);
  if (!(op in CALLS)) continue;
  test(`${file.replace('.safetensors', '')}: result and gradients are PyTorch's`, async (t) => {
    const inputs: Record<string, FloatTensor> = {};
    for (const [name, golden] of Object.entries(tensors)) {
      if (!name.startsWith('in.')) continue;
      const input = asTensor(golden) as FloatTensor;
      inputs[name.slice('in.'.length)] = input;
      if (`grad.${name.slice('in.'.length)}` in tensors) setRequiresGrad(input);
    }
    const result = CALLS[op](inputs, JSON.parse(metadata['args']) as Arguments);
    t.deepEqual([...result.shape], [...tensors['out.0'].shape]);
    const error = relativeError(await result.data(), tensors['out.0'].data);
    t.true(error < 1e-5, `result: ${error}`);

    result.backward({ gradient: asTensor(tensors['cot.0']) });
    const wanted = Object.keys(tensors).filter((name) => name.startsWith('grad.'));
    t.true(wanted.length > 0);
    for (const name of wanted) {
      const { grad } = inputs[name.slice('grad.'.length)];
      const data = await grad?.data();
      t.deepEqual([...(grad?.shape ?? [])], [...tensors[name].shape]);
      const error = relativeError(data ?? [], tensors[name].data);
      t.true(error < 1e-4, `${name}: ${error}`);
    }
  });
}
