import { Command, Option } from 'commander';

import { saveSafetensors } from '../io/index.js';
import { tensor } from '../ops/index.js';
import { embed, loadForInference } from '../inference/index.js';
import { SETTINGS } from '../train/index.js';
import { whole } from './eval.js';
import { imageFiles, reportUnread } from './images.js';
import { expectPlace } from './place.js';
import { settingsOf } from './settings.js';

/** `tenon embed` */
export function embedCommand(): Command {
  return new Command('embed')
    .description('give images as vectors, to find alike ones by')
    .argument('<images...>', 'files and folders')
    .requiredOption('--checkpoint <path>', "a run's folder, or a model's folder or file")
    .option('-o, --output <file>', 'safetensors: embeddings [N, D]; metadata: paths, a JSON array of N')
    .addOption(new Option('--json', 'print JSON instead').conflicts('output'))
    .option('--no-normalize', "leave the vectors' lengths: features as the head reads them")
    .option('-b, --batch-size <n>', 'images per batch', '32')
    .option('-j, --workers <n>', 'threads that decode images')
    .option('--precision <name>', SETTINGS.precision.help, 'float32')
    .option('--device <name>', SETTINGS.device.help, 'cpu')
    .action(
      async (
        paths: string[],
        options: {
          checkpoint: string;
          output?: string;
          json?: boolean;
          normalize: boolean;
          batchSize: string;
          workers?: string;
          precision: string;
          device: string;
        },
        command: Command,
      ) => {
        if (options.output === undefined && options.json !== true)
          command.error('expected --output or --json, got neither');
        const batchSize = whole('--batch-size', options.batchSize, 1);
        const workers = options.workers === undefined ? undefined : whole('--workers', options.workers, 0);
        const { precision = 'float32', device = 'cpu' } = settingsOf({
          precision: options.precision,
          device: options.device,
        });
        if (options.output !== undefined) await expectPlace('--output', options.output);
        const files = await imageFiles('embed', paths);
        const { model, info } = await loadForInference('--checkpoint', options.checkpoint, { device });
        try {
          const { normalize } = options;
          const results = await embed(model, info, files, { batchSize, workers, precision, normalize });
          const found = results.flatMap((result) => ('error' in result ? [] : [result]));
          if (options.output === undefined) {
            const plain = results.map((result) =>
              'error' in result ? result : { ...result, embedding: [...result.embedding] },
            );
            console.log(JSON.stringify(plain));
          } else if (found.length > 0) {
            await save(options.output, found, { model: info.name, normalized: String(normalize) });
            console.log(`${options.output}: ${found.length} vectors of ${found[0].embedding.length} numbers`);
          }
          reportUnread(results);
        } finally {
          model.dispose();
        }
      },
    );
}

async function save(
  path: string,
  found: readonly { readonly path: string; readonly embedding: Float32Array }[],
  metadata: Readonly<Record<string, string>>,
): Promise<void> {
  const size = found[0].embedding.length;
  const values = new Float32Array(found.length * size);
  for (const [i, { embedding }] of found.entries()) values.set(embedding, i * size);
  using embeddings = tensor(values, { shape: [found.length, size] });
  const paths = JSON.stringify(found.map((file) => file.path));
  await saveSafetensors(path, { embeddings }, { ...metadata, paths });
}
