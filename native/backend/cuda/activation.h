// The activations of layers, for unary.cu and epilogue.cu. NaN stays NaN.
#pragma once

#include <cmath>

#include "backend/cuda/launch.h"

namespace tenon::cuda {

template <typename T>
__device__ __forceinline__ T relu(T x) {
  return x < 0 ? T(0) : x;
}

// x Phi(x), x bounded, as -infinity times 0 is NaN.
template <typename T>
__device__ __forceinline__ T gelu(T x) {
  return (x < -40 ? T(-40) : x) * (T(0.5) * std::erfc(x * T(-0.70710678118654752440)));
}

template <typename T>
__device__ __forceinline__ T gelu_tanh(T x) {
  using std::exp;
  constexpr T k = T(1.5957691216057307118);  // 2 sqrt(2 / pi)
  return x / (1 + exp(-x * (k + T(0.044715) * k * x * x)));
}

template <typename T>
__device__ __forceinline__ T silu(T x) {
  using std::exp;
  return x / (1 + exp(-x));
}

}  // namespace tenon::cuda
