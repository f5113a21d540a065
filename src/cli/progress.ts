/**
 * Showing training: a bar on a terminal, plain lines elsewhere.
 */
import { SingleBar } from 'cli-progress';

import type { EpochMetrics, StepEvent } from '../train/index.js';
import { formatShare, formatTime } from './format.js';

/** Seconds between two plain lines. */
const LINE_EVERY = 10;

export class Progress {
  private readonly epochs: number;
  private readonly bar: SingleBar | undefined;
  private barEpoch = -1;
  private lastLine = performance.now();
  private readonly started = performance.now();
  private done = 0;
  private first: number | undefined;

  constructor(epochs: number, stream: NodeJS.WriteStream = process.stdout) {
    this.epochs = epochs;
    this.bar = stream.isTTY
      ? new SingleBar({
          stream,
          format:
            'epoch {epoch} {bar} {value}/{total}  loss {loss}  acc {accuracy}  {speed} img/s  wait {wait}  left {left}',
          barsize: 20,
          hideCursor: true,
          clearOnComplete: true,
        })
      : undefined;
  }

  /** Seconds until the last epoch's end, by the pace so far. */
  private left(event: StepEvent): number {
    const at = event.epoch * event.batches + event.batch;
    this.first ??= at - 1;
    this.done = at - this.first;
    const perBatch = (performance.now() - this.started) / 1000 / this.done;
    return (this.epochs * event.batches - at) * perBatch;
  }

  step(event: StepEvent): void {
    const shown = {
      epoch: `${event.epoch + 1}/${this.epochs}`,
      loss: event.meanLoss.toFixed(3),
      accuracy: formatShare(event.accuracy),
      speed: event.imagesPerSecond.toFixed(0),
      wait: formatShare(event.dataWaitShare),
      left: formatTime(this.left(event)),
    };
    if (this.bar !== undefined) {
      if (this.barEpoch !== event.epoch) this.bar.start(event.batches, event.batch, shown);
      this.barEpoch = event.epoch;
      this.bar.update(event.batch, shown);
      return;
    }
    const now = performance.now();
    if (now - this.lastLine < LINE_EVERY * 1000) return;
    this.lastLine = now;
    console.log(
      `epoch ${shown.epoch}  batch ${event.batch}/${event.batches}  loss ${shown.loss}  accuracy ${shown.accuracy}  ` +
        `${shown.speed} images/s  data wait ${shown.wait}  left ${shown.left}`,
    );
  }

  epoch(metrics: EpochMetrics, best: boolean): void {
    this.stop();
    const { valLoss, valAccuracy, valTop5 } = metrics;
    const val =
      valAccuracy === undefined || valLoss === undefined || valTop5 === undefined
        ? ''
        : `  |  validation loss ${valLoss.toFixed(3)}  accuracy ${formatShare(valAccuracy)}  top-5 ${formatShare(valTop5)}`;
    console.log(
      `epoch ${metrics.epoch + 1}/${this.epochs}  loss ${metrics.trainLoss.toFixed(3)}  ` +
        `accuracy ${formatShare(metrics.trainAccuracy)}${val}${best ? '  best' : ''}  |  ` +
        `${metrics.imagesPerSecond.toFixed(0)} images/s  data wait ${formatShare(metrics.dataWaitShare)}  ` +
        formatTime(metrics.seconds),
    );
  }

  stop(): void {
    this.bar?.stop();
    this.barEpoch = -1;
    this.lastLine = performance.now();
  }
}
