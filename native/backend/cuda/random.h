// Words of Philox for the elements of a kernel (core/random.h).
#pragma once

#include "backend/cuda/launch.h"
#include "core/random.h"

namespace tenon::cuda {

// The seed and the offset of a call. In a captured graph they change with each replay, so they come from the device.
struct RandomPlace {
  uint64_t seed = 0, offset = 0;
  const double* captured = nullptr;  // {seed, distance}: whole numbers up to 2^53

  __device__ __forceinline__ RandomPlace now() const {
    if (captured == nullptr) return *this;
    return {static_cast<uint64_t>(captured[0]),
            offset + static_cast<uint64_t>(static_cast<int64_t>(captured[1]))};
  }
};

// One word without an array that is indexed at run time, which would live in memory.
__device__ __forceinline__ uint32_t random_word(uint64_t seed, uint64_t index, uint32_t plane = 0) {
  const Philox::Block block = Philox::block(seed, index / 4, plane);
  const uint32_t low = index % 2 == 0 ? block[0] : block[1], high = index % 2 == 0 ? block[2] : block[3];
  return index % 4 < 2 ? low : high;
}

}  // namespace tenon::cuda
