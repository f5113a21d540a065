// Errors that depend on data: a kernel cannot throw, so it leaves a report where the host finds it when it next waits.
#pragma once

#include "backend/cuda/launch.h"

namespace tenon::cuda {

// An index out of range. The first thread to report keeps the place; of several bad indices that may be any.
struct DataError {
  unsigned reported;  // 0: nothing is wrong
  const char* op;     // as the launch named it
  const char* noun;   // what the index is: "indices", "labels"
  int64_t index;
  int64_t size;

  // Host: throws what was reported, once.
  void raise() {
    if (reported == 0) return;
    reported = 0;
    throw TensorError(op, code::kIndex,
                      std::string("expected ") + noun + " from 0 to " + std::to_string(size - 1) + ", got " +
                          std::to_string(index));
  }
};

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
