// The part of cuDNN's C interface that Tenon uses, declared here so that the build needs no cuDNN: the library is opened
// (shared_library.h) when the first convolution is asked for.
//
// Names and values are NVIDIA's, https://docs.nvidia.com/deeplearning/cudnn (Backend API), as of cuDNN 9.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

#include "backend/cuda/shared_library.h"

namespace tenon::cuda::dnn {

// 3001 and on: kinds of what is not supported. Two of them are something that is missing where the library is installed.
enum Status : int {
  kSuccess = 0,
  kBadParameter = 2000,
  kNotSupported = 3000,
  kPrerequisiteMissing = 3008,
  kSublibraryUnavailable = 3009,
};
enum DataType : int { kFloat32 = 0, kFloat16 = 2, kBFloat16 = 9 };
enum Format : int { kChannelsLast = 1 };
enum Mode : int { kCrossCorrelation = 1 };
// Default: tensor cores, which multiply float32 in TF32. Fma: none.
enum Math : int { kDefault = 0, kTensorOps = 1, kTensorOpsWithConversion = 2, kFma = 3 };
enum Activation : int { kRelu = 1 };
enum NaN : int { kPropagated = 1 };
enum Determinism : int { kNonDeterministic = 0, kDeterministic = 1 };

using Handle = struct HandleOpaque*;
using TensorDesc = struct TensorOpaque*;
using FilterDesc = struct FilterOpaque*;
using ConvolutionDesc = struct ConvolutionOpaque*;
using ActivationDesc = struct ActivationOpaque*;

// One layout for all three passes, each of which has algorithms of its own.
struct Proposal {
  int algorithm;
  Status status;
  float time;
  size_t workspace;
  Determinism determinism;
  Math math;
  int reserved[3];
};

// cudnnCreate and so on.
#define TENON_CUDNN(F)                                                                                       \
  F(Create, (Handle * handle))                                                                               \
  F(Destroy, (Handle handle))                                                                                \
  F(SetStream, (Handle handle, cudaStream_t stream))                                                         \
  F(CreateTensorDescriptor, (TensorDesc * desc))                                                             \
  F(DestroyTensorDescriptor, (TensorDesc desc))                                                              \
  F(SetTensor4dDescriptor, (TensorDesc desc, Format format, DataType type, int n, int c, int h, int w))      \
  F(CreateFilterDescriptor, (FilterDesc * desc))                                                             \
  F(DestroyFilterDescriptor, (FilterDesc desc))                                                              \
  F(SetFilter4dDescriptor, (FilterDesc desc, DataType type, Format format, int k, int c, int h, int w))      \
  F(CreateConvolutionDescriptor, (ConvolutionDesc * desc))                                                   \
  F(DestroyConvolutionDescriptor, (ConvolutionDesc desc))                                                    \
  F(SetConvolution2dDescriptor, (ConvolutionDesc desc, int padding_h, int padding_w, int stride_h,           \
                                 int stride_w, int dilation_h, int dilation_w, Mode mode, DataType compute)) \
  F(SetConvolutionGroupCount, (ConvolutionDesc desc, int groups))                                            \
  F(SetConvolutionMathType, (ConvolutionDesc desc, Math math))                                               \
  F(GetConvolutionForwardAlgorithm_v7,                                                                       \
    (Handle handle, TensorDesc x, FilterDesc weight, ConvolutionDesc desc, TensorDesc y, int asked,          \
     int* found, Proposal* proposals))                                                                       \
  F(GetConvolutionBackwardDataAlgorithm_v7,                                                                  \
    (Handle handle, FilterDesc weight, TensorDesc dy, ConvolutionDesc desc, TensorDesc dx, int asked,        \
     int* found, Proposal* proposals))                                                                       \
  F(GetConvolutionBackwardFilterAlgorithm_v7,                                                                \
    (Handle handle, TensorDesc x, TensorDesc dy, ConvolutionDesc desc, FilterDesc dweight, int asked,        \
     int* found, Proposal* proposals))                                                                       \
  F(GetConvolutionForwardWorkspaceSize, (Handle handle, TensorDesc x, FilterDesc weight,                     \
                                         ConvolutionDesc desc, TensorDesc y, int algorithm, size_t* bytes))  \
  F(GetConvolutionBackwardDataWorkspaceSize,                                                                 \
    (Handle handle, FilterDesc weight, TensorDesc dy, ConvolutionDesc desc, TensorDesc dx, int algorithm,    \
     size_t* bytes))                                                                                         \
  F(GetConvolutionBackwardFilterWorkspaceSize,                                                               \
    (Handle handle, TensorDesc x, TensorDesc dy, ConvolutionDesc desc, FilterDesc dweight, int algorithm,    \
     size_t* bytes))                                                                                         \
  F(ConvolutionForward,                                                                                      \
    (Handle handle, const void* alpha, TensorDesc x_desc, const void* x, FilterDesc weight_desc,             \
     const void* weight, ConvolutionDesc desc, int algorithm, void* workspace, size_t workspace_bytes,       \
     const void* beta, TensorDesc y_desc, void* y))                                                          \
  F(CreateActivationDescriptor, (ActivationDesc * desc))                                                     \
  F(DestroyActivationDescriptor, (ActivationDesc desc))                                                      \
  F(SetActivationDescriptor, (ActivationDesc desc, Activation mode, NaN nan, double limit))                  \
  F(ConvolutionBiasActivationForward,                                                                        \
    (Handle handle, const void* alpha, TensorDesc x_desc, const void* x, FilterDesc weight_desc,             \
     const void* weight, ConvolutionDesc desc, int algorithm, void* workspace, size_t workspace_bytes,       \
     const void* beta, TensorDesc added_desc, const void* added, TensorDesc bias_desc, const void* bias,     \
     ActivationDesc activation, TensorDesc y_desc, void* y))                                                 \
  F(ConvolutionBackwardData,                                                                                 \
    (Handle handle, const void* alpha, FilterDesc weight_desc, const void* weight, TensorDesc dy_desc,       \
     const void* dy, ConvolutionDesc desc, int algorithm, void* workspace, size_t workspace_bytes,           \
     const void* beta, TensorDesc dx_desc, void* dx))                                                        \
  F(ConvolutionBackwardFilter,                                                                               \
    (Handle handle, const void* alpha, TensorDesc x_desc, const void* x, TensorDesc dy_desc, const void* dy, \
     ConvolutionDesc desc, int algorithm, void* workspace, size_t workspace_bytes, const void* beta,         \
     FilterDesc dweight_desc, void* dweight))

#define TENON_CUDNN_OTHERS(F)                     \
  F(const char*, GetErrorString, (Status status)) \
  F(void, GetLastErrorString, (char* text, size_t bytes))

TENON_LIBRARY(TENON_CUDNN, TENON_CUDNN_OTHERS)

// Opens it once. @throws TensorError that says what is missing and how to come by it
const Library& library();

}  // namespace tenon::cuda::dnn
