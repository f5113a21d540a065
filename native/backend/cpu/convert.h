// Conversions between the dtypes' C++ types, and the dispatch from a dtype to its type.
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>

#include "core/dtype.h"

namespace tenon::cpu {

// A stored bool: a byte of its own type, so that dtypes map to distinct types.
struct Bool {
  uint8_t byte = 0;
};

template <typename T>
constexpr bool kIsHalf = std::is_same_v<T, bfloat16> || std::is_same_v<T, float16>;

// Float to integer truncates and saturates, NaN gives 0; anything to bool is (x != 0).
template <typename To, typename From>
inline To convert(From x) {
  if constexpr (std::is_same_v<To, From>) {
    return x;
  } else if constexpr (std::is_same_v<From, Bool>) {
    return convert<To>(x.byte);
  } else if constexpr (kIsHalf<From>) {
    return convert<To>(static_cast<float>(x));
  } else if constexpr (std::is_same_v<To, Bool>) {
    return Bool{static_cast<uint8_t>(x != From(0))};
  } else if constexpr (kIsHalf<To>) {
    return To(static_cast<float>(x));
  } else if constexpr (std::is_integral_v<To> && std::is_floating_point_v<From>) {
    // The largest To may round up to the power of two above it, which is itself out of range.
    constexpr From low = static_cast<From>(std::numeric_limits<To>::min());
    constexpr From high = static_cast<From>(std::numeric_limits<To>::max());
    if (x != x) return 0;
    if (x <= low) return std::numeric_limits<To>::min();
    if (x >= high) return std::numeric_limits<To>::max();
    return static_cast<To>(x);
  } else {
    return static_cast<To>(x);
  }
}

// Calls f(T()) with the C++ type T of `dtype`.
template <typename F>
inline void with_type(DType dtype, F&& f) {
  switch (dtype) {
    case DType::Float32:
      return f(float());
    case DType::BFloat16:
      return f(bfloat16());
    case DType::Float16:
      return f(float16());
    case DType::Float64:
      return f(double());
    case DType::Int32:
      return f(int32_t());
    case DType::Int64:
      return f(int64_t());
    case DType::UInt8:
      return f(uint8_t());
    case DType::Bool:
      return f(Bool());
  }
}

}  // namespace tenon::cpu
