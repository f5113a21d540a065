/**
 * The report of a training run: one HTML file with everything in it, to look at, keep and send. It runs no scripts and
 * asks the network for nothing, which its content security policy also forbids it.
 */
import { saysMore } from '../inference/class-metrics.js';
import { writeFileAtomic } from '../io/atomic.js';
import { fail } from '../tensor/error.js';
import { drawCharts } from './report/chart.js';
import { classSections } from './report/confusion.js';
import { curves } from './report/curves.js';
import { type ReportData } from './report/data.js';
import {
  bytes,
  count,
  decimal,
  duration,
  integer,
  percent,
  scientific,
  shortPercent,
} from './report/format.js';
import { type Markup, html, raw } from './report/markup.js';
import { sampleSection } from './report/samples.js';
import { STYLE } from './report/style.js';

export type { ReportData, ReportEpoch, ReportSample, ReportStep, ReportSummary } from './report/data.js';
export { thumbnail } from './report/samples.js';

/**
 * Writes the report of a run as one HTML file: the run in numbers, curves, confusion matrix, accuracy of each class,
 * sample predictions, settings and versions. Parts whose data is absent are left out.
 *
 * @throws TensorError SHAPE when the confusion matrix is not `[classes, classes]`; IO when the file cannot be written
 * @example
 * await writeReport('runs/demo/report.html', data);
 */
export async function writeReport(path: string, data: ReportData): Promise<void> {
  check(data);
  const page = await render(data);
  await writeFileAtomic(path, page.text);
}

function check({ classes, confusion }: ReportData): void {
  if (confusion === undefined) return;
  const n = classes.length;
  if (confusion.length === n && confusion.every((row) => row.length === n)) return;
  const widths = [...new Set(confusion.map((row) => row.length))].join(' or ');
  fail(
    'writeReport',
    'SHAPE',
    `expected a confusion matrix [${n}, ${n}], one row for each class, got [${confusion.length}, ${widths}]`,
  );
}

