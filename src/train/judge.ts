/**
 * What a report shows of a run's best model: what it confuses, and some of its predictions with what speaks for them.
 */
import type { BatchSource, Dataset } from '../data/index.js';
import { loadModel } from '../models/index.js';
import { evaluate, type Precision, type Prediction } from '../inference/index.js';
import { explainImages } from '../inference/explain.js';
import type { TrainConfig } from './config.js';
import type { ReportData, ReportSample } from './report.js';

/** How many predictions a report shows. */
const SAMPLES = 24;

/** What a model is judged by, and where. */
export interface JudgeOptions extends Pick<TrainConfig, 'device' | 'batchSize'> {
  readonly images: Dataset;
  /** The same images as the model takes them. */
  readonly batches: BatchSource;
  readonly precision: Precision;
}

/** Judges the model of a file. */
export async function judge(
  file: string,
  { images, batches, precision, device, batchSize }: JudgeOptions,
): Promise<Pick<ReportData, 'confusion'> & { samples: ReportSample[] }> {
  const { model, info } = await loadModel(file, { device });
  const { classes } = info;
  try {
    const predictions: Prediction[] = [];
    const { confusion } = await evaluate(model, batches, {
      classes: classes.length,
      precision,
      onPrediction: (prediction) => predictions.push(prediction),
    });
    const shown = samplesOf(predictions);
    const pictures = await Promise.all(shown.map(({ index }) => images.read(index)));
    const few = Math.min(4, batchSize); // explaining takes the memory of training
    const explained = await explainImages(model.freeze(), info, pictures, { batchSize: few, minSize: 128 });
    const { thumbnail } = await import('./report.js');
    const samples = await Promise.all(
      shown.map(async ({ label, top }, i) => ({
        png: await thumbnail(pictures[i]),
        explained: explained[i].png,
        truth: classes[label],
        top: top.map((guess) => ({ label: classes[guess.label], probability: guess.probability })),
      })),
    );
    return { confusion, samples };
  } finally {
    model.dispose();
  }
}

/** What the report shows. Half of the samples are mistakes, where there are enough: they come last. */
function samplesOf(predictions: readonly Prediction[]): Prediction[] {
  const wrong = predictions.filter(({ label, top }) => top[0].label !== label);
  const right = predictions.filter(({ label, top }) => top[0].label === label);
  const mistakes = spread(wrong, SAMPLES / 2);
  return [...spread(right, SAMPLES - mistakes.length), ...mistakes];
}

/** `n` items, evenly from the whole list. */
function spread<T>(items: readonly T[], n: number): T[] {
  if (items.length <= n) return [...items];
  return Array.from({ length: n }, (_, i) => items[Math.floor((i * items.length) / n)]);
}
