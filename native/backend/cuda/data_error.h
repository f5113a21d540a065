// The kernels' side of errors that depend on data; queue.h has the host's.
#pragma once

#include "backend/cuda/launch.h"

namespace tenon::cuda {

// Whether indices lie in [0, size). The host makes it, an argument of a kernel: the host reads the texts, so they must not
// be literals of device code.
struct IndexCheck {
  const char* op;
  int64_t size;
  DataError* error;
  const char* noun = "indices";

  __device__ __forceinline__ bool operator()(int64_t index) const {
    if (index >= 0 && index < size) return true;
    if (atomicCAS(&error->reported, 0u, 1u) == 0) {
      error->op = op;
      error->noun = noun;
      error->index = index;
      error->size = size;
    }
    return false;
  }
};

}  // namespace tenon::cuda
