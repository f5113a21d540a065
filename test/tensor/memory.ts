/**
 * When memory is freed, and what the allocator says of it. Every test here runs alone: statistics and leaks are those
 * of the whole process.
 */
import { PerformanceObserver, constants, type PerformanceEntry } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';

import test from 'ava';

import {
  AdamW,
  Linear,
  TensorError,
  add,
  copyInto,
  crossEntropy,
  exp,
  keep,
  leakCheck,
  memoryStats,
  mul,
  normal,
  ones,
  releaseCachedMemory,
  resetPeakMemory,
  scope,
  setMemoryLimit,
  tensor,
  zeros,
  type Tensor,
} from '../../src/index.js';
import { collectGarbage, collectTensors } from '../helpers/garbage.js';

const MiB = 2 ** 20;

test.beforeEach(async () => {
  await collectTensors();
});

test.serial('a tensor takes its gradient with it', (t) => {
  const before = memoryStats().tensors;
  const x = tensor([1, 2, 3], { requiresGrad: true });
  scope(() => mul(x, x).sum().backward());
  const gradient = x.grad as Tensor;
  t.deepEqual(Array.from(gradient.dataSync() as Float32Array), [2, 4, 6]);
  x.dispose();
  t.true(gradient.isDisposed);
  t.is(x.grad, undefined);
  t.is(memoryStats().tensors, before);
});

test.serial('a scope frees what it made and did not return, in whatever it is returned', (t) => {
  const outside = ones([2]);
  const before = memoryStats().tensors;
  const [x, deep] = scope(() => {
    const x = ones([2]);
    const y = add(x, 1);
    mul(y, 2);
    return [x, { list: [y, new Map([['k', add(y, 1)]]), new Set([outside])] as const }] as const;
  });
  t.is(memoryStats().tensors, before + 3);
  t.false(x.isDisposed);
  t.false(outside.isDisposed);
  const [y, map] = deep.list;
  for (const kept of [x, y, map.get('k')]) kept?.dispose();
  t.is(memoryStats().tensors, before);
});

test.serial('an inner scope hands what it returns to the outer one; keep takes it out of all', (t) => {
  const before = memoryStats().tensors;
  let kept: Tensor | undefined;
  scope(() => {
    scope(() => {
      kept = keep(ones([2]));
      return ones([3]);
    });
    t.is(memoryStats().tensors, before + 2);
  });
  t.is(memoryStats().tensors, before + 1);
  t.false(kept?.isDisposed);
  kept?.dispose();
});

test.serial('a scope that throws frees everything; a promise is an error', (t) => {
  const before = memoryStats().tensors;
  t.throws(
    () =>
      scope(() => {
        ones([2]);
        throw new RangeError('broken');
      }),
    { instanceOf: RangeError, message: 'broken' },
  );
  t.throws(() => scope(async () => Promise.resolve(ones([2]))), {
    instanceOf: TensorError,
    message: 'scope: expected a synchronous function, got a promise',
  });
  t.is(memoryStats().tensors, before);
});

test.serial('using frees at the end of its block, and views and aliases keep the memory alive', async (t) => {
  const before = memoryStats();
  let row: Tensor<'float32'>;
  {
    using x = tensor([
      [1, 2],
      [3, 4],
    ]);
    row = x.select(0, 1);
    t.is(memoryStats().blocks, before.blocks + 1);
  }
  t.is(memoryStats().blocks, before.blocks + 1);
  t.deepEqual([...(await row.data())], [3, 4]);
  row.dispose();
  t.is(memoryStats().blocks, before.blocks);
});

