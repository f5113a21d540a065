export { Adam, AdamW } from './adam.js';
export type { AdamOptions } from './adam.js';
export { Ema } from './ema.js';
export type { EmaOptions } from './ema.js';
export { Optimizer, clipGradNorm, globalNorm } from './optimizer.js';
export type { GroupSettings, OptimizerState, ParamGroup, ResolvedGroup, StepOptions } from './optimizer.js';
export { SGD } from './sgd.js';
export type { SgdOptions } from './sgd.js';
