// Element types on the device: conversions, 16-byte packs, sums and maxima over a warp and a block.
#pragma once

#include <cmath>
#include <limits>
#include <type_traits>

#include "backend/cuda/launch.h"
#include "core/dispatch.h"

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace tenon::cuda {

// What arithmetic on elements of S is done in.
template <typename S>
using Compute = std::conditional_t<std::is_same_v<S, double>, double, float>;

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }

__device__ __forceinline__ float widen(bfloat16 x) {
#ifdef __CUDA_ARCH__
  return __uint_as_float(static_cast<unsigned>(x.bits) << 16);
#else
  return static_cast<float>(x);
#endif
}

__device__ __forceinline__ float widen(float16 x) {
#ifdef __CUDA_ARCH__
  return __half2float(__ushort_as_half(x.bits));
#else
  return static_cast<float>(x);
#endif
}

// Rounds to nearest even.
template <typename S>
__host__ __device__ __forceinline__ S narrow(Compute<S> x) {
  if constexpr (std::is_same_v<S, Compute<S>>) {
    return x;
  } else {
#ifdef __CUDA_ARCH__
    S result;
    if constexpr (std::is_same_v<S, bfloat16>) {
      result.bits = __bfloat16_as_ushort(__float2bfloat16_rn(x));
    } else {
      result.bits = __half_as_ushort(__float2half_rn(x));
    }
    return result;
#else
    return S(x);
#endif
  }
}

// kWidth elements that move in one access.
template <typename S, int kWidth>
struct alignas(sizeof(S) * kWidth) Pack {
  S elements[kWidth];
};

// The elements that 16 bytes hold.
template <typename S>
constexpr int kFullWidth = 16 / static_cast<int>(sizeof(S));

// Whether rows of `columns` elements from `data` on can be read in 16-byte packs. An absent operand can.
template <typename S>
bool takes_packs(const void* data, int64_t columns) {
  return reinterpret_cast<uintptr_t>(data) % 16 == 0 && (columns * static_cast<int64_t>(sizeof(S))) % 16 == 0;
}

// All lanes' values combined in a fixed order, the same in every lane.
template <typename T, typename Combine>
__device__ __forceinline__ T combine_over_warp(T x, Combine combine) {
  for (int lanes = kWarpSize / 2; lanes > 0; lanes /= 2) {
    x = combine(x, __shfl_xor_sync(kFullWarp, x, lanes));
  }
  return x;
}

// All threads' values combined in a fixed order, the same in every thread of a block of whole warps. `warps` is shared
// memory for one T per warp; it is free again once every thread has returned.
template <typename T, typename Combine>
__device__ __forceinline__ T combine_over_block(T x, T identity, T* warps, Combine combine) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize,
            warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int count = static_cast<int>(blockDim.x) / kWarpSize;
  x = combine_over_warp(x, combine);
  if (lane == 0) warps[warp] = x;
  __syncthreads();
  const T total = combine_over_warp(lane < count ? warps[lane] : identity, combine);
  __syncthreads();
  return total;
}

struct Plus {
  template <typename T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a + b;
  }
};

// A NaN loses against a number.
struct Largest {
  template <typename T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return std::fmax(a, b);
  }
};

template <typename T>
__device__ __forceinline__ T sum_over_warp(T x) {
  return combine_over_warp(x, Plus());
}
template <typename T>
__device__ __forceinline__ T max_over_warp(T x) {
  return combine_over_warp(x, Largest());
}
template <typename T>
__device__ __forceinline__ T sum_over_block(T x, T* warps) {
  return combine_over_block(x, T(0), warps, Plus());
}
template <typename T>
__device__ __forceinline__ T max_over_block(T x, T* warps) {
  return combine_over_block(x, -std::numeric_limits<T>::infinity(), warps, Largest());
}

}  // namespace tenon::cuda
