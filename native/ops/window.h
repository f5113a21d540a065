// What convolution and pooling check of images and of the windows that move over them.
#pragma once

#include "ops/ops.h"

namespace tenon::ops {

inline void check_image(const char* op, const char* name, const Tensor& x) {
  check_floating(op, name, x);
  if (x.ndim() != 4) fail(op, code::kShape, "expected ", name, " [B, C, H, W] with 4 dimensions, got ", x);
}

inline Window make_window(const char* op, const Dims& kernel, const Dims& stride, const Dims& padding,
                          const Dims& dilation) {
  Window window;
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();  // the product of two fits 64 bits
  const auto take = [op](const char* name, const Dims& values, int64_t least, int64_t* to) {
    if (values.size() != 2 || values[0] < least || values[1] < least) {
      fail(op, code::kValue, "expected a ", name, " of ", least, " or more for rows and columns, got ",
           Shape(values));
    }
    if (values[0] > kMost || values[1] > kMost) {
      fail(op, code::kValue, "expected a ", name, " below 2^31, got ", Shape(values));
    }
    std::copy(values.begin(), values.end(), to);
  };
  take("kernel", kernel, 1, window.kernel);
  take("stride", stride, 1, window.stride);
  take("padding", padding, 0, window.padding);
  take("dilation", dilation, 1, window.dilation);
  return window;
}

// How many windows fit along dimension `dim` (0 for rows) of n pixels; with ceil_mode also a last one that reaches
// beyond the padding, if it begins within the image or the padding before it.
inline int64_t window_count(const char* op, const Window& window, int dim, int64_t n,
                            bool ceil_mode = false) {
  const int64_t reach = (window.kernel[dim] - 1) * window.dilation[dim] + 1, padding = window.padding[dim];
  const int64_t stride = window.stride[dim], beyond = ceil_mode ? stride - 1 : 0;
  const int64_t room = n + 2 * padding + beyond - reach;
  if (n < 1 || room < 0) {
    fail(op, code::kShape, "expected ", dim == 0 ? "a height" : "a width", " of at least ",
         std::max<int64_t>(1, n - room), " for a window over ", reach, " with padding ", padding, ", got ",
         n);
  }
  int64_t count = room / stride + 1;
  if (ceil_mode && (count - 1) * stride >= n + padding) --count;
  return count;
}

}  // namespace tenon::ops
