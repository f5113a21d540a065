// The loops of an elementwise kernel: N operands of one shape, each with strides of its own.
//
// Dimensions are ordered so that the first operand (the output) is walked forwards, and neighbours that are
// contiguous together in every operand become one. Dimension 0 is the innermost. Trivially copyable: a kernel on a
// device takes it as an argument.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>

#include "core/shape.h"

namespace tenon {

template <int N>
struct Loops {
  int ndim = 1;  // at least one
  int64_t count = 1;
  int64_t sizes[kMaxDims] = {1};
  int64_t strides[kMaxDims][N] = {};

  Loops(const Shape& shape, const std::array<Shape, N>& operands) : count(shape.numel()) {
    struct Dim {
      int64_t size;
      std::array<int64_t, N> strides;
      // Whether all operands walk through this dimension and the one inside it as through one.
      bool joins(const Dim& inner) const {
        for (size_t k = 0; k < N; ++k) {
          if (strides[k] != inner.strides[k] * inner.size) return false;
        }
        return true;
      }
    };
    std::array<Dim, kMaxDims> dims{};
    int used = 0;
    for (int d = shape.ndim() - 1; d >= 0; --d) {
      if (shape[d] == 1) continue;
      Dim& dim = dims[static_cast<size_t>(used++)];
      dim.size = shape[d];
      for (size_t k = 0; k < N; ++k) dim.strides[k] = operands[k][d];
    }
    std::stable_sort(dims.begin(), dims.begin() + used, [](const Dim& a, const Dim& b) {
      for (size_t k = 0; k < N; ++k) {
        const int64_t x = std::abs(a.strides[k]), y = std::abs(b.strides[k]);
        if (x != y) return x < y;
      }
      return false;
    });
    if (used == 0) return;
    ndim = 0;
    for (int d = 0; d < used; ++d) {
      const Dim& dim = dims[static_cast<size_t>(d)];
      if (ndim > 0) {
        Dim inner{sizes[ndim - 1], {}};
        std::copy_n(strides[ndim - 1], N, inner.strides.begin());
        if (dim.joins(inner)) {
          sizes[ndim - 1] *= dim.size;
          continue;
        }
      }
      sizes[ndim] = dim.size;
      std::copy_n(dim.strides.begin(), N, strides[ndim]);
      ++ndim;
    }
  }
};

}  // namespace tenon