async function render(data: ReportData): Promise<Markup> {
  const { name, classes, confusion, samples = [], epochs } = data;
  const charts = await drawCharts(curves(data));
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta
          http-equiv="Content-Security-Policy"
          content="default-src 'none'; img-src data:; style-src 'unsafe-inline'"
        />
        <title>${name} – training report</title>
        <style>
          ${raw(STYLE)}
        </style>
      </head>
      <body>
        <main>
          ${header(data)} ${tiles(data)} ${skipped(data)}
          ${charts.length > 0 ? html`<div class="charts">${charts}</div>` : undefined}
          ${charts.length > 0 ? curveNote(data) : undefined}
          ${epochs.length > 0 ? epochTable(data) : undefined}
          ${confusion !== undefined ? classSections(classes, confusion) : undefined}
          ${samples.length > 0 ? sampleSection(samples) : undefined}
          ${table('Configuration', Object.entries(data.config))}
          ${table('Versions', Object.entries(data.versions))}
        </main>
      </body>
    </html> `;
}

/** What the curves do not say of themselves. */
function curveNote({ config, epochs, summary }: ReportData): Markup | undefined {
  if (epochs.every(({ valLoss }) => valLoss === undefined)) return undefined;
  const isAbove0 = (key: string): boolean => Number(config[key] ?? 0) > 0;
  const isMixed = isAbove0('mixup') || isAbove0('cutmix') || config['cutmixMinmax'] !== undefined;
  const parts = [
    config['bceLoss'] === true ? 'binary cross-entropy' : undefined,
    config['classWeights'] === 'balanced' ? 'weights of classes' : undefined,
    isAbove0('smoothing') ? 'smoothed labels' : undefined,
    isMixed ? 'mixed images' : undefined,
    (config['distillation'] ?? 'none') === 'none' ? undefined : 'a teacher',
  ].filter((part) => part !== undefined);
  const difference = ` The training loss is with ${parts.join(', ')}, that of the validation the cross-entropy with the true classes: they do not compare.`;
  const best = {
    accuracy: '',
    balanced: ', that of the highest balanced accuracy',
    loss: ', that of the lowest validation loss',
  }[summary.evalMetric ?? 'accuracy'];
  return html`<p class="note">
    The large dot is the best epoch${best}.${parts.length > 0 ? difference : ''}
  </p>`;
}

function header({ name, classes, summary }: ReportData): Markup {
  const { model, trainImages, valImages } = summary;
  const facts = [
    model,
    `${integer(classes.length)} ${classes.length === 1 ? 'class' : 'classes'}`,
    trainImages === undefined ? undefined : `${integer(trainImages)} training images`,
    valImages === undefined ? undefined : `${integer(valImages)} validation images`,
  ];
  return html`<header>
    <h1>${name}</h1>
    <p class="facts">${facts.filter((fact) => fact !== undefined).join(' · ')}</p>
  </header>`;
}

function tiles({ epochs, summary }: ReportData): Markup {
  const { dataWaitShare, peakTensorBytes, parameters } = summary;
  const { plannedEpochs = epochs.length, trainedParameters = parameters } = summary;
  const planned = epochs.length < plannedEpochs ? ` of ${integer(plannedEpochs)}` : '';
  const trained = trainedParameters < parameters ? ` · ${count(trainedParameters)} of them trained` : '';
  const last = epochs.at(-1);
  return html`<dl class="tiles">
    ${bestTile(summary) ?? tile('Training loss', decimal(last?.trainLoss ?? NaN), 'last epoch; no validation', 'lead')}
    ${tile('Epochs', integer(epochs.length) + planned, last === undefined ? '' : `last loss ${decimal(last.trainLoss)}`)}
    ${tile(
      'Images/s',
      integer(summary.imagesPerSecond),
      dataWaitShare === undefined ? '' : `data wait ${shortPercent(dataWaitShare)}`,
    )}
    ${tile(
      'Time',
      duration(summary.seconds),
      epochs.length < 2 ? '' : `${duration(summary.seconds / epochs.length)} per epoch`,
    )}
    ${tile(
      'Peak memory',
      bytes(summary.peakMemoryBytes),
      peakTensorBytes === undefined ? '' : `tensors ${bytes(peakTensorBytes)}`,
    )}
    ${tile('Parameters', count(parameters), integer(parameters) + trained)}
  </dl>`;
}

/** The best epoch, by what it is best in. */
function bestTile(summary: ReportData['summary']): Markup | undefined {
  const { evalMetric = 'accuracy' } = summary;
  const valAccuracy = summary.valAccuracy ?? undefined;
  if (valAccuracy === undefined) return undefined;
  const valBalanced = summary.valBalancedAccuracy ?? valAccuracy;
  const balanced = percent(valBalanced);
  const accuracy = percent(valAccuracy);
  const valTop5 = summary.valTop5 ?? undefined;
  const bestEpoch = summary.bestEpoch ?? undefined;
  const [name, value] = {
    accuracy: ['Best validation accuracy', accuracy],
    balanced: ['Best balanced accuracy', balanced],
    loss: ['Lowest validation loss', decimal(summary.valLoss ?? NaN)],
  }[evalMetric];
  const details = [
    bestEpoch === undefined ? undefined : `epoch ${bestEpoch}`,
    evalMetric === 'accuracy' ? undefined : `accuracy ${accuracy}`,
    evalMetric === 'balanced' || !saysMore(valAccuracy, valBalanced) ? undefined : `balanced ${balanced}`,
    valTop5 === undefined ? undefined : `top-5 ${percent(valTop5)}`,
  ].filter((detail) => detail !== undefined);
  return tile(name, value, details.join(' · '), 'lead');
}

function tile(name: string, value: string, detail: string, kind = ''): Markup {
  return html`<div class="card tile ${kind}">
    <dt>${name}</dt>
    <dd>
      <strong>${value}</strong>
      ${detail === '' ? undefined : html`<small>${detail}</small>`}
    </dd>
  </div>`;
}

function skipped({ summary: { skippedImages = [] } }: ReportData): Markup | undefined {
  const n = skippedImages.length;
  if (n === 0) return undefined;
  return html`<details class="card warning">
    <summary>${n === 1 ? '1 damaged image was' : `${integer(n)} damaged images were`} left out</summary>
    <ul>
      ${skippedImages.map(({ path, reason }) => html`<li>${path}: ${reason}</li>`)}
    </ul>
  </details>`;
}

/** The numbers behind the curves, folded away. */
function epochTable({ epochs }: ReportData): Markup {
  const columns = [
    ['Training loss', 'trainLoss', decimal],
    ['Training accuracy', 'trainAccuracy', percent],
    ['Validation loss', 'valLoss', decimal],
    ['Validation accuracy', 'valAccuracy', percent],
    ['Balanced accuracy', 'valBalancedAccuracy', percent],
    ['Top-5', 'valTop5', percent],
    ['Learning rate', 'lr', scientific],
    ['Images/s', 'imagesPerSecond', integer],
    ['Waiting', 'dataWaitShare', percent],
  ] as const;
  const shown = columns.filter(([, key]) => epochs.some((epoch) => epoch[key] !== undefined));
  return html`<details class="card">
    <summary>Every epoch in numbers</summary>
    <div class="scroll">
      <table class="list">
        <thead>
          <tr>
            <th scope="col">Epoch</th>
            ${shown.map(([title]) => html`<th scope="col" class="number">${title}</th>`)}
          </tr>
        </thead>
        <tbody>
          ${epochs.map(
            (epoch) =>
              html`<tr>
                <td>${epoch.epoch}</td>
                ${shown.map(([, key, format]) => html`<td class="number">${format(epoch[key] ?? NaN)}</td>`)}
              </tr>`,
          )}
        </tbody>
      </table>
    </div>
  </details>`;
}

function table(title: string, entries: readonly (readonly [string, unknown])[]): Markup | undefined {
  const shown = entries.filter(([, value]) => value !== undefined);
  if (shown.length === 0) return undefined;
  return html`<section class="card">
    <h2>${title}</h2>
    <dl class="settings">
      ${shown.map(
        ([key, value]) =>
          html`<div>
            <dt>${key}</dt>
            <dd>${setting(value)}</dd>
          </div>`,
      )}
    </dl>
  </section>`;
}

/** A setting in words: lists as `0.9, 0.999`, objects as JSON. */
function setting(value: unknown): string {
  if (typeof value === 'string') return value;
  if (typeof value === 'number') {
    return String(Number.isInteger(value) ? value : Number(value.toPrecision(6)));
  }
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  if (value === null) return 'none';
  if (Array.isArray(value)) return value.map(setting).join(', ');
  if (typeof value === 'object' && Object.keys(value).length === 0) return 'none';
  return JSON.stringify(value) ?? typeof value;
}
