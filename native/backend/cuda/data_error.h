// Errors that depend on data: a kernel cannot throw, so it leaves a report where the host finds it when it next waits.
#pragma once

#include "backend/cuda/launch.h"

namespace tenon::cuda {

// An index out of range. The first thread to report keeps the place; of several bad indices that may be any.
struct DataError {
  unsigned reported;  // 0: nothing is wrong
  const char* op;     // as the launch named it
  int64_t index;
  int64_t size;

  // Host: throws what was reported, once.
  void raise() {
    if (reported == 0) return;
    reported = 0;
    throw TensorError(
        op, code::kIndex,
        "expected indices from 0 to " + std::to_string(size - 1) + ", got " + std::to_string(index));
  }
};

// Whether 0 <= index < size; reports it otherwise.
__device__ __forceinline__ bool in_range(const char* op, int64_t index, int64_t size, DataError* error) {
  if (index >= 0 && index < size) return true;
  if (atomicCAS(&error->reported, 0u, 1u) == 0) {
    error->op = op;
    error->index = index;
    error->size = size;
  }
  return false;
}

}  // namespace tenon::cuda
