import { Command } from 'commander';

import { DataLoader, findData, openDataset } from '../data/index.js';
import { loadPretrained } from '../models/index.js';
import { modelPath } from '../models/source.js';
import { fail } from '../tensor/error.js';
import { type Evaluation, evaluate, inputTransform } from '../inference/index.js';
import { SETTINGS, describeClasses } from '../train/index.js';
import { splitOf } from './checkpoint.js';
import { describeSkipped, formatBalanced, plural, formatShare } from './format.js';
import { settingsOf } from './settings.js';
import { formatTable } from './table.js';

/** More classes than this are too many to read: the worst are shown. */
const SHOWN_CLASSES = 20;

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
          const evaluation = await evaluate(model, loader, { classes: info.classes.length, precision });
          const { loss, accuracy, balancedAccuracy, top5, images, imagesPerSecond } = evaluation;
          const perClass = evaluation.perClass.map((metrics, i) => ({ name: info.classes[i], ...metrics }));
          const { skipped } = loader.stats;
          if (options.json === true) {
            const all = {
              loss,
              accuracy,
              balancedAccuracy,
              top5,
              images,
              perClass,
              imagesPerSecond,
              skipped,
            };
            console.log(JSON.stringify(all, null, 2));
          } else {
            console.log(
              `${plural(images, 'image')}: accuracy ${formatShare(accuracy)}${formatBalanced(accuracy, balancedAccuracy)}, top-5 ${formatShare(top5)}, loss ${loss.toFixed(4)}, ` +
                `${imagesPerSecond.toFixed(0)} images/s`,
            );
            if (skipped.length > 0) console.log(describeSkipped(skipped));
            printClasses(perClass);
          }
        } finally {
          await loader.close();
          await dataset.close();
          model.dispose();
        }
      },
    );
}

/** A table of the classes; of many, those of the lowest F1, the worst first. */
function printClasses(perClass: readonly (Evaluation['perClass'][number] & { name: string })[]): void {
  const many = perClass.length > SHOWN_CLASSES;
  const known = perClass.filter(({ f1 }) => f1 !== null).sort((a, b) => (a.f1 ?? 0) - (b.f1 ?? 0));
  const shown = many ? known.slice(0, SHOWN_CLASSES) : perClass;
  const share = (x: number | null): string => (x === null ? '–' : formatShare(x));
  const rows = shown.map(({ name, images, precision, recall, f1 }) => [
    name,
    `${images}`,
    ...[precision, recall, f1].map(share),
  ]);
  const head = ['class', 'images', 'precision', 'recall', 'F1'];
  console.log(formatTable(head, rows, ['left', 'right', 'right', 'right', 'right']));
  if (many)
    console.log(`The ${shown.length} of ${perClass.length} classes with the lowest F1; --json has all.`);
}

/** A whole number of a flag. @throws TensorError VALUE */
export function whole(flag: string, text: string, least: number): number {
  const n = Number(text);
  if (!Number.isInteger(n) || n < least)
    fail(flag, 'VALUE', `expected a whole number of at least ${least}, got '${text}'`);
  return n;
}
