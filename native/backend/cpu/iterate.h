// The loop nest of an elementwise kernel on the CPU: its loops (core/loops.h) cut into tiles, rectangles of the two
// innermost dimensions, which cover the broadcast, transposed and contiguous cases alike.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "core/loops.h"

namespace tenon::cpu {

// Fewer elements than this are not worth waking another thread for.
constexpr int64_t kElementwiseGrain = 16384;

template <size_t N>
class Nest {
 public:
  using Offsets = std::array<int64_t, N>;  // in elements, one per operand

  // Outermost first, and at least two, to cut tiles from.
  Nest(const Shape& shape, const std::array<Shape, N>& strides) {
    const Loops<static_cast<int>(N)> loops(shape, strides);
    count_ = loops.count;
    ndim_ = std::max(2, loops.ndim);
    for (int d = 0; d < ndim_; ++d) {
      Dim& dim = dims_[static_cast<size_t>(ndim_ - 1 - d)];
      dim.size = d < loops.ndim ? loops.sizes[d] : 1;
      if (d < loops.ndim) std::copy_n(loops.strides[d], N, dim.strides.begin());
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
    std::array<int64_t, kMaxDims> index{};
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

  void advance(Offsets& offsets, int d, int64_t steps) const {
    for (size_t k = 0; k < N; ++k) offsets[k] += steps * at(d).strides[k];
  }

  const Dim& at(int d) const { return dims_[static_cast<size_t>(d)]; }
  const Dim& inner(int from_end) const { return at(ndim_ - from_end); }

  std::array<Dim, kMaxDims> dims_{};
  int ndim_ = 0;
  int64_t count_ = 0;
};

}  // namespace tenon::cpu
