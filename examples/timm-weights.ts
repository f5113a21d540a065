/**
 * Loads weights in timm's safetensors layout into a ViT of another image size and other classes: positions are resized,
 * the old head is left out, and a report says what fits.
 *
 *   node dist/examples/timm-weights.js model.safetensors     # of vit_tiny_patch16_224, from timm
 *   node dist/examples/timm-weights.js --smoke               # writes such a file itself
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import {
  createModel,
  inferenceMode,
  normal,
  readSafetensors,
  resizePositions,
  saveSafetensors,
} from '../src/index.js';

const smoke = process.argv.includes('--smoke');
const name = 'vit_tiny_patch16_224';
const depth = smoke ? 2 : 12;
const folder = smoke ? await mkdtemp(join(tmpdir(), 'tenon-example-')) : '';
const path = smoke ? join(folder, 'model.safetensors') : process.argv[2];
if (path === undefined) throw new Error('expected a safetensors file, or --smoke');
if (smoke) await saveSafetensors(path, createModel(name, { depth }).stateDict());

const { tensors } = await readSafetensors(path);
console.log(`${Object.keys(tensors).length} tensors, positions ${tensors['pos_embed'].shape.join(' x ')}`);

const model = createModel(name, { depth, imgSize: 160, numClasses: 5 });
const { pos_embed: positions, ['head.weight']: _weight, ['head.bias']: _bias, ...rest } = tensors;
const resized = resizePositions(positions.to('float32'), [14, 14], [10, 10], 1); // after the class token
const report = model.loadStateDict({ ...rest, pos_embed: resized }, { strict: false });
console.log('missing, to be trained:', report.missing.join(', '));
console.log('unexpected:', report.unexpected.join(', ') || 'none');
for (const tensor of Object.values(tensors)) tensor.dispose();

const logits = inferenceMode(() => model.eval().call(normal([1, 3, 160, 160])));
console.log('logits', await logits.data());
if (smoke) await rm(folder, { recursive: true });
