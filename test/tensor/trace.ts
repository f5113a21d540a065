import test from 'ava';

import {
  add,
  argmax,
  checkpoint,
  defineOp,
  greater,
  mul,
  noGrad,
  ones,
  type FloatTensor,
  type Tensor,
} from '../../src/index.js';
import { currentTracer, traceOps } from '../../src/tensor/trace.js';

/** The names of the ops that `fn` runs, those inside others behind them in brackets. */
function opsOf(fn: () => unknown): string[] {
  let names: string[] = [];
  traceOps(
    (name, args, run) => {
      const outer = names;
      names = [];
      try {
        return run();
      } finally {
        const inside = names.length > 0 ? `(${names.join(' ')})` : '';
        outer.push(`${name}/${args.length}${inside}`);
        names = outer;
      }
    },
    () => void fn(),
  );
  return names;
}

const square = defineOp({ name: 'square', forward: (_ctx, x: FloatTensor) => mul(x, x) });

test('a tracer sees each op with its arguments, recorded or not, and what runs inside it', (t) => {
  const x: FloatTensor = ones([2], { requiresGrad: true });
  t.deepEqual(
    opsOf(() => add(x, 1)),
    ['add/2'],
  );
  t.deepEqual(
    opsOf(() => argmax(ones([2]))),
    ['argmax/3'],
  );
  t.deepEqual(
    opsOf(() => greater(square(ones([2])), 0).any()),
    ['square/1(mul/2)', 'greater/2', 'any/3'],
  );
  t.deepEqual(
    opsOf(() => noGrad(() => checkpoint((y: Tensor<'float32'>) => y.exp(), ones([2])))),
    ['checkpoint/2(exp/1)'],
  );
});

test('a tracer can look away, and is gone afterwards, whatever happens', (t) => {
  const seen: string[] = [];
  traceOps(
    (name, _args, run) => {
      seen.push(name);
      return traceOps(undefined, run);
    },
    () => void square(ones([2])),
  );
  t.deepEqual(seen, ['square']);
  t.throws(() => opsOf(() => add(ones([2]), ones([3]))), { message: /^add: / });
  t.is(currentTracer(), undefined);
});
