// The activations of layers and their slopes. NaN stays NaN; x is bounded where infinity would meet 0.
#pragma once

#include <cmath>

#include "backend/backend.h"
#include "backend/cuda/launch.h"

namespace tenon::cuda {

template <typename T>
__device__ __forceinline__ T relu(T x) {
  return x < 0 ? T(0) : x;
}

// x Phi(x)
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

template <typename T>
__device__ __forceinline__ T sigmoid(T x) {
  using std::exp;
  return 1 / (1 + exp(-x));
}

template <typename T>
__device__ __forceinline__ T gelu_slope(T x) {
  using std::exp;
  const T bounded = x < -40 ? T(-40) : x > 40 ? T(40) : x;
  const T phi = T(0.5) * std::erfc(x * T(-0.70710678118654752440));
  const T density = T(0.39894228040143267794) * exp(T(-0.5) * x * x);
  return bounded * density + phi;
}

template <typename T>
__device__ __forceinline__ T gelu_tanh_slope(T x) {
  const T k = T(1.5957691216057307118);  // 2 sqrt(2 / pi): gelu_tanh(x) = x sigmoid(k (x + c x^3))
  const T square = x * x;
  const T s = sigmoid(x * (k + T(0.044715) * k * square));
  const T slope = k + 3 * T(0.044715) * k * square;
  return s + s * (1 - s) * (x * slope);
}

template <typename T>
__device__ __forceinline__ T silu_slope(T x) {
  const T s = sigmoid(x);
  return s * (1 + x * (1 - s));
}

template <typename T>
__device__ __forceinline__ T activate(Activation activation, T x) {
  switch (activation) {
    case Activation::Gelu:
      return gelu(x);
    case Activation::GeluTanh:
      return gelu_tanh(x);
    case Activation::Relu:
      return relu(x);
    case Activation::Silu:
      return silu(x);
    default:
      return x;
  }
}

template <typename T>
__device__ __forceinline__ T slope_of(Activation activation, T x) {
  switch (activation) {
    case Activation::Gelu:
      return gelu_slope(x);
    case Activation::GeluTanh:
      return gelu_tanh_slope(x);
    case Activation::Relu:
      return x <= 0 ? T(0) : T(1);  // an error stays visible
    case Activation::Silu:
      return silu_slope(x);
    default:
      return T(1);
  }
}

}  // namespace tenon::cuda
