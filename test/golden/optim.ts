/**
 * Every optimizer's path against PyTorch's, parameter by parameter and step by step, to 1e-6.
 */
import { existsSync, readdirSync } from 'node:fs';

import test from 'ava';

import {
  Adam,
  AdamW,
  SGD,
  clipGradNorm,
  setRequiresGrad,
  type FloatTensor,
  type Optimizer,
} from '../../src/index.js';
import { asTensor, goldenPath, readGolden, relativeError, sharedTest } from '../helpers/golden.js';

interface Settings {
  readonly lr: number;
  readonly weightDecay: number;
  readonly momentum: number;
  readonly nesterov: boolean;
}

const OPTIMIZERS: Readonly<Record<string, (params: FloatTensor[], settings: Settings) => Optimizer>> = {
  AdamW: (params, { lr, weightDecay }) => new AdamW(params, { lr, weightDecay }),
  'Adam (L2 in the gradient)': (params, { lr, weightDecay }) => new Adam(params, { lr, weightDecay }),
  SGD: (params, settings) => new SGD(params, settings),
};

const folder = goldenPath('optim');
const files = existsSync(folder) ? readdirSync(folder) : [];

sharedTest('the golden optimizers are the five that Tenon has', folder, (t) => {
  t.deepEqual(files.map((file) => file.replace('.safetensors', '')).sort(), [
    'adam-l2',
    'adamw',
    'adamw-clip',
    'sgd',
    'sgd-nesterov',
  ]);
});

/** How a golden's gradient clipping is done. */
const CLIPPINGS = {
  'in the step': (optimizer: Optimizer, _params: FloatTensor[], maxNorm: number) =>
    optimizer.step({ maxNorm }),
  'before the step': (optimizer: Optimizer, params: FloatTensor[], maxNorm: number) => {
    const norm = clipGradNorm(params, maxNorm);
    optimizer.step();
    return norm;
  },
};

for (const file of files) {
  const { tensors, metadata } = readGolden(`optim/${file}`);
  const setting = (name: string): unknown => (name in metadata ? JSON.parse(metadata[name]) : undefined);
  const maxNorm = setting('clip_grad_norm') as number | undefined;
  const clippings = maxNorm === undefined ? { '': undefined } : CLIPPINGS;

  for (const [where, clip] of Object.entries(clippings)) {
    const title = [file.replace('.safetensors', ''), where === '' ? '' : `clipped ${where}`];
    test(`${title.filter(Boolean).join(', ')}: every parameter after every step is PyTorch's`, async (t) => {
      const params = Object.keys(tensors)
        .filter((name) => name.startsWith('init.'))
        .map((_, i) => setRequiresGrad(asTensor(tensors[`init.${i}`]) as FloatTensor));
      const optimizer = OPTIMIZERS[setting('optimizer') as string](params, {
        lr: setting('lr') as number,
        weightDecay: (setting('weight_decay') as number | undefined) ?? 0,
        momentum: (setting('momentum') as number | undefined) ?? 0,
        nesterov: setting('nesterov') === true,
      });
      let step = 0;
      for (; `step${step}.grad.0` in tensors; step++) {
        params.forEach(
          (param, i) => (param.grad = asTensor(tensors[`step${step}.grad.${i}`]) as FloatTensor),
        );
        if (clip === undefined || maxNorm === undefined) {
          optimizer.step();
        } else {
          const norm = await clip(optimizer, params, maxNorm)?.item();
          const expected = Number(tensors[`step${step}.norm`].data[0]);
          t.true(Math.abs((norm ?? 0) / expected - 1) < 1e-6, `norm of step ${step}: ${norm}`);
        }
        for (const [i, param] of params.entries()) {
          const error = relativeError(await param.data(), tensors[`step${step}.param.${i}`].data);
          t.true(error < 1e-6, `parameter ${i} after step ${step}: ${error}`);
        }
        optimizer.zeroGrad();
      }
      t.is(step, 6);
    });
  }
}
