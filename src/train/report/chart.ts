/**
 * Line charts as inline SVG. Colours are CSS variables, so that light and dark are the page's choice; a column of each
 * chart shows its numbers under the pointer or finger, by CSS alone.
 *
 * Plotting is ECharts', without a DOM.
 */
import { type EChartsType } from 'echarts/core';
import { type LineSeriesOption } from 'echarts/charts';

import { type Content, type Markup, html, raw } from './markup.js';

/** x and y; y may be NaN, a gap. */
export type Point = readonly [x: number, y: number];

export interface Line {
  readonly name: string;
  /** A CSS variable of the page. */
  readonly color: string;
  readonly points: readonly Point[];
  readonly dashed?: boolean;
  /** Background: thin, without numbers. */
  readonly faint?: boolean;
  /** x of a point to mark. */
  readonly mark?: number | undefined;
}

export interface Chart {
  readonly title: string;
  readonly note?: string | undefined;
  readonly xName: string;
  readonly xRange: readonly [min: number, max: number];
  /** y is a share: from 0 to 1 in fifths. Otherwise it follows the data. */
  readonly shares?: boolean;
  readonly lines: readonly Line[];
  /** y in full and, shorter, at the axis. */
  readonly format: (y: number) => string;
  readonly formatAxis: (y: number) => string;
}

const WIDTH = 460;
const HEIGHT = 250;
const PLOT = { left: 54, top: 28, right: 14, bottom: 40 };
/** More columns than this could not be told apart with a pointer. */
const MAX_COLUMNS = 200;
/** More points than this are drawn without dots. */
const MAX_DOTS = 12;

/** Draws charts. ECharts is loaded here, since it takes a while and nothing else needs it. */
export async function drawCharts(charts: readonly Chart[]): Promise<Markup[]> {
  if (charts.length === 0) return [];
  const [{ init, use }, { LineChart }, { GridComponent }, { SVGRenderer }] = await Promise.all([
    import('echarts/core'),
    import('echarts/charts'),
    import('echarts/components'),
    import('echarts/renderers'),
  ]);
  use([LineChart, GridComponent, SVGRenderer]);
  return charts.map((chart) => {
    const plot = init(null, null, { renderer: 'svg', ssr: true, width: WIDTH, height: HEIGHT });
    try {
      return draw(plot, chart);
    } finally {
      plot.dispose();
    }
  });
}

function draw(plot: EChartsType, chart: Chart): Markup {
  const label = { color: 'var(--muted)', fontSize: 12, fontFamily: 'inherit' };
  plot.setOption({
    animation: false,
    grid: { ...PLOT, outerBoundsMode: 'none' },
    xAxis: {
      type: 'value',
      silent: true,
      min: chart.xRange[0],
      max: chart.xRange[1],
      minInterval: 1,
      name: chart.xName,
      nameLocation: 'middle',
      nameGap: 24,
      nameTextStyle: label,
      axisLabel: { ...label, hideOverlap: true, formatter: wholeNumber },
      axisLine: { onZero: false, lineStyle: { color: 'var(--axis)' } },
      axisTick: { lineStyle: { color: 'var(--axis)' } },
      splitLine: { show: false },
    },
    yAxis: {
      type: 'value',
      silent: true,
      splitNumber: 4,
      axisLabel: { ...label, formatter: chart.formatAxis },
      splitLine: { lineStyle: { color: 'var(--line)' } },
      axisLine: { show: false },
      axisTick: { show: false },
      ...(chart.shares === true && { min: 0, max: 1, interval: 0.2 }),
    },
    series: chart.lines.map(series),
  });
  // Of the library's file only the drawing is kept: no XML namespaces, no styles of its own, and no clip paths, whose
  // names would differ from report to report. Nothing lies outside the plot.
  const drawing = plot
    .renderToSVGString()
    .replace(/^<svg[^>]*>/, '')
    .replace(/<\/svg>\s*$/, '')
    .replace(/<(defs|style)[\s\S]*?<\/\1>/g, '')
    .replace(/ (class="zr[^"]*"|clip-path="[^"]*"|pointer-events="visible")/g, '');
  return html`<figure class="card chart">
    <figcaption>
      <h3>${chart.title}${chart.note === undefined ? undefined : html` <small>${chart.note}</small>`}</h3>
      <div class="legend">${chart.lines.map((line) => legend(line, chart))}</div>
    </figcaption>
    <svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${chart.title}">
      ${raw(drawing)}${columns(plot, chart)}
    </svg>
  </figure>`;
}

