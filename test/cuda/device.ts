/**
 * Devices as a program sees them, on emulated GPUs: names, moves, errors, memory, modules.
 */
import { EMULATED_PLUGIN } from '../helpers/emulated-cuda.js';

import { dirname, join } from 'node:path';
import { writeFile } from 'node:fs/promises';

import test from 'ava';

import {
  AdamW,
  type FloatTensor,
  LayerNorm,
  cat,
  cudaDetails,
  cudaInfo,
  devices,
  dropout,
  gather,
  grad,
  layerNorm,
  manualSeed,
  memoryStats,
  normal,
  permutation,
  randint,
  releaseCachedMemory,
  scope,
  setMemoryLimit,
  synchronize,
  tensor,
  truncatedNormal,
  uniform,
  where,
  zeros,
} from '../../src/index.js';
import { collectTensors } from '../helpers/garbage.js';
import { forbidden } from '../helpers/op-case.js';
import { startCli, temporaryFolder } from '../helpers/training.js';

test.serial('the GPUs have names and properties, and cuda is the first one', (t) => {
  t.deepEqual(devices(), ['cpu', 'cuda:0', 'cuda:1']);
  t.deepEqual(cudaInfo(), {
    reason: '',
    devices: [0, 1].map((i) => ({ name: `Emulated GPU ${i}`, bytes: 2 ** 28, capability: '9.0' })),
  });
  t.is(zeros([1], { device: 'cuda' }).device, 'cuda:0');
  t.is(zeros([1], { device: 'cuda:1' }).device, 'cuda:1');
});

test.serial('a device that is not there, or is none, is an error', (t) => {
  t.throws(() => zeros([1], { device: 'cuda:2' }), {
    message: "device: expected one of cpu, cuda:0, cuda:1, got 'cuda:2'",
    code: 'DEVICE',
  });
  t.throws(forbidden(zeros, [1], { device: 'gpu' }), {
    message: "device: expected cpu, cuda or cuda:N, got 'gpu'",
  });
});

test.serial('to() moves between all devices, and its gradient goes back', async (t) => {
  const x = tensor([
    [1, 2, 3],
    [4, 5, 6],
  ]).setRequiresGrad();
  const there = x.transpose().to('cuda').mul(2).to('cuda:1').add(1);
  t.is(there.device, 'cuda:1');
  t.deepEqual(await there.to('cpu').toArray(), [
    [3, 9],
    [5, 11],
    [7, 13],
  ]);
  const [gradient] = grad(there.sum(), [x]);
  t.is(gradient?.device, 'cpu');
  t.deepEqual(await gradient?.toArray(), [
    [2, 2, 2],
    [2, 2, 2],
  ]);
  t.is(x.to('cpu').device, 'cpu');
  t.deepEqual(await tensor([true, false]).to('cuda').to('cpu').toArray(), [true, false]);
});

test.serial('tensors of two devices in one call are an error that names the op and both', (t) => {
  const here = zeros([2, 2]);
  const there = zeros([2, 2], { device: 'cuda' });
  const index = zeros([2, 2], { dtype: 'int64' });
  const message = (op: string): string => `${op}: expected tensors on one device, got `;
  for (const [call, text] of [
    [() => here.add(there), `${message('add')}cpu and cuda:0`],
    [() => there.add(here), `${message('add')}cuda:0 and cpu`],
    [() => cat([there, here]), `${message('cat')}cuda:0 and cpu`],
    [() => where(here.less(1), there, 0), `${message('where')}cpu and cuda:0`],
    [() => gather(there, 0, index), `${message('gather')}cuda:0 and cpu`],
    [() => layerNorm(there, zeros([2])), `${message('layerNorm')}cuda:0 and cpu`],
    [() => there.add(zeros([1], { device: 'cuda:1' })), `${message('add')}cuda:0 and cuda:1`],
  ] as const) {
    t.throws(call, { message: text, code: 'DEVICE' });
  }
});

