/**
 * What a profiler watches: every kernel of a training step of ViT-B/16 with two of its blocks, in mixed precision, and
 * attention over 4096 tokens, each twice. Run kernel by kernel, not as a graph.
 *
 *   ncu --metrics gpu__time_duration.sum node dist/gpu/kernels.js
 */
import {
  AdamW,
  type FloatTensor,
  attentionPacked,
  autocast,
  createModel,
  crossEntropy,
  grad,
  manualSeed,
  normal,
  scope,
  setRequiresGrad,
  tensor,
} from '../src/index.js';

const BATCH = 128;
const RUNS = 2; // the second has all its memory

manualSeed(1);
const model = createModel('vit_base_patch16_224', { depth: 2 }).to('cuda');
const optimizer = new AdamW(model.parameters(), { lr: 1e-3 });
const images = normal([BATCH, 3, 224, 224], { device: 'cuda' });
const labels = tensor(
  Array.from({ length: BATCH }, (_, i) => i),
  { dtype: 'int64', device: 'cuda' },
);
for (let run = 1; run <= RUNS; run++) {
  using loss = scope(() => {
    const loss = autocast('bfloat16', () => crossEntropy(model.call(images), labels));
    loss.backward();
    optimizer.step();
    optimizer.zeroGrad();
    return loss;
  });
  console.log(`step ${run}: loss ${await loss.item()}`);
}

const qkv = setRequiresGrad(normal([4, 4096, 3 * 768], { device: 'cuda', dtype: 'bfloat16' }));
for (let run = 1; run <= RUNS; run++) {
  using sum = scope(() => {
    const out = attentionPacked(qkv, { numHeads: 12 });
    const [dqkv] = grad(out, [qkv], { gradients: [out.detach()] });
    return (dqkv as FloatTensor).sum();
  });
  console.log(`attention ${run}: gradients add up to ${await sum.item()}`);
}
