// How a kernel's host side starts it, and the few things that kernels take from CUDA beyond the language. The same
// sources are compiled by nvcc for a GPU and by a C++ compiler for the emulator of native/test/cuda_emulator.
#pragma once

#include <algorithm>
#include <limits>

#include "backend/cuda/queue.h"

namespace tenon::cuda {

constexpr unsigned kFullWarp = 0xffffffffu;
constexpr int kWarpSize = 32;

// A block's shared memory, of the size that the launch gave. Kernels declare none of their own: the emulator fills it
// with NaN and guards its end.
template <typename T>
__device__ __forceinline__ T* shared_memory() {
#ifdef __CUDACC__
  extern __shared__ __align__(128) unsigned char tenon_shared_memory[];
  return reinterpret_cast<T*>(tenon_shared_memory);
#else
  return static_cast<T*>(emulator::shared_memory());
#endif
}

// A kernel that needs more than the 64 KiB of shared memory that sm_75 gives a block begins with
// `if constexpr (!kCanStart<bytes>) return trap();`: `launch` refuses it there, so nothing else of it is compiled.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
template <size_t kSharedBytes>
constexpr bool kCanStart = kSharedBytes <= size_t{64} << 10;
__device__ __forceinline__ void trap() { __trap(); }
#else
template <size_t kSharedBytes>
constexpr bool kCanStart = true;
__device__ __forceinline__ void trap() {}
#endif

// What a multiprocessor has of shared memory: at most (sm_90, sm_100), and here. A block takes 1 KiB more than it asks for.
constexpr size_t kMostShared = size_t{228} << 10;
constexpr bool fits_multiprocessor(int blocks, size_t shared_bytes, size_t shared) {
  return static_cast<size_t>(blocks) * (shared_bytes + 1024) <= shared;
}
inline size_t shared_of_multiprocessor([[maybe_unused]] const char* op) {
#ifdef __CUDACC__
  int device = 0, bytes = 0;
  check(cudaGetDevice(&device), op);
  check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerMultiprocessor, device), op);
  return static_cast<size_t>(bytes);
#else
  return kMostShared;
#endif
}

// The blocks that it takes to work on `count` items, `each` in a block.
constexpr int64_t blocks_for(int64_t count, int64_t each) { return (count + each - 1) / each; }

// A size that kernels count in int: below 2^30, as they go a tile beyond it, or double it.
inline int to_int(const char* op, const char* what, int64_t count) {
  constexpr int64_t kMost = (int64_t{1} << 30) - 1;
  if (count <= kMost) return static_cast<int>(count);
  throw TensorError(
      op, code::kShape,
      "expected at most " + std::to_string(kMost) + " " + what + ", got " + std::to_string(count));
}

// The blocks of a grid, as many as a call asks for.
struct Blocks {
  static constexpr int64_t kMostX = std::numeric_limits<int32_t>::max(), kMostY = 65535;
  int64_t x, y;

  Blocks(int64_t x_, int64_t y_ = 1) : x(x_), y(y_) {}
  dim3 grid(const char* op) const {
    if (x <= kMostX && y <= kMostY) return dim3(static_cast<unsigned>(x), static_cast<unsigned>(y));
    const bool is_wide = x > kMostX;
    throw TensorError(op, code::kShape,
                      "expected operands for at most " + std::to_string(is_wide ? kMostX : kMostY) +
                          " blocks of threads, got some for " + std::to_string(is_wide ? x : y));
  }
};

// launch(queue, "layerNorm", kernel<float>, grid, block, shared_bytes, args...)
template <typename... Parameters, typename... Args>
void launch(Queue& queue, const char* op, void (*kernel)(Parameters...), Blocks blocks, dim3 block,
            size_t shared_bytes, const Args&... args) {
  const dim3 grid = blocks.grid(op);
#ifdef __CUDACC__
  constexpr size_t kWithoutAsking = size_t{48} << 10;
  if (shared_bytes > kWithoutAsking) {
    const cudaError_t status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                    static_cast<int>(shared_bytes));
    if (status == cudaErrorInvalidValue) {
      cudaGetLastError();  // it would stay for the next check
      throw TensorError(op, code::kDevice,
                        "expected a GPU with " + std::to_string((shared_bytes + 1023) >> 10) +
                            " KiB of shared memory to a block, this one has less");
    }
    check(status, op);
  }
  kernel<<<grid, block, shared_bytes, queue.stream()>>>(args...);
  check(cudaGetLastError(), op);
#else
  emulator::launch(queue.stream(), op, grid, block, shared_bytes, [=] { kernel(args...); });
#endif
}

// Calls start(first, blocks) until there is a block to each of `count` items, which mostly is once.
template <typename Start>
void for_grids(int64_t count, Start&& start) {
  for (int64_t first = 0; first < count; first += Blocks::kMostX) {
    start(first, std::min(count - first, Blocks::kMostX));
  }
}

}  // namespace tenon::cuda
