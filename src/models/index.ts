export { DistilledVisionTransformer } from './deit.js';
export type { DeiTConfig } from './deit.js';
export { loadModel, readModelInfo, saveModel } from './file.js';
export type { ModelInfo } from './file.js';
export type { InputSpec, Preprocessing } from './input.js';
export type { HfConfig, Json, Layout, LayoutName, Rule } from './layouts/layout.js';
export { applyPretrained, loadPretrained, readPretrained, readPretrainedInfo } from './pretrained.js';
export type { PretrainedOptions, PretrainedReport, PretrainedWeights } from './pretrained.js';
export { savePretrained } from './save-pretrained.js';
export { resizePositions } from './position.js';
export type { ImageSize } from './position.js';
export type { Family, HeadOptions, LayerNames, Model, ModelConfig, ModelCount } from './family.js';
export { RegNet, RegNetBlock, RegNetHead, RegNetStage, regnetStages } from './regnet.js';
export type { RegNetBlockShape, RegNetConfig, WidthLine } from './regnet.js';
export { createModel, describeModel, familyOf, listModels, modelEntry } from './registry.js';
export type {
  FamilyName,
  ModelDescription,
  ModelEntry,
  ModelName,
  ModelOf,
  ModelOptions,
  ModelOptionsOf,
} from './registry.js';
export { ResNet, ResNetBlock, ResNetShortcut } from './resnet.js';
export type { ResNetBlockShape, ResNetConfig, ResNetConvShape } from './resnet.js';
export { PatchMerging, SwinBlock, SwinHead, SwinStage, SwinTransformer } from './swin.js';
export type { SwinConfig } from './swin.js';
export { Block, VisionTransformer } from './vit.js';
export type { ViTConfig } from './vit.js';
