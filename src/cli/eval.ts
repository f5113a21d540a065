import { Command } from 'commander';

import { DataLoader, findData, openDataset } from '../data/index.js';
import { loadPretrained } from '../models/index.js';
import { modelPath } from '../models/source.js';
import { fail } from '../tensor/error.js';
import { evaluate, inputTransform } from '../inference/index.js';
import { SETTINGS, describeClasses } from '../train/index.js';
import { splitOf } from './checkpoint.js';
import { describeSkipped, plural, formatShare } from './format.js';
import { settingsOf } from './settings.js';

/** `tenon eval` */
export function evalCommand(): Command {
  return new Command('eval')
    .description('evaluate a model on the validation images of some data')
    .argument('<data>', 'as for train')
    .requiredOption('--checkpoint <path>', "a run's folder, or a model's folder or file")
    .option('-b, --batch-size <n>', 'images per batch', '128')
    .option('-j, --workers <n>', 'threads that decode images')
    .option('--precision <name>', SETTINGS.precision.help, 'float32')
    .option('--device <name>', SETTINGS.device.help, 'cpu')
    .option('--json', 'print JSON')
    .action(
      async (
        data: string,
        options: {
          checkpoint: string;
          batchSize: string;
          workers?: string;
          precision: string;
          device: string;
          json?: boolean;
        },
      ) => {
        const batchSize = whole('--batch-size', options.batchSize, 1);
        const { precision = 'float32', device = 'cpu' } = settingsOf({
          precision: options.precision,
          device: options.device,
        });
        const { model, info } = await loadPretrained(modelPath('--checkpoint', options.checkpoint), {
          device,
        });
        // A run's own split: its training images must not come back as validation images.
        const { val } = await findData(data, await splitOf(options.checkpoint));
        const dataset = await openDataset(val);
        if (dataset.classes.join('\n') !== info.classes.join('\n')) {
          fail(
            'eval',
            'VALUE',
            `expected data of the model's ${describeClasses(info.classes)}, got ${describeClasses(dataset.classes)}`,
          );
        }
        const loader = new DataLoader(dataset, {
          batchSize,
          transform: inputTransform(info.input),
          onCorrupt: 'skip',
          ...(options.workers !== undefined && { workers: whole('--workers', options.workers, 0) }),
        });
        try {
          const { loss, accuracy, top5, images, imagesPerSecond } = await evaluate(model, loader, {
            classes: info.classes.length,
            precision,
          });
          const { skipped } = loader.stats;
          if (options.json === true) {
            console.log(JSON.stringify({ loss, accuracy, top5, images, imagesPerSecond, skipped }, null, 2));
          } else {
            console.log(
              `${plural(images, 'image')}: accuracy ${formatShare(accuracy)}, top-5 ${formatShare(top5)}, loss ${loss.toFixed(4)}, ` +
                `${imagesPerSecond.toFixed(0)} images/s`,
            );
            if (skipped.length > 0) console.log(describeSkipped(skipped));
          }
        } finally {
          await loader.close();
          await dataset.close();
          model.dispose();
        }
      },
    );
}

/** A whole number of a flag. @throws TensorError VALUE */
export function whole(flag: string, text: string, least: number): number {
  const n = Number(text);
  if (!Number.isInteger(n) || n < least)
    fail(flag, 'VALUE', `expected a whole number of at least ${least}, got '${text}'`);
  return n;
}
