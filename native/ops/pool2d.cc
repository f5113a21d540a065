#include "ops/window.h"

namespace tenon::ops {

namespace {

const Dims kNoDilation = {1, 1};

// A window of which at most half is padding, so that each one meets the image.
Window pool_window(const char* op, const Dims& kernel, const Dims& stride, const Dims& padding,
                   const Dims& dilation) {
  const Window window = make_window(op, kernel, stride, padding, dilation);
  for (const int dim : {0, 1}) {
    if (2 * window.padding[dim] > window.kernel[dim]) {
      fail(op, code::kValue, "expected a padding of at most half the kernel ", Shape(kernel), ", got ",
           Shape(padding));
    }
  }
  return window;
}

Tensor pooled(const char* op, const Tensor& x, const Window& window, bool ceil_mode) {
  return empty_channels_last(x.device(),
                             Shape{x.size(0), x.size(1), window_count(op, window, 0, x.size(2), ceil_mode),
                                   window_count(op, window, 1, x.size(3), ceil_mode)},
                             x.dtype());
}

Tensor like_input(const Tensor& dy, int64_t height, int64_t width) {
  return empty_channels_last(dy.device(), Shape{dy.size(0), dy.size(1), height, width}, dy.dtype());
}

}  // namespace

std::tuple<Tensor, Tensor> max_pool2d(const Tensor& x, const Dims& kernel, const Dims& stride,
                                      const Dims& padding, const Dims& dilation, bool ceil_mode) {
  check_image("maxPool2d", "x", x);
  const Window window = pool_window("maxPool2d", kernel, stride, padding, dilation);
  if (x.size(2) * x.size(3) > std::numeric_limits<int32_t>::max()) {
    fail("maxPool2d", code::kShape, "expected fewer than 2^31 pixels, got ", x);
  }
  const Tensor xc = channels_last(x);
  Tensor y = pooled("maxPool2d", x, window, ceil_mode);
  const Tensor index = empty_channels_last(x.device(), y.shape(), DType::Int32);
  launch(x.device(), "maxPool2d", &Kernels::max_pool2d,
         MaxPool2dArgs{xc.view(), y.view(), index.view(), window});
  return {y, index};
}

Tensor max_pool2d_backward(const Tensor& dy, const Tensor& index, int64_t height, int64_t width,
                           const Dims& kernel, const Dims& stride, const Dims& padding,
                           const Dims& dilation) {
  check_image("maxPool2dBackward", "dy", dy);
  check_shape("maxPool2dBackward", "index", index, dy.shape());
  const Window window = pool_window("maxPool2dBackward", kernel, stride, padding, dilation);
  const Tensor dyc = channels_last(dy);
  Tensor dx = like_input(dy, height, width);
  launch(dy.device(), "maxPool2dBackward", &Kernels::max_pool2d_backward,
         MaxPool2dBackwardArgs{dyc.view(), channels_last(index).view(), dx.view(), window});
  return dx;
}

Tensor avg_pool2d(const Tensor& x, const Dims& kernel, const Dims& stride, const Dims& padding,
                  bool ceil_mode, bool count_padding) {
  check_image("avgPool2d", "x", x);
  const Window window = pool_window("avgPool2d", kernel, stride, padding, kNoDilation);
  const Tensor xc = channels_last(x);
  Tensor y = pooled("avgPool2d", x, window, ceil_mode);
  launch(x.device(), "avgPool2d", &Kernels::avg_pool2d,
         AvgPool2dArgs{xc.view(), y.view(), window, false, count_padding});
  return y;
}

Tensor avg_pool2d_backward(const Tensor& dy, int64_t height, int64_t width, const Dims& kernel,
                           const Dims& stride, const Dims& padding, bool count_padding) {
  check_image("avgPool2dBackward", "dy", dy);
  const Window window = pool_window("avgPool2dBackward", kernel, stride, padding, kNoDilation);
  const Tensor dyc = channels_last(dy);
  Tensor dx = like_input(dy, height, width);
  launch(dy.device(), "avgPool2dBackward", &Kernels::avg_pool2d_backward,
         AvgPool2dBackwardArgs{dyc.view(), dx.view(), window, false, count_padding});
  return dx;
}

Tensor adaptive_avg_pool2d(const Tensor& x, int64_t height, int64_t width) {
  check_image("adaptiveAvgPool2d", "x", x);
  if (height < 1 || width < 1 || x.size(2) < 1 || x.size(3) < 1) {
    fail("adaptiveAvgPool2d", code::kShape, "expected sizes of 1 or more, got ", x, " and ",
         Shape{height, width});
  }
  const Tensor xc = channels_last(x);
  Tensor y = like_input(x, height, width);
  launch(x.device(), "adaptiveAvgPool2d", &Kernels::avg_pool2d, AvgPool2dArgs{xc.view(), y.view(), {}, true});
  return y;
}

Tensor adaptive_avg_pool2d_backward(const Tensor& dy, int64_t height, int64_t width) {
  check_image("adaptiveAvgPool2dBackward", "dy", dy);
  const Tensor dyc = channels_last(dy);
  Tensor dx = like_input(dy, height, width);
  launch(dy.device(), "adaptiveAvgPool2dBackward", &Kernels::avg_pool2d_backward,
         AvgPool2dBackwardArgs{dyc.view(), dx.view(), {}, true});
  return dx;
}

}  // namespace tenon::ops
