import { readdirSync, statSync } from 'node:fs';
import { extname, join } from 'node:path';

import Table from 'cli-table3';
import { Command } from 'commander';

import { predict } from '../train/index.js';
import { loadModel } from '../models/index.js';
import { fail } from '../tensor/error.js';
import { modelFile } from './checkpoint.js';
import { whole } from './eval.js';
import { formatShare } from './format.js';

const IMAGES = new Set(['.jpg', '.jpeg', '.png', '.webp', '.gif', '.tif', '.tiff', '.avif']);

/** The images that paths name: files, and those in folders, in order. */
function imageFiles(paths: readonly string[]): string[] {
  return paths.flatMap((path) => {
    const stat = statSync(path, { throwIfNoEntry: false });
    if (stat === undefined)
      return fail('predict', 'IO', `expected an image or a folder, got ${path}, which does not exist`);
    if (!stat.isDirectory()) return [path];
    const found = readdirSync(path, { recursive: true, encoding: 'utf8' })
      .filter((file) => IMAGES.has(extname(file).toLowerCase()))
      .sort()
      .map((file) => join(path, file));
    return found.length > 0 ? found : fail('predict', 'IO', `expected images in ${path}, found none`);
  });
}

/** `tenon predict` */
export function predictCommand(): Command {
  return new Command('predict')
    .description('name what is in images')
    .argument('<images...>', 'files and folders')
    .requiredOption('--checkpoint <path>', "a run's folder or a model's file")
    .option('-k, --topk <n>', 'classes to name', '5')
    .option('-b, --batch-size <n>', 'images per batch', '32')
    .option('--json', 'print JSON')
    .action(
      async (
        paths: string[],
        options: { checkpoint: string; topk: string; batchSize: string; json?: boolean },
      ) => {
        const topk = whole('--topk', options.topk, 1);
        const batchSize = whole('--batch-size', options.batchSize, 1);
        const files = imageFiles(paths);
        const { model, info } = await loadModel(modelFile(options.checkpoint));
        try {
          const results = await predict(model, info, files, { topk, batchSize });
          if (options.json === true) {
            console.log(JSON.stringify(results, null, 2));
          } else {
            const table = new Table({
              head: ['image', 'class', 'probability'],
              style: { head: [], border: [] },
            });
            for (const result of results) {
              if ('error' in result) table.push([result.path, { colSpan: 2, content: result.error }]);
              else {
                result.top.forEach(({ label, probability }, i) =>
                  table.push([i === 0 ? result.path : '', label, formatShare(probability)]),
                );
              }
            }
            console.log(table.toString());
          }
          if (results.some((result) => 'error' in result)) process.exitCode = 1;
        } finally {
          model.dispose();
        }
      },
    );
}
