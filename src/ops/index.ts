export { add, div, maximum, minimum, mul, pow, sub } from './arithmetic.js';
export { attention, attentionPacked, attentionRows, attentionWithLse } from './attention.js';
export type { AttentionOptions, PackedAttentionOptions } from './attention.js';
export { batchNorm } from './batch-norm.js';
export type { BatchNormOptions } from './batch-norm.js';
export { binaryCrossEntropy } from './binary-cross-entropy.js';
export type { BinaryCrossEntropyOptions } from './binary-cross-entropy.js';
export { checkpoint } from './checkpoint.js';
export {
  equal,
  greater,
  greaterEqual,
  less,
  lessEqual,
  logicalAnd,
  logicalOr,
  notEqual,
} from './comparison.js';
export { conv2d } from './conv2d.js';
export type { Conv2dOptions } from './conv2d.js';
export { arange, clone, eye, full, ones, onesLike, to, zeros, zerosLike } from './creation.js';
export type { ArangeOptions, CreateOptions } from './creation.js';
export { crossEntropy } from './cross-entropy.js';
export type { CrossEntropyOptions, LossDType } from './cross-entropy.js';
export { dropPath, dropout } from './dropout.js';
export { rearrange, reduce, repeat } from './einops.js';
export type { ReducedDType, Reduction, ReductionDTypes } from './einops.js';
export { einsum } from './einsum.js';
export { embedding, gather, indexAdd, indexSelect, oneHot, scatterAdd } from './indexing.js';
export type { IndexAddOptions } from './indexing.js';
export { interpolate } from './interpolate.js';
export type { InterpolateOptions } from './interpolate.js';
export { cat, split, stack, unbind } from './join.js';
export { layerNorm, layerNormResidual } from './layer-norm.js';
export type { LayerNormOptions } from './layer-norm.js';
export { linear } from './linear.js';
export type { Activation, LinearOptions } from './linear.js';
export { mlp } from './mlp.js';
export type { MlpOptions } from './mlp.js';
export { matmul } from './matmul.js';
export { flip, pad, roll } from './pad.js';
export { adaptiveAvgPool2d, avgPool2d, maxPool2d } from './pool2d.js';
export type { AvgPoolOptions, MaxPoolOptions, PoolOptions } from './pool2d.js';
export { bernoulli, normal, permutation, randint, truncatedNormal, uniform } from './random.js';
export { all, any, argmax, argmin, max, mean, min, sum, variance } from './reduce.js';
export type { ArgOptions, ReduceOptions, VarianceOptions } from './reduce.js';
export { cumsum, topk } from './scan.js';
export type { TopkOptions } from './scan.js';
export { expand, flatten, permute, reshape, squeeze, transpose, unsqueeze } from './shape.js';
export { narrow, select, slice } from './slice.js';
export type { SliceRange } from './slice.js';
export { logSoftmax, logsumexp, softmax } from './softmax.js';
export type { LogsumexpOptions, SoftmaxOptions } from './softmax.js';
export type { IndexTensor, MaybeLike, Operand, Pair } from './operand.js';
export { tensor, toArray } from './tensor.js';
export type {
  DTypeOfData,
  NestedArray,
  NestedValues,
  Scalar,
  TensorData,
  TensorOptions,
  TypedData,
} from './tensor.js';
export {
  abs,
  clamp,
  cos,
  erf,
  exp,
  gelu,
  log,
  logicalNot,
  neg,
  relu,
  rsqrt,
  sigmoid,
  sign,
  silu,
  sin,
  sqrt,
  tanh,
} from './unary.js';
export type { GeluOptions } from './unary.js';
export { maskedFill, where } from './where.js';
export { windowAttention } from './window-attention.js';
export type { WindowAttentionOptions } from './window-attention.js';
import './methods.js';
