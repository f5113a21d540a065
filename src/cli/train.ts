import { Command } from 'commander';

import { fail } from '../tensor/error.js';
import {
  RunFolder,
  type RunResult,
  SETTINGS,
  type TrainRunOptions,
  type TrainConfig,
  describeClasses,
  resolveSettings,
  resume,
  train,
} from '../train/index.js';
import { describePretrained } from './convert.js';
import {
  describeSkipped,
  formatBalanced,
  formatBytes,
  formatCount,
  plural,
  formatShare,
  formatTime,
} from './format.js';
import { Progress } from './progress.js';
import { addSettings, readSettingsFile, settingsOf } from './settings.js';

/** `tenon train` */
export function trainCommand(): Command {
  const command = new Command('train')
    .description('train a model on images; writes runs/NAME/ with checkpoints, metrics and a report')
    .argument('[data]', "'shapes' (built in), a folder of images by class, tar shards, CIFAR or MNIST files")
    .option(
      '--resume <folder>',
      'continue a run that was stopped, exactly as if it had not been; [data] says where its images are now',
    )
    .option(
      '--config <file>',
      'settings from YAML or JSON; flags override them (what is on: by --no-bce-loss, --aug)',
    )
    .option('--print-config', 'write all settings as YAML for --config, and stop');
  addSettings(command);
  return command.action(async (data: string | undefined, options: Record<string, unknown>) => {
    const given = settingsOf(options);
    const folder = options['resume'] as string | undefined;
    const file = options['config'] as string | undefined;
    let run: (options: TrainRunOptions) => Promise<RunResult>;
    if (folder !== undefined) {
      const extra = [...Object.keys(given), ...(file === undefined ? [] : ['config'])];
      if (extra.length > 0) {
        fail(
          'train',
          'VALUE',
          `expected no settings beside --resume: a run continues with its own, got ${extra.join(', ')}`,
        );
      }
      if (options['printConfig'] === true) {
        const { config } = await RunFolder.open(folder).readConfig();
        console.log(configText(data ?? config.data, config));
        return;
      }
      run = (runOptions) => resume(folder, { ...runOptions, data });
    } else {
      const settings = { ...(file === undefined ? {} : await readSettingsFile(file)), ...given };
      const source = data ?? fail('train', 'VALUE', "expected what to train on: a path, or 'shapes'");
      if (options['printConfig'] === true) {
        console.log(configText(source, await resolveSettings(source, settings)));
        return;
      }
      run = (runOptions) => train(source, settings, runOptions);
    }
    await show(run);
  });
}

/** A configuration file that says everything. */
function configText(source: string, config: TrainConfig): string {
  const lines = (Object.keys(SETTINGS) as (keyof typeof SETTINGS)[])
    .filter((key) => config[key] !== undefined)
    .map((key) => `${key}: ${JSON.stringify(config[key])}`); // JSON is YAML
  return [`# tenon train ${source} --config <this file>`, ...lines].join('\n');
}

/** The largest class has so many times the images of the smallest before a run says so. */
const UNEQUAL = 5;

/** Lines about classes with very different numbers of images, about those with none, and about weights. */
function describeBalance(
  classes: readonly string[],
  images: readonly number[],
  weights: readonly number[] | undefined,
): string[] {
  const bySize = [...images.keys()].sort((a, b) => images[b] - images[a]);
  const present = bySize.filter((i) => images[i] > 0);
  const [most, fewest] = [present[0], present[present.length - 1]];
  const lines: string[] = [];
  if (present.length < classes.length) {
    const absent = describeClasses(classes.filter((_, i) => images[i] === 0));
    lines.push(`No training images of ${absent}: nothing teaches them`);
  }
  if (weights !== undefined) {
    const weight = (i: number): string => `${+weights[i].toPrecision(3)} (${classes[i]})`;
    lines.push(`Class weights from ${weight(most)} to ${weight(fewest)}`);
  } else if (images[most] > UNEQUAL * images[fewest]) {
    lines.push(
      `Classes are unequal: ${plural(images[most], 'training image')} of ${classes[most]}, ${images[fewest]} of ${classes[fewest]}; see --class-weights and --eval-metric`,
    );
  }
  return lines;
}

