/**
 * The experiment: every run that is not finished yet, and after each the tables and the plot of all that are.
 */
import type { Device } from '../../../src/index.js';
import { OutputFolder, type RunResult, json } from './folder.js';
import { type Run, type Scale, runsOf } from './plan.js';
import { plotAccuracies } from './plot.js';
import { TITLES, formatReport, reportOf } from './report.js';
import { openData, settingsOf, trainRun } from './run.js';

/** The files of results, in the output folder. */
const NAME = 'data-efficiency';

export interface ExperimentOptions {
  readonly scale: Scale;
  /** The scale's name. */
  readonly name: string;
  readonly out: string;
  readonly device: Device;
  /** Sees a line for each run. */
  readonly log: (line: string) => void;
}

/**
 * Runs what is left of the experiment. Results lie in `out`: `data-efficiency.md`, `.json` and `.svg`, and a file for each
 * run, which is not run again.
 *
 * @throws RangeError when the folder cannot be used; TensorError for data or a device that cannot
 */
export async function runExperiment(path: string, options: ExperimentOptions): Promise<void> {
  const { scale, name, device, log } = options;
  const folder = new OutputFolder(options.out);
  await folder.create();
  const data = await openData(path);
  try {
    const runs = runsOf(scale);
    const results: RunResult[] = [];
    for (const [i, run] of runs.entries()) {
      const finished = await folder.read(run, settingsOf(run, scale, data));
      const result = finished ?? (await trainRun(run, { scale, data, folder, device }));
      if (finished === undefined) await folder.write(result);
      results.push(result);
      log(`${i + 1}/${runs.length} ${describeRun(run, result)}${finished === undefined ? '' : ' (kept)'}`);
      const report = reportOf(name, scale, results);
      await folder.writeReport(`${NAME}.json`, json(report));
      await folder.writeReport(`${NAME}.md`, formatReport(report, `${NAME}.svg`));
      await folder.writeReport(`${NAME}.svg`, plotAccuracies(report.accuracies));
    }
    log(`${options.out}/${NAME}.md holds the results`);
  } finally {
    await data.test.close();
    await data.test.dataset.close();
  }
}

function describeRun({ kind, seed }: Run, { images, testAccuracy, seconds }: RunResult): string {
  const accuracy = `${(100 * testAccuracy).toFixed(1)} %`;
  return `${images} images, seed ${seed}, ${TITLES[kind]}: ${accuracy} after ${seconds.toFixed(0)} s`;
}
