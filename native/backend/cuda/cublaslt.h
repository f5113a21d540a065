// The part of cuBLASLt's C interface that Tenon uses, declared here so that the build needs no cuBLAS: the library is
// opened (shared_library.h) when the first product is asked for.
//
// Names and values are NVIDIA's, https://docs.nvidia.com/cuda/cublas (cuBLASLt API), and the same in cuBLAS 12 and 13.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "backend/cuda/shared_library.h"

namespace tenon::cuda::lt {

enum Status : int { kSuccess = 0, kInvalidValue = 7, kNotSupported = 15 };
enum DataType : int { kFloat32 = 0, kFloat64 = 1, kFloat16 = 2, kBFloat16 = 14 };
enum ComputeType : int { kCompute32 = 68, kCompute64 = 70, kComputeTF32 = 77 };
enum Operation : int32_t { kPlain = 0, kTransposed = 1 };
// kRelu | kBias is both. kSumsOfB writes where kBiasPointer says: for each column of D, the sum of that of B. Two have a
// second matrix, of D's type and size, at kAuxPointer: kGeluTanhAux (| kBias) writes there what goes into GELU, kGeluTanhSlope
// reads it and multiplies by GELU's slope. Its leading dimension must be divisible by 8.
enum Epilogue : uint32_t {
  kNoEpilogue = 1,
  kRelu = 2,
  kBias = 4,
  kGeluTanh = 32,
  kGeluTanhAux = 160,
  kGeluTanhSlope = 192,
  kSumsOfB = 512,
};

enum DescAttribute : int {
  kTransA = 3,
  kTransB = 4,
  kEpilogue = 7,
  kBiasPointer = 8,
  kAuxPointer = 11,
  kAuxLd = 12,
};
enum LayoutAttribute : int { kBatchCount = 5, kBatchStride = 6 };
enum PreferenceAttribute : int {
  kMaxWorkspace = 1,
  kReductions = 3,
  kAlignmentA = 5,
  kAlignmentB = 6,
  kAlignmentC = 7,
  kAlignmentD = 8,
};

// How parts of a sum that blocks share may come together: none do, or in the type that is computed in; others would round to
// D's type in between.
enum Reductions : uint32_t { kNoReduction = 0, kInComputeType = 2 };

using Handle = struct HandleOpaque*;
using Desc = struct DescOpaque*;
using Layout = struct LayoutOpaque*;
using Preference = struct PreferenceOpaque*;

// Opaque; may be kept, and used again with the same version of the library.
struct Algorithm {
  uint64_t data[8];
};
struct HeuristicResult {
  Algorithm algorithm;
  size_t workspace;
  Status state;
  float waves;
  int reserved[4];
};

// cublasLtMatmulDescCreate and so on.
#define TENON_CUBLASLT(F)                                                                                  \
  F(Create, (Handle * handle))                                                                             \
  F(Destroy, (Handle handle))                                                                              \
  F(MatmulDescCreate, (Desc * desc, ComputeType compute, DataType scale))                                  \
  F(MatmulDescDestroy, (Desc desc))                                                                        \
  F(MatmulDescSetAttribute, (Desc desc, DescAttribute attribute, const void* value, size_t bytes))         \
  F(MatrixLayoutCreate, (Layout * layout, DataType type, uint64_t rows, uint64_t columns, int64_t ld))     \
  F(MatrixLayoutDestroy, (Layout layout))                                                                  \
  F(MatrixLayoutSetAttribute, (Layout layout, LayoutAttribute attribute, const void* value, size_t bytes)) \
  F(MatmulPreferenceCreate, (Preference * preference))                                                     \
  F(MatmulPreferenceDestroy, (Preference preference))                                                      \
  F(MatmulPreferenceSetAttribute,                                                                          \
    (Preference preference, PreferenceAttribute attribute, const void* value, size_t bytes))               \
  F(MatmulAlgoGetHeuristic, (Handle handle, Desc desc, Layout a, Layout b, Layout c, Layout d,             \
                             Preference preference, int asked, HeuristicResult* results, int* found))      \
  F(MatmulAlgoCheck, (Handle handle, Desc desc, Layout a, Layout b, Layout c, Layout d,                    \
                      const Algorithm* algorithm, HeuristicResult* result))                                \
  F(Matmul, (Handle handle, Desc desc, const void* alpha, const void* a, Layout a_layout, const void* b,   \
             Layout b_layout, const void* beta, const void* c, Layout c_layout, void* d, Layout d_layout,  \
             const Algorithm* algorithm, void* workspace, size_t workspace_bytes, cudaStream_t stream))

#define TENON_CUBLASLT_OTHERS(F) F(const char*, GetStatusString, (Status status))

TENON_LIBRARY(TENON_CUBLASLT, TENON_CUBLASLT_OTHERS)

// Opens it once. @throws TensorError that says what is missing and how to come by it
const Library& library();

}  // namespace tenon::cuda::lt
