/**
 * Names of the ResNet's tensors in transformers. timm and torchvision have Tenon's names.
 */
import type { ResNetConfig } from '../resnet.js';
import type { HfConfig, Json, Layout, Rule } from './layout.js';
import { expectValue, imageSizeOf, lacks, numberOf, numbersOf } from './transformers.js';

/** How much narrower transformers' bottlenecks are inside. */
const REDUCTION = 4;

const CONFIG: HfConfig = {
  architecture: 'ResNetForImageClassification',
  modelType: 'resnet',
  read: (json): Partial<ResNetConfig> & Json => {
    expectValue(json, 'hidden_act', 'relu');
    const bottleneck = (json['layer_type'] ?? 'bottleneck') === 'bottleneck';
    if (!bottleneck) expectValue(json, 'layer_type', 'basic');
    const widths = numbersOf(json, 'hidden_sizes', [256, 512, 1024, 2048]);
    return {
      imgSize: imageSizeOf(json),
      inChans: numberOf(json, 'num_channels', 3),
      block: bottleneck ? 'bottleneck' : 'basic',
      layers: numbersOf(json, 'depths', [3, 4, 6, 3]),
      channels: widths.map((width) => (bottleneck ? width / REDUCTION : width)),
      stemWidth: numberOf(json, 'embedding_size', 64),
      strideIn: json['downsample_in_bottleneck'] === true ? '1x1' : '3x3',
      downsampleFirst: json['downsample_in_first_stage'] === true,
    };
  },
  write: (settings) => {
    const config = settings as unknown as ResNetConfig;
    if (config.stem !== '7x7') return lacks('stem', config.stem, '7x7');
    const bottleneck = config.block === 'bottleneck';
    return {
      image_size: config.imgSize,
      num_channels: config.inChans,
      embedding_size: config.stemWidth,
      hidden_sizes: config.channels.map((width) => (bottleneck ? width * REDUCTION : width)),
      depths: config.layers,
      layer_type: config.block,
      hidden_act: 'relu',
      downsample_in_first_stage: config.downsampleFirst,
      downsample_in_bottleneck: config.strideIn === '1x1',
    };
  },
};

const layer = (name: string): string => `[resnet.]encoder.stages.{s-1}.layers.{i}.${name}`;

/** The layouts of ResNets. */
export const RESNET_LAYOUTS: readonly Layout[] = [
  {
    name: 'hf',
    mark: /^(resnet\.)?encoder\.stages\.\d+\.layers\./,
    config: CONFIG,
    rules: [
      ['conv1', '[resnet.]embedder.embedder.convolution'],
      ['bn1', '[resnet.]embedder.embedder.normalization'],
      ...[0, 1, 2].flatMap((k): Rule[] => [
        [`layer{s}.{i}.conv${k + 1}`, layer(`layer.${k}.convolution`)],
        [`layer{s}.{i}.bn${k + 1}`, layer(`layer.${k}.normalization`)],
      ]),
      ['layer{s}.{i}.downsample.0', layer('shortcut.convolution')],
      ['layer{s}.{i}.downsample.1', layer('shortcut.normalization')],
      ['fc', 'classifier.1'],
    ],
  },
];
