#include "ops/ops.h"

namespace tenon::ops {

namespace {

// x with its channels last and packed: the kernel sees [rows, C].
Tensor with_columns(const Tensor& x) { return x.ndim() == 4 ? channels_last(x) : contiguous(x); }

View as_rows(const Tensor& x) {
  const int64_t c = x.size(1);
  return x.with(Shape{c == 0 ? 0 : x.numel() / c, c}, Shape{c, 1}, x.offset()).view();
}

Tensor empty_with_columns(const Tensor& x) {
  return x.ndim() == 4 ? empty_channels_last(x.device(), x.shape(), x.dtype()) : empty_like(x);
}

OptionalTensor optional_contiguous(const OptionalTensor& x) { return x ? OptionalTensor(contiguous(*x)) : x; }

}  // namespace

std::tuple<Tensor, Tensor, Tensor> batch_norm(const Tensor& x, const OptionalTensor& gamma,
                                              const OptionalTensor& beta, const OptionalTensor& running_mean,
                                              const OptionalTensor& running_var,
                                              const OptionalTensor& residual, bool training, double momentum,
                                              double eps, bool relu) {
  check_floating("batchNorm", "x", x);
  if (x.ndim() != 2 && x.ndim() != 4) {
    fail("batchNorm", code::kShape, "expected x [B, C] or [B, C, H, W], got ", x);
  }
  const int64_t c = x.size(1);
  const auto check = [&](const char* name, const OptionalTensor& p) {
    if (!p) return;
    // Beside 16-bit images, parameters and statistics may be float32: in mixed precision they are.
    if (size_of(x.dtype()) != 2 || p->dtype() != DType::Float32) {
      check_same_dtype("batchNorm", "x", x, name, *p);
    }
    check_shape("batchNorm", name, *p, Shape{c});
  };
  check("gamma", gamma);
  check("beta", beta);
  check("runningMean", running_mean);
  check("runningVar", running_var);
  if (running_mean.has_value() != running_var.has_value()) {
    fail("batchNorm", code::kValue, "expected both running statistics or neither, got one");
  }
  if (!training && !running_mean) {
    fail("batchNorm", code::kValue, "expected running statistics outside training, got none");
  }
  if (!(eps >= 0)) fail("batchNorm", code::kValue, "expected an eps of 0 or more, got ", eps);
  if (!(momentum >= 0 && momentum <= 1)) {
    fail("batchNorm", code::kValue, "expected a momentum in [0, 1], got ", momentum);
  }
  if (residual) {
    check_same_dtype("batchNorm", "x", x, "residual", *residual);
    check_shape("batchNorm", "residual", *residual, x.shape());
  }
  if (training && c > 0 && x.numel() / c == 1) {
    fail("batchNorm", code::kShape, "expected more than one value per channel in training, got x ", x);
  }
  for (const OptionalTensor& running : {running_mean, running_var}) {
    if (running && !running->is_contiguous()) {
      fail("batchNorm", code::kShape, "expected contiguous running statistics, got strides ",
           running->strides());
    }
    if (running && training) running->storage()->mark_written();
  }
  const Tensor xc = with_columns(x);
  const OptionalTensor g = optional_contiguous(gamma), b = optional_contiguous(beta);
  const OptionalTensor r = residual ? OptionalTensor(with_columns(*residual)) : residual;
  const Tensor y = empty_with_columns(x);
  const Tensor mean =
      empty(x.device(), Shape{c}, x.dtype() == DType::Float64 ? DType::Float64 : DType::Float32);
  const Tensor rstd = empty_like(mean);
  launch(x.device(), "batchNorm", &Kernels::batch_norm,
         BatchNormArgs{as_rows(xc), r ? as_rows(*r) : View{}, optional_view(g), optional_view(b),
                       optional_view(running_mean), optional_view(running_var), as_rows(y), mean.view(),
                       rstd.view(), eps, momentum, training, relu});
  return {y, mean, rstd};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> batch_norm_backward(
    const Tensor& dy, const Tensor& x, const OptionalTensor& y, const OptionalTensor& gamma,
    const OptionalTensor& beta, const Tensor& mean, const Tensor& rstd, bool training, bool needs_dresidual) {
  check_same_dtype("batchNormBackward", "dy", dy, "x", x);
  check_shape("batchNormBackward", "dy", dy, x.shape());
  const Tensor dyc = with_columns(dy), xc = with_columns(x);
  const OptionalTensor yc = y ? OptionalTensor(with_columns(*y)) : y, g = optional_contiguous(gamma);
  const Tensor dx = empty_with_columns(x);
  const Tensor dresidual = needs_dresidual ? empty_with_columns(x) : Tensor();
  const Tensor dgamma = gamma ? empty_like(*gamma) : Tensor();
  const Tensor dbeta = beta ? empty_like(*beta) : Tensor();
  launch(x.device(), "batchNormBackward", &Kernels::batch_norm_backward,
         BatchNormBackwardArgs{as_rows(dyc), as_rows(xc), yc ? as_rows(*yc) : View{}, optional_view(g),
                               mean.view(), rstd.view(), as_rows(dx), dresidual ? as_rows(dresidual) : View{},
                               dgamma.view(), dbeta.view(), training});
  return {dx, dgamma, dbeta, dresidual};
}

}  // namespace tenon::ops
