/**
 * The code of the guide to custom ops: it is this file's own, so it passes the compiler, and its gradients are right.
 */
import { readFileSync } from 'node:fs';

import test from 'ava';

import {
  add,
  defineOp,
  exp,
  log,
  mul,
  noGrad,
  sub,
  tanh,
  tensor,
  type FloatTensor,
  type Tensor,
} from '../../src/index.js';
import { close, finiteDifferences } from '../helpers/numbers.js';

function mish(x: Tensor<'float64'>): Tensor<'float64'> {
  const softplus = log(add(exp(x), 1));
  return mul(x, tanh(softplus));
}

/** exp(x) - 1 */
const expm1 = defineOp({
  name: 'expm1',
  forward(ctx, x: Tensor<'float64'>) {
    const e = exp(x);
    ctx.save(e);
    return sub(e, 1);
  },
  backward({ saved: [e] }, dy) {
    return [dy && mul(dy as Tensor<'float64'>, e as Tensor<'float64'>)];
  },
});

const read = (path: string): string => readFileSync(new URL(`../../../${path}`, import.meta.url), 'utf8'); // from dist/test/docs/

test('the code of the guide is the code that is tested here', (t) => {
  const blocks = [...read('docs/guides/custom-ops.md').matchAll(/```ts\n(.*?)```/gs)].map(([, code]) =>
    code.replace(/^import .*\n\n/, '').replace('export ', ''),
  );
  t.is(blocks.length, 2);
  const own = read('test/docs/custom-ops.ts');
  for (const block of blocks) t.true(own.includes(block), block);
});

test('its ops have the gradients of finite differences', async (t) => {
  const values = Float64Array.of(-1, 0.5, 2);
  await close(t, expm1(tensor(values)), values.map(Math.expm1), 1e-12);
  const expected = values.map((x) => x * Math.tanh(Math.log1p(Math.exp(x))));
  await close(t, mish(tensor(values)), expected, 1e-12);
  for (const op of [expm1, mish]) {
    const x = tensor(values, { requiresGrad: true });
    op(x).sum().backward();
    const numeric = finiteDifferences(
      (moved) => noGrad(() => op(moved as Tensor<'float64'>).sum()),
      values,
      (moved): FloatTensor => tensor(moved),
    );
    await close(t, x.grad, numeric, 1e-8);
  }
});
