/**
 * Names of Swin's tensors elsewhere: in transformers, as files have them and as version 5 has them in memory, and at
 * Microsoft, which timm once followed: there and in transformers a merging ends a stage, in timm it begins the next.
 */
import type { SwinConfig } from '../swin.js';
import type { HfConfig, Json, Layout, Rule } from './layout.js';
import { expectValue, imageSizeOf, lacks, numberOf, numbersOf } from './transformers.js';

/** The modules of a block: timm's names, those in files, and those of transformers 5 in memory. */
const BLOCK: readonly (readonly [own: string, hf: string | string[], current: string | string[]])[] = [
  ['norm1', 'layernorm_before', 'layernorm_before'],
  [
    'attn.qkv',
    ['query', 'key', 'value'].map((part) => `attention.self.${part}`),
    ['q', 'k', 'v'].map((part) => `attention.${part}_proj`),
  ],
  [
    'attn.relative_position_bias_table',
    'attention.self.relative_position_bias_table',
    'attention.relative_position_bias.relative_position_bias_table',
  ],
  ['attn.proj', 'attention.output.dense', 'attention.o_proj'],
  ['norm2', 'layernorm_after', 'layernorm_after'],
  ['mlp.fc1', 'intermediate.dense', 'mlp.fc1'],
  ['mlp.fc2', 'output.dense', 'mlp.fc2'],
];

const CONFIG: HfConfig = {
  architecture: 'SwinForImageClassification',
  modelType: 'swin',
  read(json) {
    expectValue(json, 'hidden_act', 'gelu');
    expectValue(json, 'use_absolute_embeddings', false);
    return {
      imgSize: imageSizeOf(json),
      patchSize: numberOf(json, 'patch_size', 4),
      inChans: numberOf(json, 'num_channels', 3),
      embedDim: numberOf(json, 'embed_dim', 96),
      depths: numbersOf(json, 'depths', [2, 2, 6, 2]),
      numHeads: numbersOf(json, 'num_heads', [3, 6, 12, 24]),
      windowSize: numberOf(json, 'window_size', 7),
      mlpRatio: numberOf(json, 'mlp_ratio', 4),
      qkvBias: json['qkv_bias'] !== false,
      normEps: numberOf(json, 'layer_norm_eps', 1e-5),
    };
  },
  write(settings): Json | string {
    const config = settings as unknown as SwinConfig;
    if (config.absolutePositions) return lacks('absolutePositions', true, false);
    return {
      image_size: config.imgSize,
      patch_size: config.patchSize,
      num_channels: config.inChans,
      embed_dim: config.embedDim,
      depths: config.depths,
      num_heads: config.numHeads,
      window_size: config.windowSize,
      mlp_ratio: config.mlpRatio,
      qkv_bias: config.qkvBias,
      layer_norm_eps: config.normEps,
      hidden_size: config.embedDim * 2 ** (config.depths.length - 1),
      hidden_act: 'gelu',
      use_absolute_embeddings: false,
      hidden_dropout_prob: 0,
      attention_probs_dropout_prob: 0,
      drop_path_rate: config.dropPathRate,
      initializer_range: 0.02,
    };
  },
};

function transformers(name: 'hf' | 'hf-current', column: 1 | 2, mark: RegExp): Layout {
  const block = '[swin.]encoder.layers.{s}.blocks.{i}';
  return {
    name,
    mark,
    config: CONFIG,
    ignored: /relative_position_index$|(^|\.)pooler\./,
    rules: [
      ['patch_embed.proj', '[swin.]embeddings.patch_embeddings.projection'],
      ['patch_embed.norm', '[swin.]embeddings.norm'],
      ...BLOCK.map((row): Rule => [
        `layers.{s}.blocks.{i}.${row[0]}`,
        typeof row[column] === 'string'
          ? `${block}.${row[column]}`
          : row[column].map((part) => `${block}.${part}`),
      ]),
      ['layers.{s}.downsample', '[swin.]encoder.layers.{s-1}.downsample'],
      ['norm', '[swin.]layernorm'],
      ['head.fc', 'classifier'],
    ],
  };
}

/** The layouts of Swin. */
export const SWIN_LAYOUTS: readonly Layout[] = [
  transformers('hf', 1, /\.attention\.self\.query\./),
  transformers('hf-current', 2, /\.attention\.q_proj\./),
  {
    name: 'original',
    mark: /^layers\.0\.downsample\.|^head\.(weight|bias)$/,
    ignored: /\.(attn_mask|relative_position_index)$/,
    rules: [
      ['layers.{s}.downsample', 'layers.{s-1}.downsample'],
      ['head.fc', 'head'],
    ],
  },
];