/** Of a range from halves, ECharts would label the ends too. */
function wholeNumber(x: number): string {
  return Number.isInteger(x) ? x.toLocaleString('en') : '';
}

function series({ color, points, dashed, faint, mark }: Line): LineSeriesOption {
  const dots = faint !== true && points.length <= MAX_DOTS;
  return {
    type: 'line',
    silent: true,
    clip: false,
    showSymbol: true,
    showAllSymbol: true,
    symbol: dots ? 'circle' : 'none',
    symbolSize: 5,
    lineStyle: {
      color: `var(${color})`,
      width: faint === true ? 1 : 2,
      opacity: faint === true ? 0.35 : 1,
      type: dashed === true ? [6, 4] : 'solid',
    },
    itemStyle: { color: `var(${color})`, borderWidth: 0 },
    data: points.map(([x, y]) => {
      const value = [x, Number.isFinite(y) ? y : '-']; // ECharts' gap
      return x === mark ? { value, symbol: 'circle', symbolSize: 9 } : value;
    }),
  };
}

function legend({ name, color, dashed, faint, points }: Line, { format }: Chart): Markup {
  const last = points.findLast(([, y]) => Number.isFinite(y));
  const value = last === undefined || faint === true ? undefined : html` <b>${format(last[1])}</b>`;
  const dashes = dashed === true ? raw(' stroke-dasharray="6 4"') : undefined;
  const width = faint === true ? 1 : 2;
  return html`<span
    ><svg class="key" viewBox="0 0 22 8" aria-hidden="true">
      <path d="M1 4H21" stroke="var(${color})" stroke-width="${width}" ${dashes} /></svg
    >${name}${value}</span
  >`;
}

/** One column for each x of the lines: a hair line, dots, and the numbers above the plot. Hidden until pointed at. */
function columns(plot: EChartsType, { lines, xName, format }: Chart): Content {
  const shown = lines.filter(({ faint }) => faint !== true);
  const all = [...new Set(shown.flatMap(({ points }) => points.map(([x]) => x)))].sort((a, b) => a - b);
  const every = Math.ceil(all.length / MAX_COLUMNS);
  const xs = all.filter((_, i) => (all.length - 1 - i) % every === 0);
  const pixels = xs.map((x) => plot.convertToPixel({ xAxisIndex: 0 }, x));
  const [left, right, bottom] = [PLOT.left, WIDTH - PLOT.right, HEIGHT - PLOT.bottom];
  return xs.map((x, i) => {
    const center = pixels[i];
    const from = i === 0 ? left : (pixels[i - 1] + center) / 2;
    const to = i === xs.length - 1 ? right : (center + pixels[i + 1]) / 2;
    const here = shown.flatMap(({ name, color, points }) => {
      const point = points.find((candidate) => candidate[0] === x);
      return point !== undefined && Number.isFinite(point[1]) ? [{ name, color, y: point[1] }] : [];
    });
    const dots = here.map(
      ({ color, y }) =>
        html`<circle
          cx="${center.toFixed(1)}"
          cy="${plot.convertToPixel({ yAxisIndex: 0 }, y).toFixed(1)}"
          r="4"
          fill="var(${color})"
        />`,
    );
    const numbers = here.map(
      ({ name, color, y }) => html`<tspan dx="9" fill="var(${color})">${name} ${format(y)}</tspan>`,
    );
    return html`<g class="at"
      ><rect x="${from.toFixed(1)}" y="0" width="${(to - from).toFixed(1)}" height="${bottom}" /><path
        d="M${center.toFixed(1)} ${PLOT.top}V${bottom}"
      />${dots}<text x="${right}" y="15"
        >${xName} ${x.toLocaleString('en', { maximumFractionDigits: 2 })}${numbers}</text
      ></g
    >`;
  });
}