async function show(run: (options: TrainRunOptions) => Promise<RunResult>): Promise<void> {
  let progress: Progress | undefined;
  const stop = new AbortController();
  let exitCode = 130;
  const interrupt = (name: NodeJS.Signals, signal: number): void => {
    exitCode = 128 + signal;
    progress?.stop();
    if (stop.signal.aborted) {
      // A second Ctrl-C does not wait: an exit would, for the work that is queued. The signal's own effect is at once.
      process.off(name, interrupt);
      process.kill(process.pid, name);
      return;
    }
    console.error('Stopping after this step; press Ctrl-C again to stop at once.');
    stop.abort();
  };
  process.on('SIGINT', interrupt);
  process.on('SIGTERM', interrupt);
  try {
    const result = await run({
      signal: stop.signal,
      onStart: ({
        folder,
        config,
        parameters,
        trained,
        classes,
        trainImages,
        valImages,
        classImages,
        classWeights,
        workers,
        epoch,
        complete,
        pretrained,
      }) => {
        const some = trained < parameters ? `, ${formatCount(trained)} of them trained` : '';
        const [height, width = height] = [config.imgSize].flat();
        console.log(
          `${config.model}, ${height} x ${width} pixels, ${formatCount(parameters)} parameters${some}`,
        );
        console.log(
          `${plural(classes.length, 'class', 'classes')}, ${trainImages} training and ` +
            `${plural(valImages, 'validation image')}, ${plural(workers, 'decoding thread')}`,
        );
        for (const line of describeBalance(classes, classImages, classWeights)) console.log(line);
        if (pretrained !== undefined)
          console.log(`Weights of ${config.pretrained}: ${describePretrained(pretrained)}`);
        if (config.distillation !== 'none') {
          console.log(
            `Learning from ${config.teacher}: ${config.distillation} distillation, ` +
              `${formatShare(config.distillationAlpha)} of the loss`,
          );
        }
        if (config.mixup > 0 || config.cutmix > 0 || config.cutmixMinmax !== undefined)
          console.log('Images are mixed: training accuracy is that of the class with the larger share');
        console.log(
          complete
            ? `${folder} is complete; writing its report again`
            : epoch === 0
              ? `Writing to ${folder}`
              : `Continuing ${folder} at epoch ${epoch + 1}`,
        );
        progress = new Progress(config.epochs, valImages);
      },
      onStep: (event) => progress?.step(event),
      onEvaluated: (images) => progress?.evaluated(images),
      onEpoch: (metrics, best) => progress?.epoch(metrics, best),
    });
    progress?.stop();
    if (!result.finished) {
      console.log(`Stopped. Continue with: tenon train --resume ${result.folder}`);
      process.exitCode = exitCode;
      return;
    }
    const { summary, report, samples } = result;
    if (summary === undefined) return;
    if (summary.skippedImages.length > 0) {
      console.log(describeSkipped(summary.skippedImages));
    }
    if (summary.epochs < summary.plannedEpochs) {
      console.log(
        `Ended after epoch ${summary.epochs} of ${summary.plannedEpochs}: none was better than epoch ${summary.bestEpoch}`,
      );
    }
    const { evalMetric, valAccuracy, valBalancedAccuracy, valLoss } = summary;
    const loss = evalMetric === 'loss' && valLoss !== null ? `, loss ${valLoss.toFixed(4)}` : '';
    const accuracy =
      valAccuracy === null
        ? ''
        : `validation accuracy ${formatShare(valAccuracy)}${formatBalanced(valAccuracy, valBalancedAccuracy ?? valAccuracy)}${loss}, `;
    console.log(
      `Done: ${accuracy}${summary.imagesPerSecond.toFixed(0)} images/s, ${formatTime(summary.seconds)}, ` +
        `${formatBytes(summary.peakMemoryBytes)} of memory`,
    );
    console.log(`Report: ${report}`);
    const trial = `${samples ?? '<images>'} --checkpoint ${result.folder}`;
    console.log(`Try it: npx tenon predict ${trial}`);
    console.log(`See why: npx tenon explain ${trial}`);
  } finally {
    progress?.stop();
    process.off('SIGINT', interrupt);
    process.off('SIGTERM', interrupt);
  }
}
