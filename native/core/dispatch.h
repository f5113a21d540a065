// From a dtype to the C++ type of its elements, for the host side of every backend's kernels.
#pragma once

#include <cstdint>
#include <type_traits>

#include "core/dtype.h"
#include "core/error.h"

namespace tenon {

// A stored bool: a byte of its own type, so that dtypes map to distinct types.
struct Bool {
  uint8_t byte = 0;
};

template <typename T>
constexpr bool kIsHalf = std::is_same_v<T, bfloat16> || std::is_same_v<T, float16>;

// Calls f(S()) with the C++ type S of a floating dtype.
template <typename F>
void with_float_type(DType dtype, F&& f) {
  switch (dtype) {
    case DType::Float32:
      return f(float());
    case DType::BFloat16:
      return f(bfloat16());
    case DType::Float16:
      return f(float16());
    case DType::Float64:
      return f(double());
    default:
      throw TensorError("kernel", code::kDType, "expected a floating-point dtype");
  }
}

// Calls f(S()) with the C++ type S of `dtype`.
template <typename F>
void with_type(DType dtype, F&& f) {
  switch (dtype) {
    case DType::Int32:
      return f(int32_t());
    case DType::Int64:
      return f(int64_t());
    case DType::UInt8:
      return f(uint8_t());
    case DType::Bool:
      return f(Bool());
    default:
      return with_float_type(dtype, f);
  }
}

// Calls f(S(), N()) with the C++ types of a floating dtype and of another that is the same, or 16 bits of a float32.
template <typename F>
void with_narrowed_type(DType dtype, DType narrowed, F&& f) {
  with_float_type(dtype, [&]<typename S>(S value) {
    if (narrowed == dtype) return f(value, value);
    if constexpr (std::is_same_v<S, float>) {
      if (narrowed == DType::BFloat16) return f(value, bfloat16());
      if (narrowed == DType::Float16) return f(value, float16());
    }
    throw TensorError("kernel", code::kDType, "expected the same dtype, or 16 bits of a float32");
  });
}

// For kernels that move elements and compute nothing: calls f(T()) with an integer of the size of `dtype`.
template <typename F>
void with_bits(DType dtype, F&& f) {
  switch (size_of(dtype)) {
    case 1:
      return f(uint8_t());
    case 2:
      return f(uint16_t());
    case 4:
      return f(uint32_t());
    default:
      return f(uint64_t());
  }
}

}  // namespace tenon
