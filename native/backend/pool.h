// Which pixels a pooling window covers along one dimension, and which windows cover a pixel. Both backends use it.
#pragma once

#include <algorithm>
#include <cstdint>

#include "backend/backend.h"
#include "backend/divide.h"

namespace tenon {

// [begin, end), every `step`.
struct PoolRange {
  int64_t begin, end, step = 1;
};

// One dimension: `in` inputs and `out` outputs.
struct PoolAxis {
  int64_t in, out, kernel, stride, padding, dilation;
  bool adaptive;

  PoolAxis(int64_t in_, int64_t out_, const Window& window, int dim, bool adaptive_)
      : in(in_),
        out(out_),
        kernel(window.kernel[dim]),
        stride(window.stride[dim]),
        padding(window.padding[dim]),
        dilation(window.dilation[dim]),
        adaptive(adaptive_) {}

  constexpr int64_t first(int64_t o) const { return adaptive ? o * in / out : o * stride - padding; }

  constexpr PoolRange inputs(int64_t o) const {
    if (adaptive) return {first(o), ceil_div((o + 1) * in, out)};
    const int64_t from = first(o), skipped = from < 0 ? ceil_div(-from, dilation) : 0;
    return {from + skipped * dilation, std::min(in, from + (kernel - 1) * dilation + 1), dilation};
  }

  // With dilation some of these do not cover i after all.
  constexpr PoolRange outputs(int64_t i) const {
    if (adaptive) return {i * out / in, ceil_div((i + 1) * out, in)};
    return {std::max<int64_t>(0, ceil_div(i + padding - (kernel - 1) * dilation, stride)),
            std::min(out, (i + padding) / stride + 1)};
  }

  // How many elements a mean divides by.
  constexpr int64_t extent(int64_t o, bool count_padding) const {
    const PoolRange range = inputs(o);
    if (adaptive || !count_padding) return range.end - range.begin;
    return std::min(first(o) + kernel, in + padding) - first(o);
  }
};

}  // namespace tenon
