/**
 * The curves of a run: loss, accuracy, learning rate and speed over its epochs.
 */
import { saysMore } from '../../inference/class-metrics.js';
import { type Chart, type Line, type Point } from './chart.js';
import { type ReportData, type ReportEpoch, type ReportStep } from './data.js';
import { decimal, integer, percent, roundPercent, scientific } from './format.js';

/** Points of a curve over steps; more than the pixels of a plot would only be ink. */
const STEP_POINTS = 300;

/** The charts of a run; none without epochs. */
export function curves({ epochs, steps = [], classes, summary }: ReportData): Chart[] {
  if (epochs.length === 0) return [];
  const [first, last] = [epochs[0].epoch, epochs[epochs.length - 1].epoch];
  // Steps begin at the end of the epoch before; the dots of a lone epoch are in the middle.
  const start = steps.length > 0 ? first - 1 : first;
  const margin = start === last ? 0.5 : 0;
  const common = { xName: 'epoch', xRange: [start - margin, last + margin] } as const;
  const over = (key: Exclude<keyof ReportEpoch, 'epoch'>): Point[] =>
    epochs.flatMap((epoch) => {
      const y = epoch[key];
      return y === undefined ? [] : [[epoch.epoch, y] as const];
    });
  const byStep = (key: 'loss' | 'lr'): Point[] => stepPoints(steps, key, start, last);
  const drawn = (lines: readonly Line[]): Line[] => lines.filter(({ points }) => points.length > 0);

  const best = summary.bestEpoch ?? undefined;
  const accuracy = drawn([
    { name: 'validation', color: '--second', points: over('valAccuracy'), mark: best },
    // Where the classes have about as many images each, it is the accuracy.
    {
      name: 'balanced',
      color: '--second',
      points: summary.evalMetric === 'balanced' || epochs.some(differs) ? over('valBalancedAccuracy') : [],
      dashed: true,
      mark: summary.evalMetric === 'balanced' ? best : undefined,
    },
    // Of five classes or fewer, the five most probable are all.
    { name: 'top-5', color: '--third', points: classes.length > 5 ? over('valTop5') : [] },
    { name: 'training', color: '--first', points: over('trainAccuracy'), dashed: true },
  ]);
  const rates = byStep('lr');
  const charts: Chart[] = [
    {
      ...common,
      title: 'Loss',
      lines: drawn([
        { name: 'each step', color: '--first', points: byStep('loss'), faint: true },
        { name: 'training', color: '--first', points: over('trainLoss') },
        { name: 'validation', color: '--second', points: over('valLoss'), mark: best },
      ]),
      format: decimal,
      formatAxis: (y) => String(y),
    },
    {
      ...common,
      title: 'Accuracy',
      shares: true,
      lines: accuracy,
      format: percent,
      formatAxis: roundPercent,
    },
    {
      ...common,
      title: 'Learning rate',
      lines: [{ name: 'rate', color: '--first', points: rates.length > 0 ? rates : over('lr') }],
      format: scientific,
      formatAxis: scientific,
    },
    {
      ...common,
      title: 'Images per second',
      lines: [{ name: 'training', color: '--first', points: over('imagesPerSecond') }],
      format: integer,
      formatAxis: integer,
    },
  ];
  return charts.filter(({ lines }) => lines.length > 0);
}

/** Whether the balanced accuracy would be seen as another line than the accuracy. */
function differs({ valAccuracy = NaN, valBalancedAccuracy = valAccuracy }: ReportEpoch): boolean {
  return saysMore(valAccuracy, valBalancedAccuracy);
}

/** A value over the steps, at most `STEP_POINTS` means, placed so that the last step ends the last epoch. */
function stepPoints(steps: readonly ReportStep[], key: 'loss' | 'lr', start: number, end: number): Point[] {
  if (steps.length === 0) return [];
  const [from, to] = [steps[0].step - 1, steps[steps.length - 1].step];
  const size = Math.ceil(steps.length / STEP_POINTS);
  return Array.from({ length: Math.ceil(steps.length / size) }, (_, i) => {
    const bin = steps.slice(i * size, (i + 1) * size);
    const mean = (value: (step: ReportStep) => number): number =>
      bin.reduce((sum, step) => sum + value(step), 0) / bin.length;
    return [
      start + ((mean(({ step }) => step) - from) / (to - from)) * (end - start),
      mean((step) => step[key]),
    ];
  });
}
