export { DTYPES, isFloating } from './dtype.js';
export type { DType, DataOf, FloatDType, IndexDType, ItemOf, NumericDType } from './dtype.js';
export type {
  AxisSizes,
  AxisSizesArgument,
  EinopsVerb,
  RearrangePattern,
  ReducePattern,
  RepeatPattern,
} from './einops-types.js';
export { TensorError } from './error.js';
export type { ErrorCode } from './error.js';
export { Tensor } from './tensor.js';
export type { GradientHook } from './tensor.js';
export { cudaDetails, cudaInfo, devices, isDeviceName } from './device.js';
export type { CudaDetails, CudaInfo, Device } from './device.js';
export {
  inferenceMode,
  isGradEnabled,
  noGrad,
  enableGrad,
  grad,
  backward,
  detach,
  registerHook,
} from './tape.js';
export type { BackwardOptions, GradOptions } from './tape.js';
export { setRequiresGrad } from './tape.js';
export { autocast } from './autocast.js';
export type { AutocastDType, AutocastRule } from './autocast.js';
export { capture } from './capture.js';
export type { CaptureOptions, CaptureResult, CapturedStep } from './capture.js';
export { defineOp } from './define-op.js';
export type { Gradient, OpContext, OpDefinition } from './define-op.js';
export { keep, leakCheck, scope, visitTensors } from './scope.js';
export { getRandomState, manualSeed, setRandomState } from './random.js';
export type { RandomState } from './random.js';
export {
  copyInto,
  memoryStats,
  releaseCachedMemory,
  resetPeakMemory,
  setMemoryLimit,
  synchronize,
} from './memory.js';
export type { MemoryStats } from './memory.js';
export { cpuInfo, versions } from './versions.js';
export type { CpuInfo } from './versions.js';
