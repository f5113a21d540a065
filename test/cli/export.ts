/**
 * `tenon export`: a checkpoint becomes an ONNX file that gives its numbers.
 */
import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';

import test from 'ava';

import { type OnnxExport, saveModel, savePretrained } from '../../src/index.js';
import { expectSame } from '../helpers/onnx.js';
import { TINY_INFO, cliHere, oneSentence, temporaryFolder, tinyModel } from '../helpers/training.js';

test.serial('export writes a run, a file and a folder, and says what they take and give', async (t) => {
  const folder = await temporaryFolder(t);
  using model = tinyModel().eval();
  await mkdir(join(folder, 'run/checkpoints'), { recursive: true });
  await saveModel(join(folder, 'run/checkpoints/best.safetensors'), model.stateDict(), TINY_INFO);
  await savePretrained(join(folder, 'hf'), model, TINY_INFO, 'hf');
  for (const from of ['run', 'run/checkpoints/best.safetensors', 'hf']) {
    const { code, stdout, stderr } = await cliHere(folder, ['export', from, 'tiny.onnx']);
    t.is(code, 0, stderr);
    t.regex(
      stdout,
      /^tiny\.onnx: [\d.]+ KiB, opset 20, images \[batch, 3, 8, 8\] -> logits \[batch, 3\], float32; .*\n$/,
    );
  }
  const { stdout } = await cliHere(folder, ['export', 'hf', 'json.onnx', '--json']);
  const { model: info, ...written } = JSON.parse(stdout) as OnnxExport & { readonly model: typeof TINY_INFO };
  t.deepEqual(info.classes, TINY_INFO.classes);
  t.deepEqual(info.input.mean, TINY_INFO.input.mean);
  await expectSame(t, model, { ...written, path: join(folder, written.path) }, [3, 8, 8]);
});

test.serial('what export cannot read or write is one sentence and exit code 1', async (t) => {
  const folder = await temporaryFolder(t);
  using model = tinyModel();
  await saveModel(join(folder, 'model.safetensors'), model.stateDict(), TINY_INFO);
  const cases: readonly (readonly [args: readonly string[], expected: RegExp])[] = [
    [
      ['missing', 'out.onnx'],
      /^tenon: export: expected a run's folder, .* got missing, which does not exist\n$/,
    ],
    [['model.safetensors', 'none/out.onnx'], /^tenon: export: expected a folder that exists, got none\n$/],
    [['model.safetensors', '.'], /^tenon: export: expected a file, got the folder \.\n$/],
    [['model.safetensors'], /missing required argument 'out'/],
  ];
  for (const [args, expected] of cases) {
    const result = await cliHere(folder, ['export', ...args]);
    oneSentence(t, result, expected);
    t.is(result.stdout, '');
  }
  t.deepEqual(await readdir(folder), ['model.safetensors']);
});
