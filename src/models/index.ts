export { loadModel, readModelInfo, saveModel } from './file.js';
export type { InputSpec, ModelInfo } from './file.js';
export { resizePositions } from './position.js';
export type { ImageSize } from './position.js';
export type { Family, Model, ModelConfig, ModelCount } from './family.js';
export { createModel, describeModel, familyOf, listModels, modelEntry } from './registry.js';
export type { ModelDescription, ModelEntry, ModelOf, ModelOptions, ModelOptionsOf } from './registry.js';
export { Block, VisionTransformer } from './vit.js';
export type { ViTConfig } from './vit.js';
