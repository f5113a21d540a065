/**
 * Layers: products, norms, convolutions, pooling and resizing.
 */
import type { Conv2dSettings } from '../../ops/conv2d.js';
import type { Pool2dSettings } from '../../ops/pool2d.js';
import type { Activation } from '../../ops/index.js';
import { fail } from '../../tensor/error.js';
import type { Graph, Input } from '../graph.js';
import type { Value } from '../program.js';
import { activated } from './elementwise.js';
import { type Translations, byArguments, expectFixed, fixed } from './translation.js';

const plus = (graph: Graph, x: Input, y: Input | undefined): Input =>
  y === undefined ? x : graph.node('Add', [x, y]);

function linear(graph: Graph, x: Input, weight: Value, bias: Value | undefined): Input {
  return plus(graph, graph.node('MatMul', [x, graph.transposed(weight)]), bias);
}

/** A vector of one value, for a parameter that ONNX asks for. */
const filled = (graph: Graph, value: number, size: number): string =>
  graph.numbers(new Array<number>(size).fill(value), [size], 'float32');

function layerNorm(
  graph: Graph,
  x: Input,
  channels: number,
  gamma: Value | undefined,
  beta: Value | undefined,
  eps: number,
): Input {
  const scale = gamma ?? filled(graph, 1, channels);
  return graph.node('LayerNormalization', [x, scale, ...(beta === undefined ? [] : [beta])], {
    axis: -1,
    epsilon: { float: eps },
  });
}

const channelsOf = (x: Value): number => fixed('layerNorm', x.shape[x.shape.length - 1]);

interface BatchNormSettings {
  readonly runningMean: Value | undefined;
  readonly runningVar: Value | undefined;
  readonly training: boolean;
  readonly eps: number;
  readonly relu: boolean;
}

/** Of a window that moves over an image. */
const windowOf = ({
  stride,
  padding,
}: {
  readonly stride: readonly number[];
  readonly padding: readonly number[];
}) => ({
  strides: stride,
  pads: [...padding, ...padding],
});

