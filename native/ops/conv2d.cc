#include "ops/window.h"

namespace tenon::ops {

namespace {

OptionalTensor optional_contiguous(const OptionalTensor& x) { return x ? OptionalTensor(contiguous(*x)) : x; }

}  // namespace

Tensor conv2d(const Tensor& x, const Tensor& weight, const OptionalTensor& bias,
              const OptionalTensor& residual, const Dims& stride, const Dims& padding, const Dims& dilation,
              int64_t groups, bool relu, bool is_fixed) {
  check_image("conv2d", "x", x);
  check_same_dtype("conv2d", "x", x, "weight", weight);
  if (weight.ndim() != 4) {
    fail("conv2d", code::kShape, "expected weight [O, C / groups, kh, kw] with 4 dimensions, got ", weight);
  }
  const int64_t out = weight.size(0);
  if (groups < 1 || x.size(1) % groups != 0 || out % groups != 0) {
    fail("conv2d", code::kValue, "expected groups that divide ", x.size(1), " and ", out, " channels, got ",
         groups);
  }
  if (weight.size(1) != x.size(1) / groups) {
    fail("conv2d", code::kShape, "expected a weight for ", x.size(1) / groups, " channels of x ", x, " in ",
         groups, groups == 1 ? " group" : " groups", ", got ", weight);
  }
  const Window window = make_window("conv2d", {weight.size(2), weight.size(3)}, stride, padding, dilation);
  const Shape shape{x.size(0), out, window_count("conv2d", window, 0, x.size(2)),
                    window_count("conv2d", window, 1, x.size(3))};
  if (bias) {
    check_same_dtype("conv2d", "x", x, "bias", *bias);
    check_shape("conv2d", "bias", *bias, Shape{out});
  }
  if (residual) {
    check_same_dtype("conv2d", "x", x, "residual", *residual);
    check_shape("conv2d", "residual", *residual, shape);
  }
  const Tensor xc = channels_last(x), w = contiguous(weight);
  const OptionalTensor b = optional_contiguous(bias);
  const OptionalTensor r = residual ? OptionalTensor(channels_last(*residual)) : residual;
  Tensor y = empty_channels_last(x.device(), shape, x.dtype());
  Conv2dArgs args{xc.view(), w.view(), optional_view(b), optional_view(r), y.view(), window, groups, relu};
  const std::shared_ptr<Prepared> prepared =
      is_fixed && w.storage() == weight.storage() ? prepared_copy(w, args) : nullptr;
  args.prepared_weight = prepared.get();
  launch(x.device(), "conv2d", &Kernels::conv2d, args, prepared);
  return y;
}

Tensor conv2d_input_gradient(const Tensor& dy, const Tensor& weight, int64_t height, int64_t width,
                             const Dims& stride, const Dims& padding, const Dims& dilation, int64_t groups) {
  check_image("conv2dInputGradient", "dy", dy);
  check_same_dtype("conv2dInputGradient", "dy", dy, "weight", weight);
  const Window window =
      make_window("conv2dInputGradient", {weight.size(2), weight.size(3)}, stride, padding, dilation);
  const Tensor dyc = channels_last(dy), w = contiguous(weight);
  Tensor dx =
      empty_channels_last(dy.device(), Shape{dy.size(0), weight.size(1) * groups, height, width}, dy.dtype());
  launch(dy.device(), "conv2dInputGradient", &Kernels::conv2d_input_gradient,
         Conv2dInputGradientArgs{dyc.view(), w.view(), dx.view(), window, groups});
  return dx;
}

std::tuple<Tensor, Tensor> conv2d_weight_gradient(const Tensor& dy, const Tensor& x, const Dims& kernel,
                                                  const Dims& stride, const Dims& padding,
                                                  const Dims& dilation, int64_t groups, bool needs_dbias) {
  check_image("conv2dWeightGradient", "dy", dy);
  check_same_dtype("conv2dWeightGradient", "dy", dy, "x", x);
  const Window window = make_window("conv2dWeightGradient", kernel, stride, padding, dilation);
  const Tensor dyc = channels_last(dy), xc = channels_last(x);
  const int64_t out = dy.size(1);
  Tensor dweight = empty(x.device(), Shape{out, x.size(1) / groups, kernel[0], kernel[1]}, x.dtype());
  Tensor dbias = needs_dbias ? empty(x.device(), Shape{out}, x.dtype()) : Tensor();
  launch(x.device(), "conv2dWeightGradient", &Kernels::conv2d_weight_gradient,
         Conv2dWeightGradientArgs{dyc.view(), xc.view(), dweight.view(), dbias.view(), window, groups});
  return {dweight, dbias};
}

}  // namespace tenon::ops
