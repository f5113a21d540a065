/**
 * Stochastic depth in whole models: computing a branch for the samples that keep it alone changes neither the logits nor
 * any gradient.
 */
import test from 'ava';

import {
  DropPath,
  type FloatTensor,
  type Model,
  SwinTransformer,
  VisionTransformer,
  crossEntropy,
  grad,
  manualSeed,
  normal,
  tensor,
} from '../../src/index.js';
import { relativeError } from '../helpers/golden.js';

const small = { imgSize: 16, patchSize: 4, embedDim: 16, numClasses: 5, dropPathRate: 0.6 };
const vit = { ...small, depth: 4, numHeads: 2 };

const MODELS: Readonly<Record<string, () => Model>> = {
  ViT: () => new VisionTransformer(vit),
  'ViT with layer scale': () => new VisionTransformer({ ...vit, initValues: 0.1 }),
  'ViT with norms after the branches': () => new VisionTransformer({ ...vit, blockNorm: 'post' }),
  Swin: () => new SwinTransformer({ ...small, depths: [2, 2], numHeads: [1, 2], windowSize: 2 }),
};

/** All samples go through the branch, and a mask drops them. */
function masked(this: DropPath, ...[x, branch, options]: Parameters<DropPath['residual']>): FloatTensor {
  const from = options?.from ?? x;
  return this.active ? x.add(this.call(branch(from))) : branch(from, x);
}

for (const [name, create] of Object.entries(MODELS)) {
  test.serial(`${name}: dropped samples cost nothing and change nothing`, (t) => {
    manualSeed(1);
    const model = create();
    const images = normal([6, 3, 16, 16]);
    const labels = tensor([0, 1, 2, 3, 4, 0], { dtype: 'int64' });
    const parameters = model.parameters();
    const step = (): Float32Array[] => {
      manualSeed(2);
      const logits = model.call(images);
      const gradients = grad(crossEntropy(logits, labels), parameters);
      return [logits, ...gradients].map((x) => x?.dataSync() as Float32Array);
    };
    const actual = step();
    const own = Object.getOwnPropertyDescriptor(DropPath.prototype, 'residual') as PropertyDescriptor;
    let expected: Float32Array[];
    try {
      DropPath.prototype.residual = masked;
      expected = step();
    } finally {
      Object.defineProperty(DropPath.prototype, 'residual', own);
    }
    const errors = expected.map((values, i) => relativeError(actual[i], values));
    t.true(Math.max(...errors) < 1e-5, `${Math.max(...errors)}`);
    model.eval();
    t.true(relativeError(model.call(images).dataSync(), expected[0]) > 0.01, 'the seed drops something');
  });
}