test.serial('one seed gives the same random numbers on every device', async (t) => {
  for (const [name, draw, difference] of [
    ['uniform', (device) => uniform([1000], { device }), 0],
    ['normal', (device) => normal([1001], { device }), 1e-6],
    ['truncatedNormal', (device) => truncatedNormal([500], { std: 2, device }), 1e-6],
    ['randint', (device) => randint([300], 0, 77, { device }), 0],
    ['permutation', (device) => permutation(300, { device }), 0],
    ['dropout', (device) => dropout(uniform([600], { device }), 0.3), 1e-7],
  ] as const satisfies readonly [string, (device: 'cpu' | 'cuda') => unknown, number][]) {
    const values = await Promise.all(
      (['cpu', 'cuda'] as const).map((device) => {
        manualSeed(5);
        uniform([3]); // another place in the sequence
        return draw(device).data();
      }),
    );
    const [cpu, cuda] = values.map((list) => Array.from(list));
    const worst = Math.max(...cpu.map((v, i) => Math.abs(v - cuda[i])));
    t.true(worst <= difference, `${name}: ${worst}`);
  }
});

test.serial('an index out of range surfaces once, where a value is read', async (t) => {
  const x = zeros([3, 2], { device: 'cuda' });
  const y = gather(x, 0, tensor([[0, 3]], { dtype: 'int64', device: 'cuda' })).add(1);
  await t.throwsAsync(y.data(), {
    message: 'gather: expected indices from 0 to 2, got 3',
    code: 'INDEX',
  });
  await synchronize('cuda');
  t.deepEqual(x.dataSync(), new Float32Array(6));
});

test.serial('each device counts, limits and gives back memory of its own', async (t) => {
  await synchronize('cuda');
  releaseCachedMemory('cuda');
  const cpu = memoryStats();
  const before = memoryStats('cuda');
  const x = zeros([1000], { device: 'cuda' });
  const after = memoryStats('cuda');
  t.is(after.current - before.current, 4096); // whole multiples of 256 bytes
  t.is(after.blocks - before.blocks, 1);
  t.is(memoryStats().current, cpu.current);
  t.throws(() => zeros([2 ** 29], { device: 'cuda' }), {
    message: /^allocate: out of memory: asked for 2048 MiB, in use \d+ MiB, held \d+ MiB, free \d+ MiB$/,
    code: 'MEMORY',
  });
  setMemoryLimit(2 ** 25, 'cuda');
  t.throws(() => zeros([2 ** 24], { device: 'cuda' }), { message: /, limit 32 MiB$/, code: 'MEMORY' });
  setMemoryLimit(Infinity, 'cuda');
  x.dispose();
  releaseCachedMemory('cuda');
  t.is(memoryStats('cuda').current, before.current);
  t.true(memoryStats('cuda').reserved <= before.reserved);
});

test.serial('a module moves with its parameters, and trains there as on the CPU', async (t) => {
  const input = Float32Array.from({ length: 4 * 6 }, (_, i) => Math.sin(i * i));
  const run = async (device: 'cpu' | 'cuda'): Promise<number[][]> => {
    const module = new LayerNorm(6).to(device);
    t.is(module.device, device === 'cpu' ? 'cpu' : 'cuda:0');
    const optimizer = new AdamW(module.parameters(), { lr: 0.1 });
    const x = tensor(input, { shape: [4, 6], device });
    for (let i = 0; i < 3; i++) {
      scope(() => module.call(x).pow(2).mul(x).sum().backward());
      optimizer.step({ maxNorm: 1 });
      optimizer.zeroGrad();
    }
    // Into a module and an optimizer of the other device, and on from there.
    const other = device === 'cpu' ? 'cuda' : 'cpu';
    const copy = new LayerNorm(6).to(other);
    copy.loadStateDict(module.stateDict());
    const continued = new AdamW(copy.parameters(), { lr: 0.1 });
    continued.loadStateDict(optimizer.stateDict());
    scope(() => copy.call(x.to(other)).sum().backward());
    continued.step();
    const values = await Promise.all(
      [...module.parameters(), ...copy.parameters()].map(async (p: FloatTensor) => [...(await p.data())]),
    );
    for (const made of [module, copy, optimizer, continued, x]) made.dispose();
    return values;
  };
  const [cpu, cuda] = [await run('cpu'), await run('cuda')];
  cuda.forEach((values, i) => {
    t.true(Math.abs(values[0] - 1) > 0.05 || i % 2 === 1, `parameter ${i} has moved`);
    values.forEach((v, k) => t.true(Math.abs(v - cpu[i][k]) < 1e-5, `${v} ${cpu[i][k]}`));
  });
});

