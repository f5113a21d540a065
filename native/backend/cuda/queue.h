// What the host side of a kernel needs of its device, and how calls of CUDA's runtime are checked.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "core/error.h"

namespace tenon::cuda {

class MatmulPlans;
class Conv2dPlans;

// An index out of range: a kernel cannot throw, so it leaves a report where the host finds it when it next waits. The
// first thread to report keeps the place; of several bad indices that may be any.
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

// The `stream` of the kernel table (backend.h) points to one.
class Queue {
 public:
  virtual ~Queue() = default;
  virtual cudaStream_t stream() = 0;
  virtual int multiprocessors() const = 0;
  // Whether launches are recorded for later instead of run: then nothing may wait for the device, or be timed on it.
  virtual bool capturing() const = 0;
  // Where a captured kernel finds {seed, distance} of its random numbers (device.h); null while not capturing.
  virtual const double* random() const = 0;
  // Device memory that the next launches may use until the kernel table's function returns: later work on the stream
  // may overwrite it. At least 256-byte aligned.
  virtual void* scratch(size_t bytes) = 0;
  // Where kernels report data that is wrong, in device memory; the host looks at a copy when it waits for the stream.
  virtual DataError* data_error() = 0;

  std::shared_ptr<MatmulPlans> matmul_plans;  // made by the first product
  std::shared_ptr<Conv2dPlans> conv2d_plans;  // made by the first convolution
};

inline Queue& queue_of(void* stream) { return *static_cast<Queue*>(stream); }

// Throws unless a call of CUDA's runtime succeeded.
inline void check(cudaError_t status, const char* op) {
  if (status == cudaSuccess) return;
  throw TensorError(op, code::kKernel, std::string("CUDA: ") + cudaGetErrorString(status));
}

// Of the current device: 90 stands for 9.0.
inline int compute_capability(const char* op) {
  int device = 0, major = 0, minor = 0;
  check(cudaGetDevice(&device), op);
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), op);
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), op);
  return 10 * major + minor;
}

}  // namespace tenon::cuda
