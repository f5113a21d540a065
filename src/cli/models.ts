import Table from 'cli-table3';
import { Command } from 'commander';

import { describeModel, listModels } from '../models/index.js';
import { formatCount } from './format.js';

/** `tenon models` */
export function modelsCommand(): Command {
  return new Command('models')
    .description('list the registered models with their parameters and GFLOPs')
    .argument('[filter]', 'part of a name; * stands for anything')
    .option('--json', 'print JSON')
    .action((filter: string | undefined, options: { json?: boolean }) => {
      const entries = listModels(filter).map(describeModel);
      if (options.json === true) {
        console.log(JSON.stringify(entries, null, 2));
        return;
      }
      const table = new Table({
        head: ['model', 'image', 'parameters', 'GFLOPs'],
        colAligns: ['left', 'right', 'right', 'right'],
        style: { head: [], border: [] },
      });
      for (const { name, imgSize, parameters, gflops } of entries) {
        table.push([name, imgSize.join(' x '), formatCount(parameters), gflops.toFixed(2)]);
      }
      console.log(table.toString());
      console.log('GFLOPs: 2 for each multiply-accumulate of one image.');
    });
}
