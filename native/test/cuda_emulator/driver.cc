// CUDA's driver on the emulator: the functions that the runtime hands out.
#include <cuda.h>

#include <cstring>

#include "test/cuda_emulator/async.h"
#include "test/cuda_emulator/runtime.h"

CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType, uint32_t rank, void* data,
                                const uint64_t* sizes, const uint64_t* strides, const uint32_t* box,
                                const uint32_t* element_strides, CUtensorMapInterleave,
                                CUtensorMapSwizzle swizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  constexpr uint64_t kMostSize = uint64_t{1} << 32, kMostStride = uint64_t{1} << 40;
  if (rank == 0 || rank > 5 || reinterpret_cast<uintptr_t>(data) % 16 != 0) return CUDA_ERROR_INVALID_VALUE;
  tenon::emulator::TensorMap result;
  result.rank = rank;
  result.data = static_cast<const unsigned char*>(data);
  result.element_bytes = 2;
  result.swizzle = static_cast<tenon::emulator::Swizzle>(swizzle);
  for (uint32_t d = 0; d < rank; ++d) {
    if (sizes[d] == 0 || sizes[d] > kMostSize || box[d] == 0 || box[d] > 256 || element_strides[d] != 1) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    result.sizes[d] = sizes[d];
    result.box[d] = static_cast<uint16_t>(box[d]);
  }
  for (uint32_t d = 0; d + 1 < rank; ++d) {
    if (strides[d] == 0 || strides[d] % 16 != 0 || strides[d] >= kMostStride) return CUDA_ERROR_INVALID_VALUE;
    result.strides[d] = strides[d];
  }
  const uint32_t row = box[0] * result.element_bytes, span = 16u << swizzle;
  if (row % 16 != 0 || (swizzle != CU_TENSOR_MAP_SWIZZLE_NONE && row > span)) return CUDA_ERROR_INVALID_VALUE;
  std::memcpy(map, &result, sizeof result);
  return CUDA_SUCCESS;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned,
                                             unsigned long long, cudaDriverEntryPointQueryResult* found) {
  *function = std::strcmp(symbol, "cuTensorMapEncodeTiled") == 0
                  ? reinterpret_cast<void*>(&cuTensorMapEncodeTiled)
                  : nullptr;
  if (found != nullptr) {
    *found = *function == nullptr ? cudaDriverEntryPointSymbolNotFound : cudaDriverEntryPointSuccess;
  }
  return cudaSuccess;
}