test.serial(
  'a use after dispose is an error that says what was disposed; a second dispose does nothing',
  async (t) => {
    const x = ones([2, 3]);
    t.deepEqual([...x.shape], [2, 3]);
    x.dispose();
    x.dispose();
    t.true(x.isDisposed);
    t.is(String(x), 'Tensor (disposed (float32 [2, 3]))');
    const message = 'tensor: expected a live tensor, got one that was disposed (float32 [2, 3])';
    const uses = [() => add(x, 1), () => add(ones([2, 3]), x), () => x.detach(), () => x.dataSync()];
    for (const use of uses) t.is(t.throws(use, { instanceOf: TensorError, message }).code, 'DISPOSED');
    await t.throwsAsync(x.data(), { instanceOf: TensorError, message });

    const unseen = ones([2]);
    unseen.dispose();
    t.throws(() => unseen.shape, { message: 'tensor: expected a live tensor, got one that was disposed' });
  },
);

test.serial('statistics count bytes in 64-byte lines, and the peak starts anew on request', (t) => {
  const before = memoryStats();
  resetPeakMemory();
  const x = zeros([16, 16]);
  const y = zeros([3], { dtype: 'uint8' });
  const now = memoryStats();
  t.is(now.current - before.current, 1024 + 64);
  t.is(now.peak, now.current);
  t.is(now.blocks - before.blocks, 2);
  t.is(now.tensors - before.tensors, 2);
  t.is(now.allocations - before.allocations, 2);
  t.true(now.reserved >= now.current && now.reservedPeak >= now.reserved);
  x.dispose();
  y.dispose();
  t.is(memoryStats().current, before.current);
  t.is(memoryStats().peak, now.peak);
  resetPeakMemory();
  t.is(memoryStats().peak, before.current);
});

test.serial('freed memory is reused without asking the system; cached memory can be given back', (t) => {
  releaseCachedMemory();
  const before = memoryStats();
  const x = zeros([9 * MiB]);
  const grown = memoryStats();
  t.is(grown.reserved - before.reserved, 36 * MiB);
  x.dispose();
  const again = zeros([9 * MiB - 5]);
  t.is(memoryStats().segments, grown.segments);
  again.dispose();
  t.is(memoryStats().reserved, grown.reserved);
  releaseCachedMemory();
  t.is(memoryStats().reserved, before.reserved);
});

test.serial('an op beyond the memory limit is an error, and training goes on after it', (t) => {
  const layer = new Linear(16, 4);
  const optimizer = new AdamW(layer.parameters(), { lr: 0.1 });
  const x = normal([8, 16]);
  const labels = tensor([0, 1, 2, 3, 0, 1, 2, 3], { dtype: 'int64' });
  const step = (width: number): number =>
    scope(() => {
      const wide = layer.call(x).unsqueeze(0).expand([width, 8, 4]);
      const loss = crossEntropy(exp(wide).mul(0.1).mean({ dim: 0 }), labels);
      loss.backward();
      optimizer.step();
      optimizer.zeroGrad();
      return loss.itemSync();
    });
  const first = step(1);
  releaseCachedMemory();
  const before = memoryStats();
  setMemoryLimit(before.reserved + 64 * MiB);
  try {
    for (let i = 0; i < 3; i++) {
      const error = t.throws(() => step(MiB), { instanceOf: TensorError });
      t.is(error.code, 'MEMORY');
      t.regex(
        error.message,
        /^\w+: out of memory: asked for 128 MiB, in use \d+ MiB, held \d+ MiB, limit \d+ MiB$/,
      );
      t.is(memoryStats().tensors, before.tensors, 'the step that failed left nothing');
      t.true(memoryStats().reserved <= before.reserved + 64 * MiB);
    }
    let last = first;
    for (let i = 0; i < 20; i++) last = step(1);
    t.true(last < first, `loss ${first} -> ${last}`);
  } finally {
    setMemoryLimit(Infinity);
  }
  t.deepEqual([...zeros([40 * MiB], { dtype: 'uint8' }).shape], [40 * MiB]);
  for (const bytes of [0, -1, 1.5, NaN]) {
    t.throws(() => setMemoryLimit(bytes), {
      message: `setMemoryLimit: expected a whole number of bytes above 0 or Infinity, got ${bytes}`,
    });
  }
});

