/**
 * `npm run experiment:data-efficiency -- <data> [--quick | --full] [--out DIR]`
 */
import { Command, InvalidArgumentError, Option } from 'commander';

import { type Device, TensorError, isDeviceName } from '../../../src/index.js';
import { runExperiment } from './experiment.js';
import { SCALES, type ScaleName } from './plan.js';

interface Options {
  readonly quick?: true;
  readonly full?: true;
  readonly out?: string;
  readonly device: Device;
}

function deviceOf(text: string): Device {
  if (isDeviceName(text)) return text;
  throw new InvalidArgumentError('Expected cpu, cuda or cuda:N.');
}

const program = new Command('data-efficiency')
  .description('Accuracy against data: a CNN, transformers, and transformers that learn from the CNN.')
  .argument('<data>', 'images of classes, such as a folder of CIFAR-10')
  .addOption(new Option('--quick', 'a few minutes').conflicts('full'))
  .addOption(new Option('--full', 'larger models and longer training, for a GPU'))
  .option(
    '--out <dir>',
    'folder of results, whose finished runs are kept (default: runs/data-efficiency-SCALE)',
  )
  .option('--device <name>', 'cpu, cuda or cuda:N', deviceOf, 'cpu')
  .action(async (data: string, { quick, full, out, device }: Options) => {
    const name: ScaleName = quick ? 'quick' : full ? 'full' : 'small';
    await runExperiment(data, {
      name,
      scale: SCALES[name],
      out: out ?? `runs/data-efficiency-${name}`,
      device,
      log: console.log,
    });
  });

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof RangeError || error instanceof TensorError)) throw error; // a defect: its stack is wanted
  console.error(error.message);
  process.exitCode = 1;
}
