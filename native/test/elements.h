// Elements of any type, as numbers.
#pragma once

#include <bit>
#include <cstdint>

#include "core/dtype.h"

namespace tenon::testing {

inline double load(DType dtype, const void* data, int64_t i) {
  switch (dtype) {
    case DType::Float32:
      return static_cast<const float*>(data)[i];
    case DType::BFloat16:
      return static_cast<float>(static_cast<const bfloat16*>(data)[i]);
    case DType::Float16:
      return static_cast<float>(static_cast<const float16*>(data)[i]);
    case DType::Float64:
      return static_cast<const double*>(data)[i];
    case DType::Int32:
      return static_cast<const int32_t*>(data)[i];
    case DType::Int64:
      return static_cast<double>(static_cast<const int64_t*>(data)[i]);
    default:
      return static_cast<const uint8_t*>(data)[i];
  }
}

inline void store(DType dtype, void* data, int64_t i, double value) {
  switch (dtype) {
    case DType::Float32:
      static_cast<float*>(data)[i] = static_cast<float>(value);
      return;
    case DType::BFloat16:
      static_cast<bfloat16*>(data)[i] = bfloat16(static_cast<float>(value));
      return;
    case DType::Float16:
      static_cast<float16*>(data)[i] = float16(static_cast<float>(value));
      return;
    case DType::Float64:
      static_cast<double*>(data)[i] = value;
      return;
    case DType::Int32:
      static_cast<int32_t*>(data)[i] = static_cast<int32_t>(value);
      return;
    case DType::Int64:
      static_cast<int64_t*>(data)[i] = static_cast<int64_t>(value);
      return;
    default:
      static_cast<uint8_t*>(data)[i] = static_cast<uint8_t>(value);
  }
}

// 10 bits behind the point.
inline double to_tf32(double x) {
  const auto bits = std::bit_cast<uint32_t>(static_cast<float>(x));
  return std::bit_cast<float>((bits + 0x1000) & ~0x1fffu);
}

}  // namespace tenon::testing
