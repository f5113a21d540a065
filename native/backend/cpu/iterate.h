// The loop nest of an elementwise kernel: N operands of one shape, each with strides of its own.
//
// Dimensions are ordered so that the first operand (the output) is walked forwards, and neighbours that are
// contiguous together in every operand become one. What remains is cut into tiles: rectangles of the two innermost
// dimensions, which cover the broadcast, transposed and contiguous cases alike.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>

#include "core/shape.h"

namespace tenon::cpu {

// Fewer elements than this are not worth waking another thread for.
constexpr int64_t kElementwiseGrain = 16384;

template <size_t N>
class Nest {
 public:
  using Offsets = std::array<int64_t, N>;  // in elements, one per operand

  Nest(const Shape& shape, const std::array<Shape, N>& strides) {
    count_ = shape.numel();
    for (int d = 0; d < shape.ndim(); ++d) {
      if (shape[d] == 1) continue;
      Dim dim{shape[d], {}};
      for (size_t k = 0; k < N; ++k) dim.strides[k] = strides[k][d];
      dims_[static_cast<size_t>(ndim_++)] = dim;
    }
    std::stable_sort(dims_.begin(), dims_.begin() + ndim_,
                     [](const Dim& a, const Dim& b) { return outer(a, b); });
    merge();
    // There are always two inner dimensions to cut tiles from.
    Dim unit{1, {}};
    while (ndim_ < 2) {
      std::copy_backward(dims_.begin(), dims_.begin() + ndim_, dims_.begin() + ndim_ + 1);
      dims_[0] = unit;
      ++ndim_;
    }
  }

  int64_t count() const { return count_; }
  int64_t columns() const { return inner(1).size; }
  int64_t row_stride(size_t operand) const { return inner(2).strides[operand]; }
  int64_t column_stride(size_t operand) const { return inner(1).strides[operand]; }

  // Cuts elements [begin, end) of the iteration order into tiles and calls body(offsets, rows, columns) for each.
  // A tile holds at most `most` elements; it has several rows only where they are whole.
  template <typename Body>
  void tiles(int64_t begin, int64_t end, int64_t most, Body&& body) const {
    if (begin >= end) return;
    std::array<int64_t, kMaxDims + 2> index{};
    int64_t rest = begin;
    for (int d = ndim_ - 1; d >= 0; --d) {
      index[static_cast<size_t>(d)] = rest % at(d).size;
      rest /= at(d).size;
    }
    Offsets offsets{};
    for (int d = 0; d < ndim_; ++d) {
      for (size_t k = 0; k < N; ++k) offsets[k] += index[static_cast<size_t>(d)] * at(d).strides[k];
    }
    int64_t& row = index[static_cast<size_t>(ndim_ - 2)];
    int64_t& column = index[static_cast<size_t>(ndim_ - 1)];
    const int64_t height = inner(2).size, width = inner(1).size;
    while (begin < end) {
      int64_t rows = 1, columns = std::min({width - column, end - begin, most});
      if (column == 0 && columns == width)
        rows = std::min({height - row, (end - begin) / width, most / width});
      body(offsets, rows, columns);
      begin += rows * columns;
      column += columns;
      advance(offsets, ndim_ - 1, columns);
      if (column < width) continue;
      column = 0;
      advance(offsets, ndim_ - 1, -width);
      row += rows;
      advance(offsets, ndim_ - 2, rows);
      for (int d = ndim_ - 2; d > 0 && index[static_cast<size_t>(d)] == at(d).size; --d) {
        index[static_cast<size_t>(d)] = 0;
        advance(offsets, d, -at(d).size);
        ++index[static_cast<size_t>(d - 1)];
        advance(offsets, d - 1, 1);
      }
    }
  }

 private:
  struct Dim {
    int64_t size;
    std::array<int64_t, N> strides;
  };

  static bool outer(const Dim& a, const Dim& b) {
    for (size_t k = 0; k < N; ++k) {
      const int64_t x = std::abs(a.strides[k]), y = std::abs(b.strides[k]);
      if (x != y) return x > y;
    }
    return false;
  }

  void merge() {
    int kept = 0;
    for (int d = 0; d < ndim_; ++d) {
      const Dim next = dims_[static_cast<size_t>(d)];
      bool joins = kept > 0;
      for (size_t k = 0; joins && k < N; ++k) {
        joins = dims_[static_cast<size_t>(kept - 1)].strides[k] == next.strides[k] * next.size;
      }
      if (joins) {
        dims_[static_cast<size_t>(kept - 1)] = {dims_[static_cast<size_t>(kept - 1)].size * next.size,
                                                next.strides};
      } else {
        dims_[static_cast<size_t>(kept++)] = next;
      }
    }
    ndim_ = kept;
  }

  void advance(Offsets& offsets, int d, int64_t steps) const {
    for (size_t k = 0; k < N; ++k) offsets[k] += steps * at(d).strides[k];
  }

  const Dim& at(int d) const { return dims_[static_cast<size_t>(d)]; }
  const Dim& inner(int from_end) const { return at(ndim_ - from_end); }

  std::array<Dim, kMaxDims + 2> dims_{};
  int ndim_ = 0;
  int64_t count_ = 0;
};

}  // namespace tenon::cpu
