import { Command } from 'commander';

import { describeModel, listModels } from '../models/index.js';
import { fail } from '../tensor/error.js';
import { formatCount } from './format.js';
import { formatTable } from './table.js';

/** `tenon models` */
export function modelsCommand(): Command {
  return new Command('models')
    .description('list the registered models with their parameters and GFLOPs')
    .argument('[filter]', 'part of a name; * stands for anything')
    .option('--json', 'print JSON')
    .action((filter: string | undefined, options: { json?: boolean }) => {
      const entries = listModels(filter).map(describeModel);
      if (entries.length === 0) fail('models', 'VALUE', `expected part of a model's name, got '${filter}'`);
      if (options.json === true) {
        console.log(JSON.stringify(entries, null, 2));
        return;
      }
      const rows = entries.map(({ name, imgSize, parameters, gflops }) => [
        name,
        imgSize.join(' x '),
        formatCount(parameters),
        gflops.toFixed(2),
      ]);
      const head = ['model', 'image', 'parameters', 'GFLOPs'];
      console.log(formatTable(head, rows, ['left', 'right', 'right', 'right']));
      console.log('GFLOPs: 2 for each multiply-accumulate of one image.');
    });
}
