// Rows of a tensor in the registers of a warp: what normalisations and softmaxes over the last dimension work on. A row
// is read from memory once, in 16-byte accesses, neighbouring lanes taking neighbouring packs.
#pragma once

#include <algorithm>
#include <initializer_list>

#include "backend/cuda/numeric.h"

namespace tenon::cuda {

constexpr int kMaxInRegisters = 1024;  // elements of a row

// Elements of a row in a lane: pack p of lane l begins at kWidth (l + 32 p).
template <typename S, int kPacks>
struct Row {
  static constexpr int kWidth = kFullWidth<S>;
  using T = Compute<S>;
  T values[kPacks * kWidth];

  __device__ __forceinline__ static int at(int pack) {
    return kWidth * (static_cast<int>(threadIdx.x) % kWarpSize + kWarpSize * pack);
  }

  // Elements beyond the row, and those of an absent one, are `absent`. In memory they may have another dtype.
  template <typename E>
  __device__ __forceinline__ void load(const E* row, int columns, T absent) {
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      const bool inside = row != nullptr && at(p) < columns;
      Pack<E, kWidth> pack;
      if (inside) pack = *reinterpret_cast<const Pack<E, kWidth>*>(row + at(p));
#pragma unroll
      for (int i = 0; i < kWidth; ++i) values[p * kWidth + i] = inside ? T(widen(pack.elements[i])) : absent;
    }
  }

  template <typename E>
  __device__ __forceinline__ void store(E* row, int columns) const {
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      if (at(p) >= columns) continue;
      Pack<E, kWidth> pack;
#pragma unroll
      for (int i = 0; i < kWidth; ++i) pack.elements[i] = narrow<E>(values[p * kWidth + i]);
      *reinterpret_cast<Pack<E, kWidth>*>(row + at(p)) = pack;
    }
  }

  // What the row is after a store and a load.
  __device__ __forceinline__ void round() {
#pragma unroll
    for (int i = 0; i < kPacks * kWidth; ++i) values[i] = widen(narrow<S>(values[i]));
  }
};

// Calls f with the packs of 16 bytes that a lane needs for a row, as a constant.
template <typename S, typename F>
void with_packs(int64_t columns, F&& f) {
  constexpr int kMost = kMaxInRegisters / kWarpSize / kFullWidth<S>;
  const int64_t packs = blocks_for(columns, kWarpSize * kFullWidth<S>);
  if (packs <= 1) return f(std::integral_constant<int, 1>{});
  if (packs <= 2) return f(std::integral_constant<int, 2>{});
  if constexpr (kMost == 4) {
    if (packs <= 3) return f(std::integral_constant<int, 3>{});
  } else {
    if (packs <= 4) return f(std::integral_constant<int, 4>{});
    if (packs <= 6) return f(std::integral_constant<int, 6>{});
  }
  return f(std::integral_constant<int, kMost>{});
}

// float64 is for checking gradients; it takes the short way through the code.
template <typename S>
bool fits_registers(int64_t columns, std::initializer_list<const void*> operands) {
  return !std::is_same_v<S, double> && columns <= kMaxInRegisters &&
         std::all_of(operands.begin(), operands.end(),
                     [&](const void* data) { return takes_packs<S>(data, columns); });
}

}  // namespace tenon::cuda
