// The part of CUDA's runtime header that the kernels and their device use, on the emulator.
#pragma once

#include <atomic>
#include <cmath>
#include <cstdint>
#include <functional>

#include "test/cuda_emulator/emulator.h"
#include "test/cuda_emulator/runtime.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __grid_constant__

using dim3 = tenon::emulator::Dim3;

#define threadIdx (::tenon::emulator::position().thread)
#define blockIdx (::tenon::emulator::position().block)
#define blockDim (::tenon::emulator::position().block_size)
#define gridDim (::tenon::emulator::position().grid_size)

// Where a kernel calls from, for the emulator's errors.
#define TENON_WHERE tenon::emulator::Where where = tenon::emulator::Where::current()

inline void __syncthreads(TENON_WHERE) { tenon::emulator::sync_block(where); }

inline void __syncwarp(unsigned mask = 0xffffffffu, TENON_WHERE) { tenon::emulator::sync_warp(mask, where); }

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, TENON_WHERE) {
  T result;
  tenon::emulator::shuffle(mask, &value, sizeof(T), static_cast<unsigned>(source) % 32, &result, where);
  return result;
}

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, TENON_WHERE) {
  T result;
  const unsigned source = tenon::emulator::lane() ^ static_cast<unsigned>(lanes);
  tenon::emulator::shuffle(mask, &value, sizeof(T), source, &result, where);
  return result;
}

template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, TENON_WHERE) {
  T result;
  tenon::emulator::shuffle(mask, &value, sizeof(T), tenon::emulator::lane() + delta, &result, where);
  return result;
}

inline unsigned __ballot_sync(unsigned mask, bool predicate, TENON_WHERE) {
  return tenon::emulator::ballot(mask, predicate, where);
}

inline unsigned atomicCAS(unsigned* address, unsigned expected, unsigned value) {
  std::atomic_ref<unsigned>(*address).compare_exchange_strong(expected, value);
  return expected;
}

inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline double cospi(double x) { return std::cos(x * 3.141592653589793); }
inline double sinpi(double x) { return std::sin(x * 3.141592653589793); }
