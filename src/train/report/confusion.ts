/**
 * What is taken for what: the confusion matrix, the most confused pairs, and the accuracy, precision and F1 of each class.
 */
import { balancedAccuracy, classMetrics } from '../../inference/class-metrics.js';
import { integer, percent, shortPercent } from './format.js';
import { type Markup, html } from './markup.js';

/** A larger matrix would be too small to read. */
const MATRIX_CLASSES = 20;
/** A matrix up to this fits half the page. */
const NARROW_CLASSES = 10;
const PAIRS = 20;
/** More classes than this are folded away but for the worst. */
const OPEN_CLASSES = 40;
const WORST = 20;

type Matrix = readonly (readonly number[])[];

/** Confusion and accuracy of the classes, side by side unless the matrix needs the width. */
export function classSections(classes: readonly string[], confusion: Matrix): Markup {
  const wide = classes.length > NARROW_CLASSES && classes.length <= MATRIX_CLASSES;
  return html`<div class="${wide ? 'stack' : 'pair'}">
    ${confusionSection(classes, confusion)}${accuracySection(classes, confusion)}
  </div>`;
}

/** Up to 20 classes the whole matrix, above that its 20 largest mistakes. */
function confusionSection(classes: readonly string[], confusion: Matrix): Markup {
  return classes.length <= MATRIX_CLASSES ? heatMap(classes, confusion) : confusedPairs(classes, confusion);
}

function heatMap(classes: readonly string[], confusion: Matrix): Markup {
  const rows = confusion.map((row, i) => {
    const total = sum(row);
    const cells = row.map((n, j) => {
      const share = total === 0 ? 0 : n / total;
      // Shares of the row, so that rare classes show too; the square root lifts rare mistakes to where they are seen.
      const heat = n === 0 ? 0 : 0.08 + 0.92 * Math.sqrt(share);
      const kind = [i === j ? 'hit' : 'miss', heat > 0.62 ? 'strong' : ''].join(' ').trim();
      const title = `${classes[i]} taken for ${classes[j]}: ${n} of ${total} (${shortPercent(share)})`;
      return html`<td class="${kind}" style="--heat:${heat.toFixed(3)}" title="${title}">
        ${n === 0 ? undefined : n}
      </td>`;
    });
    return html`<tr>
      <th scope="row" title="${classes[i]}"><span>${classes[i]}</span></th>
      ${cells}
    </tr>`;
  });
  return html`<section class="card">
    <h2>Confusion matrix</h2>
    <p class="note">
      Rows are the true classes, columns what the model took them for. Colours are shares of the row: blue is
      right, orange is wrong.
    </p>
    <div class="scroll">
      <table class="matrix">
        <thead>
          <tr>
            <td></td>
            ${classes.map((name) => html`<th scope="col" title="${name}"><span>${name}</span></th>`)}
          </tr>
        </thead>
        <tbody>
          ${rows}
        </tbody>
      </table>
    </div>
  </section>`;
}

function confusedPairs(classes: readonly string[], confusion: Matrix): Markup {
  const pairs = confusion
    .flatMap((row, truth) => row.map((n, guess) => ({ truth, guess, n })))
    .filter(({ truth, guess, n }) => truth !== guess && n > 0)
    .sort((a, b) => b.n - a.n)
    .slice(0, PAIRS);
  const rows = pairs.map(({ truth, guess, n }) => {
    const total = sum(confusion[truth]);
    return html`<tr>
      <td>${classes[truth]}</td>
      <td>${classes[guess]}</td>
      <td class="number">${integer(n)}</td>
      <td class="number">${shortPercent(n / total)}</td>
    </tr>`;
  });
  return html`<section class="card">
    <h2>Most confused classes</h2>
    ${
      pairs.length === 0
        ? html`<p class="note">No mistakes.</p>`
        : html`<div class="scroll">
            <table class="list">
              <thead>
                <tr>
                  <th scope="col">True class</th>
                  <th scope="col">Taken for</th>
                  <th scope="col" class="number">Images</th>
                  <th scope="col" class="number">Of the true class</th>
                </tr>
              </thead>
              <tbody>
                ${rows}
              </tbody>
            </table>
          </div>`
    }
  </section>`;
}

/** Bars of the share of each class that is right; many classes from the worst up. */
function accuracySection(classes: readonly string[], confusion: Matrix): Markup {
  const metrics = classMetrics(confusion);
  const rows = metrics.map(({ images, recall, precision, f1 }, i) => ({
    name: classes[i],
    right: confusion[i][i],
    total: images,
    share: recall ?? NaN,
    precision: precision ?? NaN,
    f1: f1 ?? NaN,
  }));
  const many = rows.length > OPEN_CLASSES;
  if (many) rows.sort((a, b) => rank(a) - rank(b) || b.total - a.total);
  const bars = rows.map(
    ({ name, right, total, share }) =>
      html`<li>
        <span class="name" title="${name}">${name}</span>
        <span class="bar"><i style="width:${(100 * (share || 0)).toFixed(1)}%"></i></span>
        <span class="number"
          >${total === 0 ? html`<small>no images</small>` : html`${shortPercent(share)} <small>${integer(right)} / ${integer(total)}</small>`}</span
        >
      </li>`,
  );
  const rest = html`<details>
    <summary>The other ${bars.length - WORST} classes</summary>
    <ul class="bars">
      ${bars.slice(WORST)}
    </ul>
  </details>`;
  return html`<section class="card">
    <h2>Accuracy of each class</h2>
    <p class="note">
      The mean of these is the balanced accuracy,
      ${percent(balancedAccuracy(metrics))}.${many ? ` The ${WORST} classes with the lowest accuracy first.` : ''}
    </p>
    <ul class="bars">
      ${many ? bars.slice(0, WORST) : bars}
    </ul>
    ${many ? rest : undefined} ${precisionTable(rows)}
  </section>`;
}

interface Row {
  readonly name: string;
  readonly total: number;
  readonly share: number;
  readonly precision: number;
  readonly f1: number;
}

/** What the bars do not say, folded away. */
function precisionTable(rows: readonly Row[]): Markup {
  const cell = (text: string): Markup => html`<td class="number">${text}</td>`;
  return html`<details>
    <summary>Precision and F1 of each class</summary>
    <p class="note">
      Precision is the share of the images taken for a class that are of it. Recall is the accuracy of the
      class, F1 the harmonic mean of both.
    </p>
    <div class="scroll">
      <table class="list">
        <thead>
          <tr>
            <th scope="col">Class</th>
            ${['Images', 'Precision', 'Recall', 'F1'].map((title) => html`<th scope="col" class="number">${title}</th>`)}
          </tr>
        </thead>
        <tbody>
          ${rows.map(
            ({ name, total, precision, share, f1 }) =>
              html`<tr>
                <td>${name}</td>
                ${cell(integer(total))} ${[precision, share, f1].map((x) => cell(shortPercent(x)))}
              </tr>`,
          )}
        </tbody>
      </table>
    </div>
  </details>`;
}

/** Classes without images come last. */
function rank({ total, share }: { readonly total: number; readonly share: number }): number {
  return total === 0 ? 2 : share;
}

function sum(row: readonly number[]): number {
  return row.reduce((a, b) => a + b, 0);
}
