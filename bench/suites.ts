/**
 * The suites: `dispatch` (the cost of a call), `kernels` (the shapes of a ViT-Ti/16 training step and Swin-T's window attention, against what the
 * machine can do), `models` (whole training steps and forward passes) and `data` (batches of images, from files).
 */
import { type BenchDevice, type Case, type DispatchOp, type Task, type TaskOf, isModel } from './tasks.js';
import { SWIN_TINY } from './swin.js';
import { VIT_BASE, VIT_CIFAR, VIT_TINY, tokens } from './vit.js';

const BATCH = 16;
const ROWS = BATCH * tokens(VIT_TINY);

const DISPATCH: readonly [name: string, op: DispatchOp, calls: number][] = [
  ['add [1]', 'add', 1000],
  ['add [1], recorded, with backward', 'addBackward', 200],
  ['linear [1, 8] -> 8', 'linear', 1000],
  ['linear [1, 8] -> 8, recorded, with backward', 'linearBackward', 200],
  ['reshape', 'reshape', 1000],
  ['permute', 'permute', 1000],
  ['slice', 'slice', 1000],
  ['add [1] and read it', 'item', 100],
];

function linear(name: string, inputs: number, outputs: number, rows = ROWS): [string, Task][] {
  const task = (pass: 'forward' | 'forwardGelu' | 'input' | 'weight'): Task => ({
    kind: 'linear',
    rows,
    inputs,
    outputs,
    pass,
  });
  const shape = `${rows}x${inputs} -> ${outputs}`;
  return [
    [`${name} ${shape}`, task(name === 'fc1' ? 'forwardGelu' : 'forward')],
    [`${name} ${shape}, input gradient`, task('input')],
    [`${name} ${shape}, weight gradient`, task('weight')],
  ];
}

function rowwise(kind: 'layerNorm' | 'gelu' | 'softmax', rows: number, features: number): [string, Task][] {
  return [false, true].map((backward) => [
    `${kind} ${rows}x${features}${backward ? ', with backward' : ''}`,
    { kind, rows, features, backward },
  ]);
}

function attention(n: number): [string, Task][] {
  const batch = n > 1000 ? 1 : n > 500 ? 4 : BATCH;
  return [false, true].map((backward) => [
    `attention ${batch}x3x${n}x64${backward ? ', with backward' : ''}`,
    { kind: 'attention', batch, tokens: n, heads: 3, headDim: 64, backward },
  ]);
}

function windowAttention(shift: number): [string, Task][] {
  const sizes = { batch: 8, map: 56, window: 7, heads: 3, headDim: 32 };
  return [false, true].map((backward) => [
    `windowAttention 8x56x56, 3x32, window 7, shift ${shift}${backward ? ', with backward' : ''}`,
    { kind: 'windowAttention', ...sizes, shift, backward },
  ]);
}

const KERNELS: readonly [name: string, task: Task][] = [
  ...linear('patch', 768, 192, ROWS - BATCH),
  ...linear('qkv', 192, 576),
  ...linear('proj', 192, 192),
  ...linear('fc1', 192, 768),
  ...linear('fc2', 768, 192),
  ...linear('head', 192, 1000, BATCH),
  ...rowwise('layerNorm', ROWS, VIT_TINY.dim),
  ...rowwise('gelu', ROWS, 4 * VIT_TINY.dim),
  ...rowwise('softmax', ROWS * VIT_TINY.heads, tokens(VIT_TINY)),
  ...[49, 65, 197, 577, 4096].flatMap(attention),
  ...windowAttention(0),
  ...windowAttention(3),
  ['crossEntropy 128x1000', { kind: 'crossEntropy', rows: 128, classes: 1000 }],
  ['AdamW over ViT-Ti/16', { kind: 'adamw', vit: VIT_TINY }],
];

const TINY = { kind: 'vit', vit: VIT_TINY, batch: BATCH } as const;

const convnet = (model: TaskOf<'convnet'>['model'], train: boolean): Task => ({
  kind: 'convnet',
  model,
  image: 224,
  classes: 1000,
  batch: 8,
  train,
});

const MODELS: readonly [name: string, task: Task][] = [
  ['ViT-Ti/16 224, batch 16, training step', { ...TINY, train: true }],
  ['ViT-Ti/16 224, batch 16, inference', { ...TINY, train: false }],
  ['ViT-Ti/16 224, batch 16, bf16, training step', { ...TINY, train: true, precision: 'bfloat16' }],
  ['ViT-Ti/16 224, batch 16, bf16, inference', { ...TINY, train: false, precision: 'bfloat16' }],
  ['ViT-Ti/16 224, batch 1, inference', { kind: 'vit', vit: VIT_TINY, batch: 1, train: false }],
  ['ViT CIFAR, batch 128, training step', { kind: 'vit', vit: VIT_CIFAR, batch: 128, train: true }],
  ['ViT CIFAR, batch 128, inference', { kind: 'vit', vit: VIT_CIFAR, batch: 128, train: false }],
  ['Swin-T 224, batch 8, training step', { kind: 'swin', swin: SWIN_TINY, batch: 8, train: true }],
  [
    'Swin-T 224, batch 8, stochastic depth 0.2, training step',
    { kind: 'swin', swin: SWIN_TINY, dropPath: 0.2, batch: 8, train: true },
  ],
  ['Swin-T 224, batch 8, inference', { kind: 'swin', swin: SWIN_TINY, batch: 8, train: false }],
  ['ResNet-18 224, batch 8, training step', convnet('resnet18', true)],
  ['ResNet-18 224, batch 8, inference', convnet('resnet18', false)],
  ['RegNetY-002 224, batch 8, training step', convnet('regnety_002', true)],
  ['RegNetY-002 224, batch 8, inference', convnet('regnety_002', false)],
];

