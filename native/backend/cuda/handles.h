// Owners of what CUDA's runtime gives out. Letting go cannot fail usefully: after a fault every call does.
#pragma once

#include <memory>

#include "backend/cuda/queue.h"

namespace tenon::cuda {

template <auto release>
struct Release {
  template <typename T>
  void operator()(T* object) const {
    static_cast<void>(release(object));
  }
};

using StreamHandle = std::unique_ptr<CUstream_st, Release<cudaStreamDestroy>>;
using EventHandle = std::unique_ptr<CUevent_st, Release<cudaEventDestroy>>;
using GraphHandle = std::unique_ptr<CUgraph_st, Release<cudaGraphDestroy>>;
using GraphExecHandle = std::unique_ptr<CUgraphExec_st, Release<cudaGraphExecDestroy>>;
using DeviceMemory = std::unique_ptr<void, Release<cudaFree>>;
using PinnedMemory = std::unique_ptr<void, Release<cudaFreeHost>>;

// A stream that does not wait for the default one.
inline StreamHandle make_stream() {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
  return StreamHandle(stream);
}

// Who waits for it sleeps.
inline EventHandle make_event() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming | cudaEventBlockingSync), "event");
  return EventHandle(event);
}

// Keeps the time at which a stream reached it.
inline EventHandle make_timer() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventBlockingSync), "event");
  return EventHandle(event);
}

// Memory that CUDA has not got is an error of this call alone: the next launch must not take it for its own.
inline void check_memory(cudaError_t status, size_t bytes, const char* of) {
  if (status == cudaErrorMemoryAllocation) {
    static_cast<void>(cudaGetLastError());
    throw TensorError(
        "allocate", code::kMemory,
        "CUDA: out of memory of the " + std::string(of) + ": " + std::to_string(bytes) + " bytes asked for");
  }
  check(status, "allocate");
}

inline DeviceMemory make_device_memory(size_t bytes) {
  void* data = nullptr;
  check_memory(cudaMalloc(&data, bytes), bytes, "device");
  return DeviceMemory(data);
}

inline PinnedMemory make_pinned_memory(size_t bytes) {
  void* data = nullptr;
  check_memory(cudaHostAlloc(&data, bytes, cudaHostAllocDefault), bytes, "host, pinned");
  return PinnedMemory(data);
}

}  // namespace tenon::cuda
