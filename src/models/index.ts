export { loadModel, readModelInfo, saveModel } from './file.js';
export type { InputSpec, ModelInfo } from './file.js';
export { resizePositions } from './position.js';
export type { ImageSize } from './position.js';
export { createModel, describeModel, listModels, modelConfig } from './registry.js';
export type { Model, ModelDescription, ModelEntry, ModelOptions } from './registry.js';
export { Block, VisionTransformer } from './vit.js';
export type { ViTConfig } from './vit.js';
