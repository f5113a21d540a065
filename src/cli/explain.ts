import { mkdir } from 'node:fs/promises';
import { basename, extname, join } from 'node:path';

import { Command, Option } from 'commander';

import { EXPLAIN_METHODS, type ExplainMethod } from '../explain/index.js';
import { writeFileAtomic } from '../io/atomic.js';
import { loadPretrained } from '../models/index.js';
import { modelPath } from '../models/source.js';
import { explainFiles } from '../inference/index.js';
import { SETTINGS } from '../train/index.js';
import { whole } from './eval.js';
import { formatShare } from './format.js';
import { imageFiles, reportUnread } from './images.js';
import { settingsOf } from './settings.js';
import { formatTable } from './table.js';

/** `tenon explain` */
export function explainCommand(): Command {
  return new Command('explain')
    .description('draw which parts of images speak for a class')
    .argument('<images...>', 'files and folders')
    .requiredOption('--checkpoint <path>', "a run's folder, or a model's folder or file")
    .option('-o, --output <dir>', 'folder for the pictures', 'explained')
    .option('--class <name>', "the class to explain (default: each image's most probable)")
    .addOption(
      new Option(
        '--method <name>',
        'how (default: relevance for ViT and DeiT, activation for the others)',
      ).choices(EXPLAIN_METHODS),
    )
    .option('--stage <n>', "of activation: at whose end the map is (default: the last, Swin's first)")
    .option('-b, --batch-size <n>', 'images per batch', '8')
    .option('--device <name>', SETTINGS.device.help, 'cpu')
    .action(
      async (
        paths: string[],
        options: {
          checkpoint: string;
          output: string;
          class?: string;
          method?: ExplainMethod;
          stage?: string;
          batchSize: string;
          device: string;
        },
      ) => {
        const batchSize = whole('--batch-size', options.batchSize, 1);
        const stage = options.stage === undefined ? undefined : whole('--stage', options.stage, 1);
        const { device = 'cpu' } = settingsOf({ device: options.device });
        const files = await imageFiles('explain', paths);
        const { model, info } = await loadPretrained(modelPath('--checkpoint', options.checkpoint), {
          device,
        });
        try {
          await mkdir(options.output, { recursive: true });
          const names = new Set<string>();
          const rows: string[][] = [];
          const how = { label: options.class, method: options.method, stage, batchSize };
          for await (const seen of explainFiles(model.freeze(), info, files, how)) {
            if ('error' in seen) {
              reportUnread([seen]);
              continue;
            }
            const picture = join(options.output, pictureName(seen.path, names));
            await writeFileAtomic(picture, seen.png);
            rows.push([seen.path, seen.label, formatShare(seen.probability), picture]);
          }
          const head = ['image', 'class', 'probability', 'picture'];
          if (rows.length > 0) console.log(formatTable(head, rows, ['left', 'left', 'right', 'left']));
        } finally {
          model.dispose();
        }
      },
    );
}

/** A name of its own for each picture: that of the image, and a number where there was one before. */
function pictureName(path: string, names: Set<string>): string {
  const name = basename(path, extname(path));
  for (let n = 1; ; n++) {
    const picture = n === 1 ? `${name}.png` : `${name}-${n}.png`;
    if (names.has(picture)) continue;
    names.add(picture);
    return picture;
  }
}
