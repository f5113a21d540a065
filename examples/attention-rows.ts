/**
 * Which patches the class token attends to: the last block's attention, one row for each head, drawn as text.
 *
 *   node dist/examples/attention-rows.js photo.jpg runs/NAME/checkpoints/best.safetensors
 *   node dist/examples/attention-rows.js --smoke     # a drawn picture and an untrained model
 */
import {
  SampleRandom,
  type Tensor,
  VisionTransformer,
  applySteps,
  attentionRows,
  createModel,
  drawShape,
  inferenceMode,
  inputTransform,
  keep,
  loadModel,
  normalizeInto,
  readImage,
  rearrange,
  tensor,
  unbind,
} from '../src/index.js';

const smoke = process.argv.includes('--smoke');
const [photo, checkpoint] = process.argv.slice(2);
if (!smoke && checkpoint === undefined) throw new Error('expected a photograph and a checkpoint, or --smoke');

const small = {
  size: [32, 32],
  mean: [0.5, 0.5, 0.5],
  std: [0.5, 0.5, 0.5],
  interpolation: 'bicubic',
  cropPct: 1,
} as const;
const { model, input } = smoke
  ? { model: createModel('vit_micro_patch4_32', { numClasses: 10 }).eval(), input: small }
  : await loadModel(checkpoint).then(({ model, info }) => ({ model, input: info.input }));

const { steps, size, mean, std } = inputTransform(input);
const image = smoke ? drawShape(0, 7, 32).image : await readImage(photo);
const pixels = new Float32Array(3 * size[0] * size[1]);
normalizeInto(applySteps(image, steps, new SampleRandom(0, 0, 0)), mean, std, pixels, 0);

if (!(model instanceof VisionTransformer)) throw new Error(`expected a ViT in ${checkpoint}`);
// A hook sees the last block's queries, keys and values on their way, and keeps one row of softmax(q k^T / sqrt(d)).
const { attn } = model.blocks.at(-1)!;
let row: Tensor | undefined;
const unhook = attn.qkv.registerForwardHook((_, qkv) => {
  const [q, k] = unbind(
    rearrange(qkv, 'b n (three h d) -> three b h n d', { three: 3, h: attn.numHeads }),
    0,
  );
  const classToken = tensor([0], { dtype: 'int64' });
  row = keep(attentionRows(attn.qNorm?.call(q) ?? q, attn.kNorm?.call(k) ?? k, classToken)); // [1, heads, 1, N]
  return undefined; // the result stays as it is
});
inferenceMode(() => model.call(tensor(pixels, { shape: [1, 3, ...size] }))).dispose();
unhook();
if (row === undefined) throw new Error('expected the hook to see a forward pass');

const { patchSize, regTokens } = model.config;
const [height, width] = size.map((side) => Math.floor(side / patchSize));
const weights = Array.from(await row.data());
const tokens = weights.length / attn.numHeads;
for (let head = 0; head < attn.numHeads; head++) {
  const probabilities = weights.slice(head * tokens, (head + 1) * tokens);
  const sum = probabilities.reduce((total, p) => total + p, 0);
  if (Math.abs(sum - 1) > 1e-4) throw new Error(`expected attention that sums to 1, got ${sum}`);
  const patches = probabilities.slice(1 + regTokens); // after the class token and the registers
  const most = Math.max(...patches);
  console.log(`\nhead ${head}: ${(100 * probabilities[0]).toFixed(1)} % to the class token itself`);
  for (let y = 0; y < height; y++) {
    const line = Array.from(
      patches.slice(y * width, (y + 1) * width),
      (p) => ' .:-=+*#%@'[Math.floor((9 * p) / most)],
    );
    console.log(`  ${line.map((mark) => mark + mark).join('')}`);
  }
}
