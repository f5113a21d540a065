/**
 * Names of the ViT's and the DeiT's tensors elsewhere: in transformers, as files have them and as version 5 has them in
 * memory, and in DeiT III by its authors. The original DeiT has timm's names.
 *
 * A DeiT whose distillation token no head reads is, to Tenon, a ViT with one register token.
 */
import type { ViTConfig } from '../vit.js';
import type { HfConfig, Json, Layout, Rule } from './layout.js';
import { expectValue, imageSizeOf, lacks, numberOf, ratioOf } from './transformers.js';

/** The modules of a block: timm's names, those in files, and those of transformers 5 in memory. */
const BLOCK: readonly (readonly [own: string, hf: string | string[], current: string | string[]])[] = [
  ['norm1', 'layernorm_before', 'layernorm_before'],
  [
    'attn.qkv',
    ['query', 'key', 'value'].map((part) => `attention.attention.${part}`),
    ['q', 'k', 'v'].map((part) => `attention.${part}_proj`),
  ],
  ['attn.qkv', 'attention.attention.qkv', 'attention.qkv_proj'],
  ['attn.proj', 'attention.output.dense', 'attention.o_proj'],
  ['norm2', 'layernorm_after', 'layernorm_after'],
  ['mlp.fc1', 'intermediate.dense', 'mlp.fc1'],
  ['mlp.fc2', 'output.dense', 'mlp.fc2'],
];

/** Both layouts of a transformers model, whose encoder's names begin with `prefix`. */
function encoder(prefix: 'vit' | 'deit', config: HfConfig, others: readonly Rule[]): Layout[] {
  const below = (path: string, names: string | string[]): string | string[] =>
    typeof names === 'string' ? `${path}.${names}` : names.map((name) => `${path}.${name}`);
  const layout = (name: 'hf' | 'hf-current', layer: string, column: 1 | 2): Layout => ({
    name,
    mark: new RegExp(`^(${prefix}\\.)?${layer.replace('.{i}', '\\.\\d+')}\\.attention\\.`),
    ignored: /^pooler\.|\.pooler\.|\.mask_token$|^decoder\./,
    config,
    rules: [
      ['cls_token', `[${prefix}.]embeddings.cls_token`],
      ['pos_embed', `[${prefix}.]embeddings.position_embeddings`],
      ['patch_embed.proj', `[${prefix}.]embeddings.patch_embeddings.projection`],
      ...BLOCK.map((row): Rule => [`blocks.{i}.${row[0]}`, below(`[${prefix}.]${layer}`, row[column])]),
      ['norm', `[${prefix}.]layernorm`],
      ...others,
    ],
  });
  return [layout('hf', 'encoder.layer.{i}', 1), layout('hf-current', 'layers.{i}', 2)];
}

function readConfig(json: Json): Json {
  expectValue(json, 'hidden_act', 'gelu');
  const width = numberOf(json, 'hidden_size', 768);
  return {
    imgSize: imageSizeOf(json),
    patchSize: numberOf(json, 'patch_size', 16),
    inChans: numberOf(json, 'num_channels', 3),
    embedDim: width,
    depth: numberOf(json, 'num_hidden_layers', 12),
    numHeads: numberOf(json, 'num_attention_heads', 12),
    mlpRatio: ratioOf(numberOf(json, 'intermediate_size', 3072), width),
    qkvBias: json['qkv_bias'] !== false,
    normEps: numberOf(json, 'layer_norm_eps', 1e-12),
  };
}

/** What transformers' encoder has no setting for, as it is there. */
const FIXED = {
  globalPool: 'token',
  qkNorm: false,
  blockNorm: 'pre',
  initValues: undefined,
  classToken: true,
  noEmbedClass: false,
  preNorm: false,
} as const satisfies Partial<ViTConfig>;

/** The settings of a ViT, all of them, for transformers; what transformers lacks where it has other parts than `tokens` says. */
function writeConfig(
  config: Json,
  tokens: { readonly regTokens: number; readonly distilled: boolean },
): Json | string {
  const wanted: Json = { ...FIXED, ...tokens };
  const settings: Json = { distilled: false, ...config };
  const other = Object.entries(wanted).find(([key, value]) => settings[key] !== value);
  if (other !== undefined) return lacks(other[0], settings[other[0]], other[1]);
  if (settings['fcNorm'] === true) return lacks('fcNorm', true, false);
  const { imgSize, patchSize, inChans, embedDim, depth, numHeads, mlpRatio, qkvBias, normEps } =
    settings as unknown as ViTConfig;
  return {
    image_size: imgSize,
    patch_size: patchSize,
    num_channels: inChans,
    hidden_size: embedDim,
    num_hidden_layers: depth,
    num_attention_heads: numHeads,
    intermediate_size: Math.trunc(embedDim * mlpRatio),
    qkv_bias: qkvBias,
    layer_norm_eps: normEps,
    hidden_act: 'gelu',
    hidden_dropout_prob: 0,
    attention_probs_dropout_prob: 0,
    initializer_range: 0.02,
  };
}

/** The layouts of plain ViTs. */
export const VIT_LAYOUTS: readonly Layout[] = [
  ...encoder(
    'vit',
    {
      architecture: 'ViTForImageClassification',
      modelType: 'vit',
      read: readConfig,
      write: (config) => writeConfig(config, { regTokens: 0, distilled: false }),
    },
    [['head', 'classifier']],
  ),
  ...encoder(
    'deit',
    {
      architecture: 'DeiTForImageClassification',
      modelType: 'deit',
      read: (json) => ({ ...readConfig(json), regTokens: 1 }),
      write: (config) => writeConfig(config, { regTokens: 1, distilled: false }),
    },
    [
      ['reg_token', '[deit.]embeddings.distillation_token'],
      ['head', 'classifier'],
    ],
  ),
];

/** The layouts of DeiTs: with the distillation token and both heads, and DeiT III as its authors wrote it. */
export const DEIT_LAYOUTS: readonly Layout[] = [
  {
    name: 'original',
    mark: /^blocks\.\d+\.gamma_1$/,
    rules: [
      ['blocks.{i}.ls1.gamma', 'blocks.{i}.gamma_1'],
      ['blocks.{i}.ls2.gamma', 'blocks.{i}.gamma_2'],
    ],
  },
  ...encoder(
    'deit',
    {
      architecture: 'DeiTForImageClassificationWithTeacher',
      modelType: 'deit',
      read: (json) => ({ ...readConfig(json), distilled: true }),
      write: (config) => writeConfig(config, { regTokens: 0, distilled: true }),
    },
    [
      ['dist_token', '[deit.]embeddings.distillation_token'],
      ['head', 'cls_classifier'],
      ['head_dist', 'distillation_classifier'],
    ],
  ),
  ...VIT_LAYOUTS.filter(({ config }) => config?.modelType === 'vit'),
];
