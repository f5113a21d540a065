/**
 * Showing training: a bar on a terminal, plain lines elsewhere.
 */
import { SingleBar } from 'cli-progress';

import type { EpochMetrics, StepEvent } from '../train/index.js';
import { formatBalanced, formatShare, formatTime } from './format.js';

/** Seconds between two plain lines. */
const LINE_EVERY = 10;

/** Columns of the text beside a bar, at its longest. */
const TEXT = 71;

export class Progress {
  private readonly epochs: number;
  private readonly valImages: number;
  private readonly bar: SingleBar | undefined;
  /** What the bar shows, undefined when there is none. */
  private label: string | undefined;
  private lastLine = performance.now();
  private readonly started = performance.now();
  private first: number | undefined;

  constructor(epochs: number, valImages: number, stream: NodeJS.WriteStream = process.stdout) {
    this.epochs = epochs;
    this.valImages = valImages;
    this.bar = stream.isTTY
      ? new SingleBar({
          stream,
          format: '{label} {bar}  {facts}',
          barCompleteChar: '█',
          barIncompleteChar: '░',
          barsize: Math.max(4, Math.min(30, stream.columns - TEXT)),
          hideCursor: true,
          clearOnComplete: true,
        })
      : undefined;
  }

  /** Seconds until the last epoch's end, by the pace so far. */
  private left(event: StepEvent): number {
    const at = event.epoch * event.batches + event.batch;
    this.first ??= at - 1;
    const perBatch = (performance.now() - this.started) / 1000 / (at - this.first);
    return (this.epochs * event.batches - at) * perBatch;
  }

  private show(label: string, value: number, total: number, facts: string): void {
    if (this.label !== label) {
      this.bar?.stop();
      this.bar?.start(total, value, { label, facts });
      this.label = label;
    }
    this.bar?.update(value, { facts });
  }

  step(event: StepEvent): void {
    const label = `epoch ${event.epoch + 1}/${this.epochs}`;
    const loss = event.meanLoss.toFixed(3);
    const accuracy = formatShare(event.accuracy);
    const speed = event.imagesPerSecond.toFixed(0);
    const wait = `${(100 * event.dataWaitShare).toFixed(0)} %`;
    const left = formatTime(this.left(event));
    if (this.bar !== undefined) {
      const facts = `loss ${loss}  acc ${accuracy}  ${speed} img/s  wait ${wait}  left ${left}`;
      this.show(label, event.batch, event.batches, facts);
      return;
    }
    const now = performance.now();
    if (now - this.lastLine < LINE_EVERY * 1000) return;
    this.lastLine = now;
    console.log(
      `${label}  batch ${event.batch}/${event.batches}  loss ${loss}  accuracy ${accuracy}  ` +
        `${speed} images/s  data wait ${wait}  left ${left}`,
    );
  }

  evaluated(images: number): void {
    if (this.bar !== undefined)
      this.show('evaluating', images, this.valImages, `${images}/${this.valImages} images`);
  }

  epoch(metrics: EpochMetrics, best: boolean): void {
    this.stop();
    const { epoch, trainLoss, trainAccuracy, valLoss, valAccuracy, valBalancedAccuracy } = metrics;
    const val =
      valAccuracy === undefined || valLoss === undefined
        ? ''
        : `  |  validation loss ${valLoss.toFixed(3)}  accuracy ${formatShare(valAccuracy)}${formatBalanced(valAccuracy, valBalancedAccuracy)}`;
    console.log(
      `epoch ${epoch + 1}/${this.epochs}  loss ${trainLoss.toFixed(3)}  accuracy ${formatShare(trainAccuracy)}` +
        `${val}  |  ${metrics.imagesPerSecond.toFixed(0)} images/s  ${formatTime(metrics.seconds)}${best ? '  best' : ''}`,
    );
  }

  stop(): void {
    this.bar?.stop();
    this.label = undefined;
    this.lastLine = performance.now();
  }
}
