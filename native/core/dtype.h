// Element types of tensors, and the two 16-bit floating-point formats as C++ types.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tenon {

enum class DType : uint8_t { Float32, BFloat16, Float16, Float64, Int32, Int64, UInt8, Bool };

constexpr int kDTypeCount = 8;

constexpr size_t size_of(DType dtype) {
  constexpr size_t sizes[kDTypeCount] = {4, 2, 2, 8, 4, 8, 1, 1};
  return sizes[static_cast<size_t>(dtype)];
}

constexpr std::string_view name_of(DType dtype) {
  constexpr std::string_view names[kDTypeCount] = {"float32", "bfloat16", "float16", "float64",
                                                   "int32",   "int64",    "uint8",   "bool"};
  return names[static_cast<size_t>(dtype)];
}

constexpr bool is_floating(DType dtype) { return dtype <= DType::Float64; }

// Half of a float32, kept as its upper 16 bits; conversion rounds to nearest even and keeps NaN a NaN.
struct bfloat16 {
  uint16_t bits = 0;

  bfloat16() = default;
  explicit bfloat16(float value) {
    const auto u = std::bit_cast<uint32_t>(value);
    bits = (u & 0x7fffffffu) > 0x7f800000u ? static_cast<uint16_t>((u >> 16) | 0x40u)
                                           : static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
  }
  explicit operator float() const { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
};

// IEEE 754 binary16; conversion rounds to nearest even, with subnormals and infinities.
struct float16 {
  uint16_t bits = 0;

  float16() = default;
  explicit float16(float value);
  explicit operator float() const;
};

}  // namespace tenon
