import { Command, Option } from 'commander';

import { type LayoutName, type PretrainedReport, loadPretrained, savePretrained } from '../models/index.js';
import { modelPath } from '../models/source.js';

const LAYOUTS: readonly LayoutName[] = ['timm', 'hf', 'hf-current', 'original'];

/** `tenon convert` */
export function convertCommand(): Command {
  return new Command('convert')
    .description('write a model as another library names its tensors')
    .argument('<in>', "a run's folder, a folder of transformers or timm, or a file")
    .argument('<out>', 'the folder to write: config.json, model.safetensors and preprocessing')
    .addOption(
      new Option(
        '--layout <name>',
        "timm's names, transformers' (hf: as its files have them) or the authors'",
      )
        .choices(LAYOUTS)
        .makeOptionMandatory(),
    )
    .option('--model <name>', 'the registered model, for weights that do not say it')
    .action(async (from: string, to: string, options: { layout: LayoutName; model?: string }) => {
      const { model, info, report } = await loadPretrained(modelPath('convert', from), {
        model: options.model,
      });
      try {
        await savePretrained(to, model, info, options.layout);
        console.log(`${info.name}: ${describePretrained(report)}`);
        console.log(`Written to ${to} with the names of ${options.layout}`);
      } finally {
        model.dispose();
      }
    });
}

/** What was found, and what was changed to fit. */
export function describePretrained({ layout, resized, replaced, ignored }: PretrainedReport): string {
  return [
    `names of ${layout}`,
    ...(resized.length > 0 ? [`resized ${summary(resized)}`] : []),
    ...(replaced.length > 0 ? [`new weights for ${replaced.join(' and ')}`] : []),
    ...(ignored.length > 0 ? [`left out ${summary(ignored)}`] : []),
  ].join(', ');
}

function summary(names: readonly string[]): string {
  return names.length > 2 ? `${names[0]} and ${names.length - 1} more` : names.join(' and ');
}
