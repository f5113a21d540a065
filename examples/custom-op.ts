/**
 * An op of your own with its derivative: log cosh, a loss that is square near 0 and absolute far from it, without the
 * overflow of cosh. Its derivative is tanh, which autograd could not find so simply.
 *
 *   node dist/examples/custom-op.js [--smoke]
 */
import {
  type Tensor,
  abs,
  add,
  defineOp,
  exp,
  log,
  mul,
  normal,
  scope,
  sub,
  sum,
  tanh,
  tensor,
} from '../src/index.js';

type Double = Tensor<'float64'>;

/** log cosh x = |x| + log(1 + exp(-2 |x|)) - log 2, element by element. */
const logCosh = defineOp({
  name: 'logCosh',
  forward(ctx, x: Double) {
    ctx.save(x);
    const size = abs(x);
    return sub(add(size, log(add(exp(mul(size, -2)), 1))), Math.LN2);
  },
  backward({ saved: [x] }, dy) {
    return [dy && mul(dy as Double, tanh(x as Double))];
  },
});

const far = await logCosh(tensor([-1000, 0, 1000], { dtype: 'float64' })).data();
console.log('log cosh of -1000, 0 and 1000:', ...far); // cosh(1000) itself is infinite

// The derivative against central differences.
const x = normal([6], { dtype: 'float64', requiresGrad: true });
scope(() => sum(logCosh(x)).backward());
const gradient = await x.grad!.data();
const values = await x.data();
const at = async (i: number, step: number): Promise<number> => {
  const moved = Float64Array.from(values);
  moved[i] += step;
  return sum(logCosh(tensor(moved))).item();
};
for (let i = 0; i < values.length; i++) {
  const numeric = ((await at(i, 1e-5)) - (await at(i, -1e-5))) / 2e-5;
  console.log(
    `x ${values[i].toFixed(4)}: gradient ${gradient[i].toFixed(8)}, differences ${numeric.toFixed(8)}`,
  );
  if (Math.abs(numeric - gradient[i]) > 1e-8) throw new Error('expected the two to agree, they do not');
}
