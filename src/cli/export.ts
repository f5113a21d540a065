import { Command } from 'commander';

import { loadPretrained } from '../models/index.js';
import { modelPath } from '../models/source.js';
import { type OnnxExport, type OnnxValue, exportOnnx } from '../onnx/index.js';
import { formatBytes } from './format.js';
import { expectPlace } from './place.js';

/** `tenon export` */
export function exportCommand(): Command {
  return new Command('export')
    .description('write a model as an ONNX file, for other runtimes')
    .argument('<checkpoint>', "a run's folder, or a model's folder or file")
    .argument('<out>', 'the file to write, such as model.onnx')
    .option('--model <name>', 'the registered model, for weights that do not say it')
    .option('--json', 'print JSON')
    .action(async (from: string, to: string, options: { model?: string; json?: boolean }) => {
      await expectPlace('export', to);
      const { model, info } = await loadPretrained(modelPath('export', from), { model: options.model });
      try {
        const written = await exportOnnx(to, model, { info });
        if (options.json === true) console.log(JSON.stringify({ ...written, model: info }, null, 2));
        else console.log(describeExport(written));
      } finally {
        model.dispose();
      }
    });
}

/** What was written, and what goes in and comes out of it. */
function describeExport({ path, dataPath, bytes, opset, input, output }: OnnxExport): string {
  const files = dataPath === undefined ? path : `${path} and ${dataPath}`;
  const value = ({ name, shape }: OnnxValue): string => `${name} [${shape.join(', ')}]`;
  const use = "the metadata's 'tenon.model' has the classes and how images are prepared";
  return `${files}: ${formatBytes(bytes)}, opset ${opset}, ${value(input)} -> ${value(output)}, float32; ${use}`;
}
