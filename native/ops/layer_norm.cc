#include "ops/ops.h"

namespace tenon::ops {

namespace {

// 16-bit inputs keep their statistics in float32.
DType statistics_dtype(const Tensor& x) {
  return x.dtype() == DType::Float64 ? DType::Float64 : DType::Float32;
}

// A contiguous tensor seen as [rows, C].
View as_rows(const Tensor& x) {
  const int64_t c = x.size(-1);
  const int64_t rows = c == 0 ? 0 : x.numel() / c;
  return x.with(Shape{rows, c}, Shape{c, 1}, x.offset()).view();
}

View optional_rows(const OptionalTensor& x) { return x ? as_rows(*x) : View{}; }

OptionalTensor optional_contiguous(const OptionalTensor& x) { return x ? OptionalTensor(contiguous(*x)) : x; }

Shape statistics_shape(const Tensor& x) {
  Shape shape = x.shape();
  shape.erase(shape.ndim() - 1);
  return shape;
}

// What is normalised has the dtype of the input, or is rounded to 16 bits on its way to memory.
void check_result_dtype(const char* op, const char* name, DType dtype, const char* input_name, DType input) {
  if (dtype == input || (input == DType::Float32 && size_of(dtype) == 2 && is_floating(dtype))) return;
  fail(op, code::kDType, "expected ", name, " in the dtype of ", input_name,
       " or in 16 bits of a float32, got ", name_of(dtype), " of ", name_of(input));
}

void check_parameter(const char* name, const Tensor& x, const OptionalTensor& p) {
  if (!p) return;
  check_same_dtype("layerNorm", "x", x, name, *p);
  check_shape("layerNorm", name, *p, Shape{x.size(-1)});
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor, Tensor> layer_norm(const Tensor& x, const OptionalTensor& residual,
                                                      const OptionalTensor& gamma, const OptionalTensor& beta,
                                                      double eps, DType dtype) {
  check_floating("layerNorm", "x", x);
  if (x.ndim() == 0) fail("layerNorm", code::kShape, "expected at least one dimension, got a scalar");
  if (!(eps >= 0)) fail("layerNorm", code::kValue, "expected an eps of 0 or more, got ", eps);
  check_parameter("gamma", x, gamma);
  check_parameter("beta", x, beta);
  if (residual) {
    check_same_dtype("layerNorm", "x", x, "residual", *residual);
    check_shape("layerNorm", "residual", *residual, x.shape());
  }
  check_result_dtype("layerNorm", "the result", dtype, "x", x.dtype());
  const Tensor xc = contiguous(x);
  const OptionalTensor rc = optional_contiguous(residual), g = optional_contiguous(gamma),
                       b = optional_contiguous(beta);
  const Tensor y = empty(x.device(), x.shape(), dtype);
  const Tensor sum = residual ? empty_like(x) : Tensor();
  const Tensor mean = empty(x.device(), statistics_shape(x), statistics_dtype(x));
  const Tensor rstd = empty_like(mean);
  LayerNormArgs args{as_rows(xc), optional_rows(rc), optional_view(g), optional_view(b),
                     {},          as_rows(y),        mean.view(),      rstd.view(),
                     eps};
  if (sum) args.sum = as_rows(sum);
  args.mean.shape = args.rstd.shape = Shape{mean.numel()};
  args.mean.strides = args.rstd.strides = Shape{1};
  launch(x.device(), "layerNorm", &Kernels::layer_norm, args);
  return {y, sum, mean, rstd};
}

std::tuple<Tensor, Tensor, Tensor> layer_norm_backward(const Tensor& dy, const Tensor& s,
                                                       const OptionalTensor& gamma, bool has_beta,
                                                       const Tensor& mean, const Tensor& rstd,
                                                       const OptionalTensor& dsum) {
  check_result_dtype("layerNormBackward", "dy", dy.dtype(), "s", s.dtype());
  check_shape("layerNormBackward", "dy", dy, s.shape());
  if (dsum) {
    check_same_dtype("layerNormBackward", "dsum", *dsum, "s", s);
    check_shape("layerNormBackward", "dsum", *dsum, s.shape());
  }
  const Tensor dyc = contiguous(dy), sc = contiguous(s);
  const OptionalTensor dsumc = optional_contiguous(dsum), g = optional_contiguous(gamma);
  const Tensor dx = empty_like(s);
  const Tensor dgamma = gamma ? empty(s.device(), Shape{s.size(-1)}, s.dtype()) : Tensor();
  const Tensor dbeta = has_beta ? empty(s.device(), Shape{s.size(-1)}, s.dtype()) : Tensor();
  LayerNormBackwardArgs args{as_rows(dyc),         as_rows(sc), optional_view(g), mean.view(), rstd.view(),
                             optional_rows(dsumc), as_rows(dx), dgamma.view(),    dbeta.view()};
  args.mean.shape = args.rstd.shape = Shape{mean.numel()};
  args.mean.strides = args.rstd.strides = Shape{1};
  launch(s.device(), "layerNormBackward", &Kernels::layer_norm_backward, args);
  return {dx, dgamma, dbeta};
}

}  // namespace tenon::ops
