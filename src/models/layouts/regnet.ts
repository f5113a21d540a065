/**
 * Names of the RegNetY's tensors in transformers and torchvision. timm and DeiT's authors have Tenon's names.
 */
import type { RegNetConfig } from '../regnet.js';
import type { HfConfig, Json, Layout, Rule } from './layout.js';
import { expectValue, imageSizeOf, lacks, numberOf, numbersOf } from './transformers.js';

/** transformers' squeeze-and-excitation has a quarter of the input's channels. */
const SE_RATIO = 0.25;

const CONFIG: HfConfig = {
  architecture: 'RegNetForImageClassification',
  modelType: 'regnet',
  read: (json): Partial<RegNetConfig> & Json => {
    expectValue(json, 'hidden_act', 'relu');
    expectValue(json, 'layer_type', 'y');
    expectValue(json, 'downsample_in_first_stage', true);
    return {
      imgSize: imageSizeOf(json),
      inChans: numberOf(json, 'num_channels', 3),
      stemWidth: numberOf(json, 'embedding_size', 32),
      widths: numbersOf(json, 'hidden_sizes', [128, 192, 512, 1088]),
      depths: numbersOf(json, 'depths', [2, 6, 12, 2]),
      groupWidth: numberOf(json, 'groups_width', 64),
      seRatio: SE_RATIO,
    };
  },
  write: (settings) => {
    const config = settings as unknown as RegNetConfig;
    if (config.seRatio !== SE_RATIO) return lacks('seRatio', config.seRatio, SE_RATIO);
    return {
      image_size: config.imgSize,
      num_channels: config.inChans,
      embedding_size: config.stemWidth,
      hidden_sizes: config.widths,
      depths: config.depths,
      groups_width: config.groupWidth,
      layer_type: 'y',
      hidden_act: 'relu',
      downsample_in_first_stage: true,
    };
  },
};

/** The convolutions of a block by their places in transformers, where layer.2 is squeeze-and-excitation, and torchvision. */
const CONVS = [
  ['conv1', 'layer.0', 'f.a'],
  ['conv2', 'layer.1', 'f.b'],
  ['conv3', 'layer.3', 'f.c'],
  ['downsample', 'shortcut', 'proj'],
] as const;

const hfLayer = (name: string): string => `[regnet.]encoder.stages.{s-1}.layers.{i-1}.${name}`;
const tvLayer = (name: string): string => `trunk_output.block{s}.block{s}-{i-1}.${name}`;

/** The layouts of RegNetYs. */
export const REGNET_LAYOUTS: readonly Layout[] = [
  {
    name: 'hf',
    mark: /^(regnet\.)?encoder\.stages\.\d+\.layers\./,
    config: CONFIG,
    rules: [
      ['stem.conv', '[regnet.]embedder.embedder.convolution'],
      ['stem.bn', '[regnet.]embedder.embedder.normalization'],
      ...CONVS.flatMap(([own, stored]): Rule[] => [
        [`s{s}.b{i}.${own}.conv`, hfLayer(`${stored}.convolution`)],
        [`s{s}.b{i}.${own}.bn`, hfLayer(`${stored}.normalization`)],
      ]),
      ['s{s}.b{i}.se.fc1', hfLayer('layer.2.attention.0')],
      ['s{s}.b{i}.se.fc2', hfLayer('layer.2.attention.2')],
      ['head.fc', 'classifier.1'],
    ],
  },
  {
    name: 'torchvision',
    mark: /^trunk_output\./,
    rules: [
      ['stem.conv', 'stem.0'],
      ['stem.bn', 'stem.1'],
      ...CONVS.flatMap(([own, , stored]): Rule[] => [
        [`s{s}.b{i}.${own}.conv`, tvLayer(`${stored}.0`)],
        [`s{s}.b{i}.${own}.bn`, tvLayer(`${stored}.1`)],
      ]),
      ['s{s}.b{i}.se', tvLayer('f.se')],
      ['head.fc', 'fc'],
    ],
  },
];
