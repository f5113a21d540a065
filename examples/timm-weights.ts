/**
 * Loads weights in timm's safetensors layout into a ViT of another image size and other classes: positions are resized,
 * the head is new, and a report says so.
 *
 *   node dist/examples/timm-weights.js model.safetensors     # of vit_tiny_patch16_224, from timm
 *   node dist/examples/timm-weights.js --smoke               # writes such a file itself
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { createModel, inferenceMode, loadPretrained, normal, saveSafetensors } from '../src/index.js';

const smoke = process.argv.includes('--smoke');
const name = 'vit_tiny_patch16_224';
const depth = smoke ? 2 : 12;
const folder = smoke ? await mkdtemp(join(tmpdir(), 'tenon-example-')) : '';
const path = smoke ? join(folder, 'model.safetensors') : process.argv[2];
if (path === undefined) throw new Error('expected a safetensors file, or --smoke');
if (smoke) await saveSafetensors(path, createModel(name, { depth }).stateDict());

const { model, info, report } = await loadPretrained(path, {
  model: name,
  classes: ['bird', 'cat', 'dog', 'fish', 'fox'],
  settings: { depth, imgSize: 160 },
});
console.log('resized:', report.resized.join(', '));
console.log('new, to be trained:', report.replaced.join(', '));

const logits = inferenceMode(() => model.call(normal([1, 3, ...info.input.size])));
console.log('logits', await logits.data());
if (smoke) await rm(folder, { recursive: true });
