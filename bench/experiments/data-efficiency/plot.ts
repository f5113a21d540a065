/**
 * Accuracy against data, as an SVG file: a line through the means, and a dot for each seed.
 */
import { LineChart, ScatterChart } from 'echarts/charts';
import { GridComponent, LegendComponent } from 'echarts/components';
import { init, use } from 'echarts/core';
import { SVGRenderer } from 'echarts/renderers';

import { KINDS, type Kind } from './plan.js';
import { TITLES } from './report.js';
import type { Accuracy } from './summary.js';

use([LineChart, ScatterChart, GridComponent, LegendComponent, SVGRenderer]);

/** Okabe and Ito's colours, which colour-blind readers can tell apart. */
const COLORS: Readonly<Record<Kind, string>> = {
  cnn: '#000000',
  vit: '#0072b2',
  swin: '#009e73',
  'deit-soft': '#e69f00',
  'deit-hard': '#d55e00',
};

/** Percent of training images to the right, logarithmic; percent of test images known upwards. */
export function plotAccuracies(accuracies: readonly Accuracy[]): string {
  const kinds = KINDS.filter((kind) => accuracies.some((accuracy) => accuracy.kind === kind));
  const chart = init(null, null, { renderer: 'svg', ssr: true, width: 640, height: 420 });
  try {
    chart.setOption({
      animation: false,
      backgroundColor: '#ffffff',
      grid: { left: 60, right: 24, top: 48, bottom: 56 },
      legend: { top: 8, data: kinds.map((kind) => TITLES[kind]) },
      xAxis: {
        type: 'log',
        min: 1,
        max: 100,
        name: 'training images (%)',
        nameLocation: 'middle',
        nameGap: 32,
      },
      yAxis: { type: 'value', scale: true, name: 'test accuracy (%)', nameLocation: 'middle', nameGap: 40 },
      series: kinds.flatMap((kind) => {
        const own = accuracies.filter((accuracy) => accuracy.kind === kind);
        const color = COLORS[kind];
        return [
          {
            type: 'line',
            name: TITLES[kind],
            color,
            symbol: 'circle',
            symbolSize: 7,
            data: own.map(({ share, mean }) => [100 * share, 100 * mean]),
          },
          {
            type: 'scatter',
            color,
            symbolSize: 4,
            data: own.flatMap(({ share, accuracies: seeds }) =>
              seeds.map((seed) => [100 * share, 100 * seed]),
            ),
          },
        ];
      }),
    });
    return `${chart.renderToSVGString()}\n`;
  } finally {
    chart.dispose();
  }
}
