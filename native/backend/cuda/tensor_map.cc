#include "backend/cuda/tensor_map.h"

#include <cuda_runtime.h>

#include <algorithm>

namespace tenon::cuda {

namespace {

// The plugin is not linked with the driver's library: the runtime, which has opened it, knows the function.
decltype(&cuTensorMapEncodeTiled) find_encoder(const char* op) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  constexpr const char* kName = "cuTensorMapEncodeTiled";
#if CUDART_VERSION >= 12050
  constexpr unsigned kSince = 12000;
  check(cudaGetDriverEntryPointByVersion(kName, &function, kSince, cudaEnableDefault, &found), op);
#else
  check(cudaGetDriverEntryPoint(kName, &function, cudaEnableDefault, &found), op);
#endif
  if (found != cudaDriverEntryPointSuccess || function == nullptr) {
    throw TensorError(op, code::kDevice,
                      "expected an NVIDIA driver with tensor maps (CUDA 12), this one has none");
  }
  return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
}

}  // namespace

bool takes_map(const View& x) {
  constexpr int64_t kBytes = 16, kMost = int64_t{1} << 40, kMostRows = int64_t{1} << 30;
  if (size_of(x.dtype) != 2 || x.numel() == 0 || (x.size(3) > 1 && x.stride(3) != 1)) return false;
  if (reinterpret_cast<uintptr_t>(x.data) % kBytes != 0) return false;
  for (int d = 0; d < 3; ++d) {
    const int64_t bytes = x.stride(d) * 2;
    if (x.size(d) > kMostRows) return false;
    if (x.size(d) > 1 && (bytes <= 0 || bytes % kBytes != 0 || bytes >= kMost)) return false;
  }
  return true;
}

TensorMap make_map(const char* op, const View& x, int rows) {
  static const auto encode = find_encoder(op);
  const auto size = [&](int d) { return static_cast<cuuint64_t>(x.size(d)); };
  // Nobody goes along a dimension of one, whose stride may be anything: it gets that of dimensions one behind the other.
  cuuint64_t strides[3], behind = (size(3) * 2 + 15) / 16 * 16;
  for (int d = 2; d >= 0; --d) {
    const cuuint64_t stride = x.size(d) > 1 ? static_cast<cuuint64_t>(x.stride(d)) * 2 : behind;
    strides[2 - d] = stride;
    behind = std::max(behind, stride * size(d));
  }
  const cuuint64_t sizes[] = {size(3), size(2), size(1), size(0)};
  const cuuint32_t box[] = {kBoxColumns, static_cast<cuuint32_t>(rows), 1, 1}, steps[] = {1, 1, 1, 1};
  TensorMap map;
  const CUresult status = encode(
      &map, x.dtype == DType::BFloat16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
      4, x.data, sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
      CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS) {
    throw TensorError(
        op, code::kKernel,
        "CUDA: cuTensorMapEncodeTiled returned error " + std::to_string(static_cast<int>(status)));
  }
  return map;
}

}  // namespace tenon::cuda
