/**
 * What products keep of the weights of `inferenceMode`: it never outlives what the weights held, and memory says so. Every test
 * here runs alone: statistics are those of the whole process.
 */
import test from 'ava';

import {
  type FloatTensor,
  Conv2d,
  Linear,
  Mlp,
  SGD,
  autocast,
  copyInto,
  equal,
  inferenceMode,
  keep,
  linear,
  matmul,
  memoryStats,
  noGrad,
  normal,
  releaseCachedMemory,
  scope,
  setMemoryLimit,
  type Tensor,
} from '../../src/index.js';
import { collectTensors } from '../helpers/garbage.js';

test.beforeEach(async () => {
  await collectTensors();
});

const same = async (a: Tensor, b: Tensor): Promise<boolean> => (await equal(a, b).all().item()) === true;

const differenceOf = async (a: FloatTensor, b: FloatTensor): Promise<number> =>
  (await a.sub(b).abs().max().item()) / (await b.abs().max().item());

test.serial('results are those of the weights as they are, whatever writes them', async (t) => {
  const [x, image] = [normal([50, 96]), normal([2, 48, 9, 7])];
  for (const precision of ['float32', 'bfloat16', 'float16'] as const) {
    const tolerance = precision === 'float32' ? 1e-6 : 0; // products of 16 bits are rounded to the same ones
    const layer = new Linear(96, 130);
    const mlp = new Mlp(96, 200);
    const convs = [
      new Conv2d(48, 80, 3, { padding: 1 }),
      new Conv2d(48, 32, 1),
      new Conv2d(48, 48, 3, { groups: 48 }),
      new Conv2d(48, 48, 3, { groups: 6, stride: 2 }),
    ];
    const run = (): FloatTensor[] => [layer.call(x), mlp.call(x), ...convs.map((conv) => conv.call(image))];
    const infer = (): FloatTensor[] => inferenceMode(() => autocast(precision, run));
    const plain = (): FloatTensor[] => noGrad(() => autocast(precision, run));
    const check = async (when: string): Promise<void> => {
      const [first, second, expected] = [infer(), infer(), plain()];
      for (const i of first.keys()) {
        t.true(await same(first[i], second[i]), `${precision} ${when}: ${i} again`);
        const difference = await differenceOf(first[i].to('float32'), expected[i].to('float32'));
        t.true(
          difference <= Math.max(tolerance, 1e-6),
          `${precision} ${when}: ${i} differs by ${difference}`,
        );
      }
    };
    await check('at first');
    copyInto(layer.weight, normal([130, 96]));
    copyInto(mlp.fc1.weight, normal([200, 96]));
    for (const conv of convs) copyInto(conv.weight, normal(conv.weight.shape));
    await check('after copyInto');
    copyInto(layer.weight.narrow(0, 5, 3), normal([3, 96]));
    copyInto(mlp.fc2.weight.narrow(1, 7, 1), normal([96, 1]));
    await check('after a write to a part');
    const optimizer = new SGD(
      [layer, mlp].flatMap((module) => [...module.parameters()]),
      { lr: 0.1 },
    );
    scope(() => {
      layer.call(x).sum().add(mlp.call(x).sum()).backward();
    });
    infer();
    optimizer.step();
    optimizer.zeroGrad();
    await check('after a step');
  }
});

test.serial('weights that share memory do not share a copy', async (t) => {
  const x = normal([20, 64]);
  const both = keep(normal([2, 80, 64]));
  const [a, b] = [keep(both.select(0, 0)), keep(both.select(0, 1))];
  const turned = keep(normal([64, 80]));
  const c = keep(turned.transpose(0, 1));
  for (let i = 0; i < 3; i++) {
    for (const weight of [a, b, c]) {
      const y = inferenceMode(() => linear(x, weight));
      t.true((await differenceOf(y, matmul(x, weight.transpose(0, 1)))) < 1e-6);
    }
  }
});

test.serial('a copy is freed with its weight, or when that is written, and there is one', async (t) => {
  const layer = new Linear(256, 512, { bias: false });
  const bytes = 4 * 256 * 512;
  const x = normal([40, 256]);
  const run = (): void => {
    inferenceMode(() => {
      layer.call(x);
    });
  };
  const before = memoryStats().current;
  run();
  const copy = memoryStats().current - before;
  t.true(copy === 0 || (copy >= bytes && copy < 1.1 * bytes), `${copy} bytes`); // 0 where no layout is better
  for (let i = 0; i < 300; i++) run();
  t.is(memoryStats().current - before, copy);
  copyInto(layer.weight, layer.weight.mul(2));
  await collectTensors();
  t.is(memoryStats().current, before);
  run();
  t.is(memoryStats().current - before, copy);
  layer.weight.dispose();
  t.is(memoryStats().current, before - bytes);
});

test.serial('training keeps none, nor does a weight that was made on the way', (t) => {
  const layer = new Linear(256, 512, { bias: false });
  const x = normal([40, 256]);
  const before = memoryStats().current;
  noGrad(() => scope(() => layer.call(x)).dispose());
  scope(() => {
    layer.call(x).sum().backward();
  });
  layer.weight.grad?.dispose();
  t.is(memoryStats().current, before);
  inferenceMode(() => {
    const weight = layer.weight.mul(2);
    const held = memoryStats().current;
    linear(x, weight);
    t.is(memoryStats().current - held, 4 * 40 * 512);
  });
  t.is(memoryStats().current, before);
});

test.serial('where memory does not suffice for a copy, the product is made without', async (t) => {
  const layer = new Linear(2048, 4096, { bias: false });
  const x = normal([20, 2048]);
  const expected = noGrad(() => layer.call(x));
  await expected.data();
  releaseCachedMemory();
  const limit = memoryStats().reserved + 2 ** 20;
  setMemoryLimit(limit);
  try {
    const y = inferenceMode(() => layer.call(x));
    t.true((await differenceOf(y, expected)) < 1e-6);
    t.true(memoryStats().reserved <= limit);
  } finally {
    setMemoryLimit(Infinity);
  }
});