export const LAYERS: Translations = {
  matmul: byArguments((graph, [a, b]: [a: Value, b: Value]) => graph.node('MatMul', [a, b])),
  linear: byArguments(
    (
      graph,
      [x, weight, bias, residual, activation]: [
        x: Value,
        weight: Value,
        bias: Value | undefined,
        residual: Value | undefined,
        activation: Activation,
      ],
    ) => plus(graph, activated(graph, linear(graph, x, weight, bias), activation), residual),
  ),
  mlp: byArguments(
    (
      graph,
      [x, weight1, bias1, weight2, bias2, residual, activation]: [
        x: Value,
        weight1: Value,
        bias1: Value | undefined,
        weight2: Value,
        bias2: Value | undefined,
        residual: Value | undefined,
        activation: Activation,
      ],
    ) => {
      const hidden = activated(graph, linear(graph, x, weight1, bias1), activation);
      return plus(graph, linear(graph, hidden, weight2, bias2), residual);
    },
  ),
  layerNorm: byArguments(
    (
      graph,
      [x, gamma, beta, eps]: [x: Value, gamma: Value | undefined, beta: Value | undefined, eps: number],
    ) => layerNorm(graph, x, channelsOf(x), gamma, beta, eps),
  ),
  layerNormResidual: (graph, step) => {
    expectFixed(step);
    const [x, residual, gamma, beta, eps] = step.args as unknown as [
      x: Value,
      residual: Value,
      gamma: Value | undefined,
      beta: Value | undefined,
      eps: number,
    ];
    const sum = graph.node('Add', [x, residual]);
    return [layerNorm(graph, sum, channelsOf(x), gamma, beta, eps), sum];
  },
  conv2d: byArguments(
    (
      graph,
      [x, weight, bias, residual, settings]: [
        x: Value,
        weight: Value,
        bias: Value | undefined,
        residual: Value | undefined,
        settings: Conv2dSettings,
      ],
    ) => {
      const y = graph.node('Conv', [x, weight, ...(bias === undefined ? [] : [bias])], {
        kernel_shape: weight.shape.slice(2).map((n) => fixed('conv2d', n)),
        ...windowOf(settings),
        dilations: settings.dilation,
        group: settings.groups,
      });
      return activated(graph, plus(graph, y, residual), settings.relu ? 'relu' : 'none');
    },
  ),
  batchNorm: byArguments(
    (
      graph,
      [x, gamma, beta, residual, s]: [
        x: Value,
        gamma: Value | undefined,
        beta: Value | undefined,
        residual: Value | undefined,
        s: BatchNormSettings,
      ],
    ) => {
      if (s.training || s.runningMean === undefined || s.runningVar === undefined) {
        return fail(
          'exportOnnx',
          'VALUE',
          "expected 'batchNorm' with running statistics, as in evaluation, got one that takes those of the batch",
        );
      }
      const channels = fixed('batchNorm', x.shape[1]);
      const parameters = [gamma ?? filled(graph, 1, channels), beta ?? filled(graph, 0, channels)];
      const y = graph.node('BatchNormalization', [x, ...parameters, s.runningMean, s.runningVar], {
        epsilon: { float: s.eps },
      });
      return activated(graph, plus(graph, y, residual), s.relu ? 'relu' : 'none');
    },
  ),
  maxPool2d: byArguments((graph, [x, settings]: [x: Value, settings: Pool2dSettings]) =>
    graph.node('MaxPool', [x], {
      kernel_shape: settings.kernel,
      ...windowOf(settings),
      dilations: settings.dilation,
      ceil_mode: Number(settings.ceilMode),
    }),
  ),
  avgPool2d: byArguments((graph, [x, settings]: [x: Value, settings: Pool2dSettings]) =>
    graph.node('AveragePool', [x], {
      kernel_shape: settings.kernel,
      ...windowOf(settings),
      ceil_mode: Number(settings.ceilMode),
      count_include_pad: Number(settings.countPadding),
    }),
  ),
  adaptiveAvgPool2d: byArguments((graph, [x, size]: [x: Value, size: readonly number[]]) => {
    if (size.every((n) => n === 1)) return graph.node('GlobalAveragePool', [x]);
    const image = x.shape.slice(2).map((n) => fixed('adaptiveAvgPool2d', n));
    if (image.some((n, i) => n % size[i] !== 0)) {
      return fail(
        'exportOnnx',
        'VALUE',
        `expected 'adaptiveAvgPool2d' to a size that divides the image, got [${size.join(', ')}] of [${image.join(', ')}]`,
      );
    }
    const kernel = image.map((n, i) => n / size[i]);
    return graph.node('AveragePool', [x], { kernel_shape: kernel, strides: kernel });
  }),
  interpolate: byArguments(
    (
      graph,
      [x, s]: [
        x: Value,
        settings: {
          readonly height: number;
          readonly width: number;
          readonly mode: 'nearest' | 'bilinear' | 'bicubic';
          readonly antialias: boolean;
        },
      ],
    ) => {
      const mode = { nearest: 'nearest', bilinear: 'linear', bicubic: 'cubic' }[s.mode];
      return graph.node('Resize', [x, undefined, undefined, graph.integers([s.height, s.width])], {
        axes: [2, 3],
        mode,
        // PyTorch's: `nearest` rounds down, and looks at no centres.
        coordinate_transformation_mode: s.mode === 'nearest' ? 'asymmetric' : 'half_pixel',
        ...(s.mode === 'nearest' && { nearest_mode: 'floor' }),
        ...(s.mode === 'bicubic' && { cubic_coeff_a: { float: s.antialias ? -0.5 : -0.75 } }),
        ...(s.antialias && { antialias: 1, exclude_outside: 1 }),
      });
    },
  ),
};
