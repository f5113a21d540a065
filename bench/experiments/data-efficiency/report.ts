/**
 * What the experiment found: as data, and as Markdown.
 */
import { commit, describeMachine } from '../../machine.js';
import { cpuInfo, versions } from '../../../src/index.js';
import type { RunResult } from './folder.js';
import { KINDS, type Kind, type ModelChoice, type Recipe, type Scale, countModel } from './plan.js';
import { type Accuracy, type Gain, accuraciesOf, gainsOf } from './summary.js';

/** The kinds as a reader sees them. */
export const TITLES: Readonly<Record<Kind, string>> = {
  cnn: 'CNN (teacher)',
  vit: 'ViT',
  swin: 'Swin',
  'deit-soft': 'DeiT, soft',
  'deit-hard': 'DeiT, hard',
};

/** A model in numbers. */
interface ModelLine extends ModelChoice {
  readonly kind: Kind;
  readonly parameters: number;
  /** For one image. */
  readonly multiplyAccumulates: number;
}

/** The file of results. */
export interface Report {
  readonly date: string;
  readonly machine: ReturnType<typeof describeMachine> & { readonly instructionSet: string };
  readonly commit: string | undefined;
  readonly versions: Readonly<Record<string, string>>;
  /** The scale's name. */
  readonly scale: string;
  readonly testImages: number;
  readonly recipe: Recipe;
  readonly models: readonly ModelLine[];
  readonly accuracies: readonly Accuracy[];
  /** DeiT with hard distillation over the ViT. */
  readonly gains: readonly Gain[];
  /** Of all trainings and evaluations. */
  readonly seconds: number;
}

/** @param results those of one scale, at least one */
export function reportOf(name: string, { models, recipe }: Scale, results: readonly RunResult[]): Report {
  const { classes, testImages } = results[0].settings.data;
  return {
    date: new Date().toISOString().slice(0, 10),
    machine: { ...describeMachine(), instructionSet: cpuInfo().instructionSet },
    commit: commit(),
    versions: versions(),
    scale: name,
    testImages,
    recipe,
    models: KINDS.map((kind) => {
      const { parameters, macs } = countModel(models[kind], classes);
      return { kind, ...models[kind], parameters, multiplyAccumulates: macs };
    }),
    accuracies: accuraciesOf(results),
    gains: gainsOf(results, 'deit-hard', 'vit'),
    seconds: Math.round(results.reduce((sum, { seconds }) => sum + seconds, 0)),
  };
}

/** Tables for a reader; the plot is expected beside them under `plot`'s name. */
export function formatReport(report: Report, plot: string): string {
  const { machine, recipe, scale } = report;
  const commitText = report.commit === undefined ? '' : `, commit ${report.commit}`;
  return `# Accuracy against data

Scale \`${scale}\`, ${report.date}, ${machine.cores} cores with ${machine.instructionSet}${commitText}. Every run saw
${count(recipe.images)} images in batches of ${recipe.batchSize}; trainings and evaluations took ${Math.round(report.seconds / 60)} minutes.

## The models

${table(
  ['', 'Parameters', 'Multiply-accumulates'],
  report.models.map(({ kind, parameters, multiplyAccumulates }) => [
    TITLES[kind],
    `${(parameters / 1e6).toFixed(2)} M`,
    `${(multiplyAccumulates / 1e6).toFixed(1)} M`,
  ]),
)}

## Accuracy on ${count(report.testImages)} test images

Percent: the mean over seeds ± the standard deviation between them.

${accuracyTable(report.accuracies)}

![Accuracy against the share of the training images](${plot})

## What the teacher is worth

DeiT with hard distillation less the ViT, in points. The spread is the larger of their standard deviations between seeds.

${table(
  ['Training images', 'Seeds', 'Difference', 'Spread', 'Difference / spread', 'Least at one seed'],
  report.gains.map(({ share, seeds, difference, spread, least }) => [
    imagesOf(report.accuracies, share),
    String(seeds),
    signed(difference),
    spread === undefined ? '' : percent(spread),
    spread === undefined ? '' : (difference / spread).toFixed(1),
    signed(least),
  ]),
)}
`;
}

function accuracyTable(accuracies: readonly Accuracy[]): string {
  const shares = [...new Set(accuracies.map(({ share }) => share))];
  return table(
    ['Training images', 'Seeds', ...KINDS.map((kind) => TITLES[kind])],
    shares.map((share) => {
      const own = accuracies.filter((accuracy) => accuracy.share === share);
      const cells = KINDS.map((kind) => {
        const found = own.find((accuracy) => accuracy.kind === kind);
        if (found === undefined) return '';
        const { mean, deviation } = found;
        return percent(mean) + (deviation === undefined ? '' : ` ± ${percent(deviation)}`);
      });
      const seeds = Math.max(...own.map((accuracy) => accuracy.accuracies.length));
      return [imagesOf(accuracies, share), String(seeds), ...cells];
    }),
  );
}

/** `5,000 (10 %)` */
function imagesOf(accuracies: readonly Accuracy[], share: number): string {
  const images = accuracies.find((accuracy) => accuracy.share === share)?.images ?? 0;
  return `${count(images)} (${+(100 * share).toPrecision(3)} %)`;
}

const count = (value: number): string => value.toLocaleString('en');
const percent = (value: number): string => (100 * value).toFixed(1);
const signed = (value: number): string => `${value < 0 ? '-' : '+'}${percent(Math.abs(value))}`;

/** A table as Prettier writes it: the first column to the left, the others to the right. */
function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, i) => Math.max(3, title.length, ...rows.map((row) => row[i].length)));
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join(' | ')} |`;
  const rule = widths.map((width, i) => (i === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`));
  return [line(head), line(rule), ...rows.map(line)].join('\n');
}