test.serial('a copy to another GPU is of what the tensor was, whatever comes after', async (t) => {
  await collectTensors();
  const before = { here: memoryStats('cuda:0').current, there: memoryStats('cuda:1').current };
  const copies = [];
  for (let round = 0; round < 5; round++) {
    copies.push(
      scope(() => {
        const x = zeros([3, 500], { device: 'cuda' }).add(round);
        const copy = x.transpose().to('cuda:1');
        x.dispose();
        zeros([3, 500], { device: 'cuda' }).sub(1); // gets its memory
        return copy;
      }),
    );
  }
  for (const [round, copy] of copies.entries()) {
    t.is(copy.device, 'cuda:1');
    t.deepEqual(copy.shape, [500, 3]);
    t.true((await copy.data()).every((value) => value === round));
    copy.dispose();
  }
  t.deepEqual({ here: memoryStats('cuda:0').current, there: memoryStats('cuda:1').current }, before);
});

test("tenon info names CUDA's libraries, and the file of choices or why there is none", async (t) => {
  const folder = await temporaryFolder(t);
  const plugin = `TENON_CUDA_PLUGIN=${EMULATED_PLUGIN}`;
  const cache = join(folder, 'cache', 'cuda-tuning-1.txt');
  const info = async (environment: string, ...args: string[]): Promise<string> =>
    (await startCli(folder, ['info', ...args], `export ${plugin} ${environment}`).done).stdout;
  const on = await info(`TENON_CACHE=${join(folder, 'cache')} TENON_CUDA_TUNE=1`);
  t.regex(on, /^cuBLASLt {6}13\.1\.1, \S+tenon_cuda_emulated\.so$/m);
  t.regex(on, /^cuDNN {9}9\.24\.0, \S+tenon_cuda_emulated\.so$/m);
  t.true(on.includes(`\ntuning        ${cache}, 0 choices kept\n`), on);
  t.regex(await info('TENON_CUDA_TUNE=0'), /^tuning {8}off: TENON_CUDA_TUNE is 0$/m);
  const json = JSON.parse(await info('TENON_CUDA_TUNE=0', '--json')) as Record<string, unknown>;
  t.deepEqual(json['tuning'], { file: '', choices: 0, reason: 'TENON_CUDA_TUNE is 0' });
  t.deepEqual(
    cudaDetails()?.libraries.map(({ name, reason }) => [name, reason]),
    [
      ['cuBLASLt', ''],
      ['cuDNN', ''],
    ],
  );
});

test('tenon info says in one sentence why CUDA is off', async (t) => {
  const folder = await temporaryFolder(t);
  await writeFile(join(folder, 'text.so'), 'no library');
  const addon = join(dirname(EMULATED_PLUGIN), 'tenon.node');
  const cases: [environment: string, reason: RegExp][] = [
    ['TENON_EMULATED_DRIVER=0', /^not loaded: no NVIDIA driver is installed$/],
    [
      'TENON_EMULATED_DRIVER=12040',
      /^not loaded: the NVIDIA driver supports CUDA 12\.4, but this build needs CUDA 13$/,
    ],
    ['TENON_EMULATED_DEVICES=0', /^not loaded: CUDA does not start: no CUDA-capable device is detected$/],
    ['TENON_CUDA_PLUGIN=none.so', /^not loaded: Tenon was built without it: none\.so does not exist/],
    ['TENON_CUDA_PLUGIN=./text.so', /^not loaded: .*text\.so: file too short$/],
    [`TENON_CUDA_PLUGIN=${addon}`, /^not loaded: .*tenon\.node is no plugin of Tenon: it has no function/],
  ];
  await Promise.all(
    cases.map(async ([environment, reason]) => {
      const { stdout } = await startCli(folder, ['info', '--json'], `export ${environment}`).done;
      const info = JSON.parse(stdout) as { devices: string[]; backends: { cuda: string } };
      t.regex(info.backends.cuda, reason);
      t.deepEqual(info.devices, ['cpu']);
    }),
  );
});
