import test from 'ava';

import { paramGroups } from '../../src/index.js';
import { tinyModel } from '../helpers/training.js';

test('matrices decay; biases, norms, scales, positions and tokens do not', (t) => {
  const model = tinyModel({ regTokens: 2, initValues: 1e-5, qkNorm: true });
  const [decay, noDecay] = paramGroups(model, 0.05);
  const names = new Map(model.namedParameters().map(([name, tensor]) => [tensor, name]));
  t.deepEqual(
    decay.params.map((tensor) => names.get(tensor)),
    [
      'patch_embed.proj.weight',
      'blocks.0.attn.qkv.weight',
      'blocks.0.attn.proj.weight',
      'blocks.0.mlp.fc1.weight',
      'blocks.0.mlp.fc2.weight',
      'head.weight',
    ],
  );
  t.is(decay.weightDecay, 0.05);
  t.is(noDecay.weightDecay, 0);
  const spared = noDecay.params.map((tensor) => names.get(tensor));
  for (const name of [
    'cls_token',
    'reg_token',
    'pos_embed',
    'patch_embed.proj.bias',
    'blocks.0.norm1.weight',
    'blocks.0.ls1.gamma',
    'blocks.0.attn.q_norm.weight',
    'norm.bias',
    'head.bias',
  ]) {
    t.true(spared.includes(name), name);
  }
  t.is(decay.params.length + noDecay.params.length, model.parameters().length);
});

test('frozen parameters are in no group', (t) => {
  const model = tinyModel().freeze();
  model.head!.freeze(false);
  const groups = paramGroups(model, 0.1);
  t.deepEqual(
    groups.map(({ params, weightDecay }) => [params.map(({ shape }) => shape), weightDecay]),
    [
      [[[3, 16]], 0.1],
      [[[3]], 0],
    ],
  );
});
