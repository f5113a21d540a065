import test from 'ava';

import {
  Linear,
  Module,
  ModuleList,
  TensorError,
  buffer,
  leakCheck,
  memoryStats,
  ones,
  parameter,
  relu,
  tensor,
  zeros,
  type FloatTensor,
  type Tensor,
} from '../../src/index.js';
import { close } from '../helpers/numbers.js';

class Net extends Module<[x: FloatTensor], FloatTensor> {
  readonly fcOne = new Linear(2, 3);
  readonly layers = new ModuleList([new Linear(3, 3, { bias: false })]);
  readonly scale: FloatTensor = parameter(ones([3]));
  readonly runningCount: Tensor = buffer(zeros([1], { dtype: 'int64' }));

  override forward(x: FloatTensor): FloatTensor {
    let y = relu(this.fcOne.call(x));
    for (const layer of this.layers) y = layer.call(y);
    return y.mul(this.scale);
  }
}

const NAMES = ['scale', 'fc_one.weight', 'fc_one.bias', 'layers.0.weight'];

test('parameters and buffers are named by the path to them, in snake case', (t) => {
  const net = new Net();
  t.deepEqual(
    net.namedParameters().map(([name]) => name),
    NAMES,
  );
  t.deepEqual(
    net.namedBuffers().map(([name]) => name),
    ['running_count'],
  );
  t.deepEqual(Object.keys(net.stateDict()), [...NAMES, 'running_count']);
  t.deepEqual(
    net.namedModules().map(([name]) => name),
    ['', 'fc_one', 'layers', 'layers.0'],
  );
  t.is(net.parameterCount, 3 + 6 + 3 + 9);
});

test('modules and parameters in arrays, Maps and Sets are an error, not left out', (t) => {
  class Lists extends Module {
    readonly blocks = [[new Linear(2, 2)], []];
    override forward(x: FloatTensor): FloatTensor {
      return x;
    }
  }
  class Scales extends Lists {
    override readonly blocks = [];
    readonly sizes = [2, 2];
    readonly scales = new Map([['a', parameter(ones([2]))]]);
  }
  const lists =
    'Module: expected the modules of Lists.blocks in a ModuleList, got an array, where they have no names';
  const scales =
    'Module: expected the parameters of Scales.scales in properties of their own, got a Map, where they have no names';
  class Known extends Module {
    readonly fc = new Linear(2, 2);
    readonly list = new ModuleList([new Linear(2, 2)]);
    readonly watched = new Set([this.list.at(0), this.fc.weight]);
    override forward(x: FloatTensor): FloatTensor {
      return x;
    }
  }
  t.deepEqual(Object.keys(new Known().stateDict()), ['fc.weight', 'fc.bias', 'list.0.weight', 'list.0.bias']);
  const nested = new ModuleList([new Lists()]);
  for (const [module, message] of [
    [new Lists(), lists],
    [nested, lists],
    [new Scales(), scales],
  ] as const) {
    const expected = { instanceOf: TensorError, code: 'VALUE', message };
    t.throws(() => module.parameters(), expected);
    t.throws(() => module.stateDict(), expected);
    t.throws(() => module.eval(), expected);
  }
});

test('without type arguments, a module takes and gives one tensor', async (t) => {
  class Twice extends Module {
    override forward(x: FloatTensor): FloatTensor {
      return x.mul(2);
    }
  }
  const y: FloatTensor = new Twice().call(tensor([1, 2]));
  await close(t, y, [2, 4]);
});

test('a state dict moves to another module and dtype, copying', async (t) => {
  const [from, into] = [new Net(), new Net().to('float64')];
  t.deepEqual(into.loadStateDict(from.stateDict()), { missing: [], unexpected: [], mismatched: [] });
  t.is(into.scale.dtype, 'float64');
  t.is(into.runningCount.dtype, 'int64');
  await close(t, into.fcOne.weight, await from.fcOne.weight.data());
  from.dispose();
  t.is((await into.fcOne.weight.data()).length, 6);
});