const load = (transform: TaskOf<'load'>['transform'], batch = 32, batchesPerWorker = 12): Task => ({
  kind: 'load',
  transform,
  batch,
  batchesPerWorker,
});

const DATA: readonly [name: string, task: Task][] = [
  ['photographs, random crop and mirror', load('crop')],
  ['photographs, RandAugment and erasing', load('augment')],
  ['photographs, resize and centre crop', load('center')],
  ['CIFAR images in memory, random crop and mirror', load('cifar', 128, 48)],
];

function cases(suite: string, tasks: readonly (readonly [name: string, task: Task])[]): Case[] {
  return tasks.map(([name, task]) => ({
    suite,
    name,
    task,
    memory: isModel(task) || (task.kind === 'attention' && task.tokens > 1000),
  }));
}

const BF16 = 'bfloat16';
const GPU_BATCH = 128;
const GPU_ROWS = GPU_BATCH * tokens(VIT_BASE);

const gpuLinear = (inputs: number, outputs: number, pass: TaskOf<'linear'>['pass']): Task => ({
  kind: 'linear',
  rows: GPU_ROWS,
  inputs,
  outputs,
  pass,
  precision: BF16,
});

function gpuAttention(batch: number, tokens: number): [string, Task][] {
  return [false, true].map((backward) => [
    `attention ${batch}x12x${tokens}x64, bf16${backward ? ', with backward' : ''}`,
    { kind: 'attention', batch, tokens, heads: 12, headDim: 64, backward, precision: BF16 },
  ]);
}

/** The shapes of a ViT-B/16 training step with 128 images. */
const GPU_KERNELS: readonly [name: string, task: Task][] = [
  [`qkv ${GPU_ROWS}x768 -> 2304, bf16`, gpuLinear(768, 2304, 'forward')],
  [`fc1 ${GPU_ROWS}x768 -> 3072, bf16`, gpuLinear(768, 3072, 'forwardGelu')],
  [`fc2 ${GPU_ROWS}x3072 -> 768, bf16`, gpuLinear(3072, 768, 'forward')],
  [`fc1 ${GPU_ROWS}x768 -> 3072, bf16, weight gradient`, gpuLinear(768, 3072, 'weight')],
  ...gpuAttention(GPU_BATCH, tokens(VIT_BASE)),
  ...gpuAttention(4, 4096),
  ...(['layerNorm', 'gelu'] as const).flatMap((kind) =>
    [false, true].map((backward): [string, Task] => [
      `${kind} ${GPU_ROWS}x768, bf16${backward ? ', with backward' : ''}`,
      { kind, rows: GPU_ROWS, features: 768, backward, precision: BF16 },
    ]),
  ),
  ['crossEntropy 4096x1000', { kind: 'crossEntropy', rows: 4096, classes: 1000 }],
  ['AdamW over ViT-B/16', { kind: 'adamw', vit: VIT_BASE }],
];

const GPU_MODELS: readonly [name: string, task: Task][] = [true, false].flatMap((train) => {
  const run = { batch: GPU_BATCH, train, precision: BF16 } as const;
  const what = `224, batch ${GPU_BATCH}, bf16, ${train ? 'training step' : 'inference'}`;
  return [
    [`ViT-B/16 ${what}`, { kind: 'vit', vit: VIT_BASE, ...run }],
    [`Swin-T ${what}`, { kind: 'swin', swin: SWIN_TINY, ...run }],
  ];
});

/** Every case of a device, in the order it runs. */
export const CASES: Readonly<Record<BenchDevice, readonly Case[]>> = {
  cpu: [
    ...cases(
      'dispatch',
      DISPATCH.map(([name, op, calls]) => [name, { kind: 'dispatch', op, calls }]),
    ),
    ...cases('kernels', KERNELS),
    ...cases('models', MODELS),
    ...cases('data', DATA),
  ],
  cuda: [...cases('kernels', GPU_KERNELS), ...cases('models', GPU_MODELS)],
};

/** The cases of a device whose `suite/name` contains the filter. @throws RangeError when there is none */
export function selectCases(filter = '', device: BenchDevice = 'cpu'): Case[] {
  const selected = CASES[device].filter(({ suite, name }) => `${suite}/${name}`.includes(filter));
  if (selected.length === 0) {
    throw new RangeError(`bench: expected a part of a case's name, got '${filter}'; --list shows the names`);
  }
  return selected;
}
