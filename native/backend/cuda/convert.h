// Conversions between all dtypes, and the dispatch from an op to its constant.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

#include "backend/cuda/numeric.h"

namespace tenon::cuda {

// What the value of a stored S is computed with.
template <typename S>
using Value = std::conditional_t<kIsHalf<S>, float, std::conditional_t<std::is_same_v<S, Bool>, uint8_t, S>>;

template <typename S>
__device__ __forceinline__ Value<S> value_of(S x) {
  if constexpr (std::is_same_v<S, Bool>) {
    return x.byte;
  } else if constexpr (kIsHalf<S>) {
    return widen(x);
  } else {
    return x;
  }
}

// Float to integer truncates and saturates, NaN gives 0; anything to bool is (x != 0). T is a Value.
template <typename To, typename T>
__host__ __device__ __forceinline__ To convert(T x) {
  if constexpr (std::is_same_v<To, T>) {
    return x;
  } else if constexpr (std::is_same_v<To, Bool>) {
    return Bool{static_cast<uint8_t>(x != T(0))};
  } else if constexpr (kIsHalf<To>) {
    return narrow<To>(static_cast<float>(x));
  } else if constexpr (std::is_integral_v<To> && std::is_floating_point_v<T>) {
    // The largest To may round up to the power of two above it, which is itself out of range.
    constexpr T low = static_cast<T>(std::numeric_limits<To>::min());
    constexpr T high = static_cast<T>(std::numeric_limits<To>::max());
    if (x != x) return 0;
    if (x <= low) return std::numeric_limits<To>::min();
    if (x >= high) return std::numeric_limits<To>::max();
    return static_cast<To>(x);
  } else {
    return static_cast<To>(x);
  }
}

// The bits of `value` in a dtype of T's size.
template <typename T>
T bits_of(DType dtype, double value) {
  T bits{};
  with_type(dtype, [&]<typename S>(S) {
    if constexpr (sizeof(S) == sizeof(T)) bits = std::bit_cast<T>(convert<S>(value));
  });
  return bits;
}

// Calls f(std::integral_constant<Op, op>()), op being one of the first kCount of an enumeration.
template <int kCount, typename Op, typename F>
void with_op(Op op, F&& f) {
  [&]<int... kIndex>(std::integer_sequence<int, kIndex...>) {
    ((op == Op(kIndex) ? f(std::integral_constant<Op, Op(kIndex)>{}) : void()), ...);
  }
  (std::make_integer_sequence<int, kCount>{});
}

}  // namespace tenon::cuda