test('what does not fit is reported, and strictly an error before anything is copied', async (t) => {
  const net = new Net();
  const state = {
    ...net.stateDict(),
    'fc_one.weight': ones([2, 2]),
    scale: ones([3]).mul(7),
    other: ones([1]),
  };
  delete (state as Record<string, Tensor>)['fc_one.bias'];
  const error = t.throws(() => net.loadStateDict(state), { instanceOf: TensorError });
  t.is(
    error.message,
    'loadStateDict: expected the names and shapes of the module, got missing fc_one.bias; unexpected other; ' +
      'mis-shaped fc_one.weight [2, 2] for [3, 2]',
  );
  await close(t, net.scale, [1, 1, 1]);
  t.deepEqual(net.loadStateDict(state, { strict: false }), {
    missing: ['fc_one.bias'],
    unexpected: ['other'],
    mismatched: [{ name: 'fc_one.weight', expected: [3, 2], got: [2, 2] }],
  });
  await close(t, net.scale, [7, 7, 7]);
});

test('train, eval, freeze and apply reach every module below', (t) => {
  const net = new Net();
  const modes = (): boolean[] => net.namedModules().map(([, module]) => module.training);
  t.deepEqual(modes(), [true, true, true, true]);
  t.deepEqual((net.eval(), modes()), [false, false, false, false]);
  t.deepEqual((net.train(), modes()), [true, true, true, true]);
  net.layers.freeze();
  net
    .call(ones([1, 2]))
    .sum()
    .backward();
  t.deepEqual(
    net.namedParameters().map(([, p]) => p.grad !== undefined),
    [true, true, true, false],
  );
  t.true(
    net
      .freeze(false)
      .parameters()
      .every((p) => p.requiresGrad),
  );
  const names: string[] = [];
  net.apply((_module, name) => names.push(name));
  t.deepEqual(names, ['', 'fc_one', 'layers', 'layers.0']);
});

test('to keeps what is frozen frozen', (t) => {
  const net = new Net();
  net.fcOne.freeze();
  net.to('float64');
  t.deepEqual(
    net.namedParameters().map(([, p]) => [p.dtype, p.requiresGrad]),
    [true, false, false, true].map((requires) => ['float64', requires]),
  );
  t.is(net.call(ones([1, 2], { dtype: 'float64' })).dtype, 'float64');
});

test('a shared parameter counts once, keeps all its names, and stays shared in another dtype', (t) => {
  class Tied extends Module<[x: FloatTensor], FloatTensor> {
    readonly encode = new Linear(2, 2, { bias: false });
    readonly decode = new Linear(2, 2, { bias: false });

    constructor() {
      super();
      this.decode.weight.dispose();
      (this.decode as { weight: FloatTensor }).weight = this.encode.weight;
    }

    override forward(x: FloatTensor): FloatTensor {
      return this.decode.call(this.encode.call(x));
    }
  }
  const net = new Tied().to('float64');
  t.is(net.encode.weight, net.decode.weight);
  t.is(net.parameterCount, 4);
  t.deepEqual(Object.keys(net.stateDict()), ['encode.weight', 'decode.weight']);
});

test('a hook sees each call, may replace its result, and goes when it is removed', async (t) => {
  const layer = new Linear(1, 1, { bias: false });
  layer.loadStateDict({ weight: tensor([[2]]) });
  const seen: number[] = [];
  const remove = layer.registerForwardHook(([x], y) => {
    seen.push(x.itemSync(), y.itemSync());
    return y.mul(10);
  });
  await close(t, layer.call(tensor([[3]])), [60]);
  remove();
  await close(t, layer.call(tensor([[3]])), [6]);
  t.deepEqual(seen, [3, 6]);
});

test.serial('a call frees what forward leaves behind, and dispose frees the rest', async (t) => {
  await leakCheck(() => {
    const net = new Net();
    const x = ones([4, 2]);
    const before = memoryStats().tensors;
    const y = net.eval().freeze().call(x);
    t.is(memoryStats().tensors, before + 1);
    y.dispose();
    const z = net.freeze(false).call(x);
    using gradient = ones([4, 3]);
    z.backward({ gradient });
    z.dispose();
    net.to('float64').dispose();
    x.dispose();
  });
});
