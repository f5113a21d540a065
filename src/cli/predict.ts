import { Command } from 'commander';

import { TOPK, loadForInference, predict } from '../inference/index.js';
import { SETTINGS } from '../train/index.js';
import { whole } from './eval.js';
import { formatShare } from './format.js';
import { imageFiles, reportUnread } from './images.js';
import { settingsOf } from './settings.js';
import { formatTable } from './table.js';

/** `tenon predict` */
export function predictCommand(): Command {
  return new Command('predict')
    .description('name what is in images')
    .argument('<images...>', 'files and folders')
    .requiredOption('--checkpoint <path>', "a run's folder, or a model's folder or file")
    .option('-k, --topk <n>', 'classes to name', String(TOPK))
    .option('-b, --batch-size <n>', 'images per batch', '32')
    .option('-j, --workers <n>', 'threads that decode images')
    .option('--precision <name>', SETTINGS.precision.help, 'float32')
    .option('--device <name>', SETTINGS.device.help, 'cpu')
    .option('--json', 'print JSON')
    .action(
      async (
        paths: string[],
        options: {
          checkpoint: string;
          topk: string;
          batchSize: string;
          workers?: string;
          precision: string;
          device: string;
          json?: boolean;
        },
      ) => {
        const topk = whole('--topk', options.topk, 1);
        const batchSize = whole('--batch-size', options.batchSize, 1);
        const workers = options.workers === undefined ? undefined : whole('--workers', options.workers, 0);
        const { precision = 'float32', device = 'cpu' } = settingsOf({
          precision: options.precision,
          device: options.device,
        });
        const files = await imageFiles('predict', paths);
        const { model, info } = await loadForInference('--checkpoint', options.checkpoint, { device });
        try {
          const results = await predict(model, info, files, { topk, batchSize, workers, precision });
          if (options.json === true) {
            console.log(JSON.stringify(results, null, 2));
          } else {
            const rows = results.flatMap((result) =>
              'error' in result
                ? []
                : result.top.map(({ label, probability }, i) => [
                    i === 0 ? result.path : '',
                    label,
                    formatShare(probability),
                  ]),
            );
            const head = ['image', 'class', 'probability'];
            if (rows.length > 0) console.log(formatTable(head, rows, ['left', 'left', 'right']));
          }
          reportUnread(results);
        } finally {
          model.dispose();
        }
      },
    );
}