test.serial('leakCheck names the line that made a tensor, however deep inside a recorded op', async (t) => {
  const x = ones([2], { requiresGrad: true });
  let kept: Tensor | undefined;
  const error = await t.throwsAsync(
    leakCheck(() => {
      kept = x.add(1).mul(2); // this line
    }),
    { instanceOf: TensorError },
  );
  t.is(error.code, 'MEMORY');
  const [head, ...lines] = error.message.split('\n');
  // The sum, the product; nothing is saved by a product with a number.
  t.is(head, 'leakCheck: expected no live tensors beyond those returned, got 2, made at:');
  for (const line of lines) t.regex(line, /test\/tensor\/memory\.(js|ts):\d+/);
  kept?.dispose();
});

test.serial('leakCheck lets what is returned live, and sees no others in its place', async (t) => {
  const before = ones([2]);
  const made = await leakCheck(async () => {
    const x = ones([2]);
    await x.data();
    return { x, again: x.detach() };
  });
  t.deepEqual([...(await made.x.data())], [1, 1]);
  await t.throwsAsync(
    leakCheck(() => {
      ones([3]);
      return before;
    }),
    { message: /got 1, made at/ },
  );
});

test.serial('leak checks nest: each sees what was made in it', async (t) => {
  let inner: Tensor | undefined;
  await t.throwsAsync(
    leakCheck(async () => {
      const outer = ones([2]);
      inner = await leakCheck(() => {
        const x = add(outer, 1);
        outer.dispose();
        return x;
      });
    }),
    { message: /got 1, made at/ },
  );
  inner?.dispose();
});

test.serial('the garbage collector frees what nobody disposed of', async (t) => {
  const count = (): number => memoryStats().tensors;
  const before = count();
  (() => {
    for (let i = 0; i < 100; i++) exp(ones([4], { requiresGrad: true }));
  })();
  t.is(count(), before + 200);
  t.is(await collectGarbage(count), before);
});

/** Collections of the whole heap while `fn` runs. */
async function collections(fn: () => Promise<void>): Promise<number> {
  let count = 0;
  const isMajor = (entry: PerformanceEntry): boolean =>
    (entry as PerformanceEntry & { detail: { kind: number } }).detail.kind ===
    constants.NODE_PERFORMANCE_GC_MAJOR;
  const observer = new PerformanceObserver((list) => {
    count += list.getEntries().filter(isMajor).length;
  });
  observer.observe({ entryTypes: ['gc'] });
  await fn();
  await delay(50);
  observer.disconnect();
  return count;
}

test.serial('the garbage collector hears of tensors outside scopes, and of no others', async (t) => {
  const big = (): Tensor => zeros([4 << 20]); // 16 MiB
  const quiet = await collections(async () => {
    for (let step = 0; step < 40; step++) {
      scope(() => Array.from({ length: 16 }, big).length);
      await delay(1);
    }
  });
  t.true(quiet <= 2, `${quiet} collections in 40 scopes of 256 MiB`);

  const before = memoryStats().current;
  let most = 0;
  const busy = await collections(async () => {
    for (let i = 0; i < 100; i++) {
      big();
      most = Math.max(most, memoryStats().current - before);
      await delay(1);
    }
  });
  t.true(busy >= 3, `${busy} collections while 1.6 GiB were dropped`);
  t.true(most < 800 * 2 ** 20, `${most} bytes at most`);
});

test.serial(
  'copyInto refuses a target whose elements share memory, and reads before it writes',
  async (t) => {
    t.throws(() => copyInto(zeros([1]).expand([3]), tensor([1, 2, 3])), {
      instanceOf: TensorError,
      code: 'VALUE',
      message: 'copyInto: expected a target with memory for each element, got [3] with strides [0]',
    });
    const x = tensor(Array.from({ length: 1000 }, (_, i) => i));
    copyInto(x, x.flip(0));
    copyInto(x.narrow(0, 1, 999), x.narrow(0, 0, 999));
    t.deepEqual(
      Array.from(await x.data()),
      Array.from({ length: 1000 }, (_, i) => (i === 0 ? 999 : 1000 - i)),
    );
  },
);
