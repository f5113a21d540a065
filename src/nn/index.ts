export { GELU } from './activation.js';
export { Attention } from './attention.js';
export type { AttentionCall, AttentionLayerOptions } from './attention.js';
export { BatchNorm2d } from './batch-norm.js';
export type { BatchNormLayerOptions } from './batch-norm.js';
export { ModuleList, PostNorm, PreNorm, Residual, Sequential } from './container.js';
export { ConvNorm, convNorm, foldBatchNorm } from './conv-norm.js';
export type { ConvNormOwner, ConvNormPair } from './conv-norm.js';
export { Conv2d } from './conv2d.js';
export type { Conv2dLayerOptions, ImageEpilogue } from './conv2d.js';
export { DropPath, Dropout } from './dropout.js';
export type { Branch, BranchOptions } from './dropout.js';
export {
  initConstant,
  initLecunNormal,
  initNormal,
  initTruncatedNormal,
  initUniform,
  initXavierUniform,
} from './init.js';
export { LayerNorm } from './layer-norm.js';
export type { LayerNormLayerOptions } from './layer-norm.js';
export { LayerScale } from './layer-scale.js';
export { Linear } from './linear.js';
export type { LinearLayerOptions } from './linear.js';
export { Mlp } from './mlp.js';
export type { MlpLayerOptions } from './mlp.js';
export { Module, buffer, describe, parameter, snapshot } from './module.js';
export type { AnyModule, FloatTensor, ForwardHook, LoadReport, TensorModule } from './module.js';
export { PatchEmbed, PatchProjection } from './patch-embed.js';
export type { PatchEmbedOptions } from './patch-embed.js';
export { AdaptiveAvgPool2d, AvgPool2d, MaxPool2d } from './pool2d.js';
export { SqueezeExcite } from './squeeze-excite.js';
export { WindowAttention } from './window-attention.js';
export type { WindowAttentionLayerOptions } from './window-attention.js';
