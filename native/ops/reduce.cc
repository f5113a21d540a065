#include <limits>

#include "ops/ops.h"

namespace tenon::ops {

namespace {

// x's shape with size 1 at every reduced dimension.
Shape reduced_shape(const char* op, const Tensor& x, const Dims& dims) {
  Shape shape = x.shape();
  if (dims.empty()) {
    for (int i = 0; i < shape.ndim(); ++i) shape[i] = 1;
  }
  for (const int64_t d : dims) {
    const int dim = check_dim(op, d, x.ndim());
    if (x.ndim() > 0) shape[dim] = 1;
  }
  return shape;
}

Tensor drop_reduced(const Tensor& out, const Tensor& x, const Dims& dims) {
  std::vector<bool> drop(static_cast<size_t>(x.ndim()), dims.empty());
  if (x.ndim() > 0) {
    for (const int64_t d : dims) drop[static_cast<size_t>(d < 0 ? d + x.ndim() : d)] = true;
  }
  Shape shape;
  for (int i = 0; i < x.ndim(); ++i) {
    if (!drop[static_cast<size_t>(i)]) shape.push_back(out.size(i));
  }
  return out.with(shape, contiguous_strides(shape), 0);
}

Tensor reduce(const char* op, ReduceOp kind, const Tensor& x, const Dims& dims, bool keepdim, DType dtype,
              double correction = 0) {
  Tensor out = empty(x.device(), reduced_shape(op, x, dims), dtype);
  const bool needs_elements = kind == ReduceOp::Max || kind == ReduceOp::Min;
  for (int i = 0; needs_elements && i < x.ndim(); ++i) {
    if (x.size(i) < out.size(i)) fail(op, code::kShape, "expected at least one element to reduce, got ", x);
  }
  launch(x.device(), op, &Kernels::reduce, ReduceArgs{kind, x.view(), out.view(), correction, -1});
  return keepdim ? out : drop_reduced(out, x, dims);
}

Tensor arg_reduce(const char* op, ReduceOp kind, const Tensor& x, int64_t d, bool keepdim) {
  if (x.dtype() == DType::Bool) fail(op, code::kDType, "expected a numeric tensor, got bool");
  const int dim = check_dim(op, d, x.ndim());
  if (x.ndim() > 0 && x.size(dim) == 0)
    fail(op, code::kShape, "expected at least one element in dim ", d, ", got ", x);
  const Tensor rows = x.ndim() > 0 ? x : x.with(Shape{1}, Shape{1}, x.offset());
  Tensor out = empty(x.device(), reduced_shape(op, rows, {dim}), DType::Int64);
  launch(x.device(), op, &Kernels::reduce, ReduceArgs{kind, rows.view(), out.view(), 0, dim});
  return keepdim && x.ndim() > 0 ? out : drop_reduced(out, rows, {dim});
}

void check_numeric(const char* op, const Tensor& x) {
  if (x.dtype() == DType::Bool) fail(op, code::kDType, "expected a numeric tensor, got bool");
}

void check_bool(const char* op, const Tensor& x) {
  if (x.dtype() != DType::Bool) fail(op, code::kDType, "expected a bool tensor, got ", x.dtype());
}

}  // namespace

// Integers and bools sum to int64.
Tensor sum(const Tensor& x, const Dims& dims, bool keepdim) {
  return reduce("sum", ReduceOp::Sum, x, dims, keepdim, is_floating(x.dtype()) ? x.dtype() : DType::Int64);
}

Tensor mean(const Tensor& x, const Dims& dims, bool keepdim) {
  check_floating("mean", "x", x);
  return reduce("mean", ReduceOp::Mean, x, dims, keepdim, x.dtype());
}

Tensor variance(const Tensor& x, const Dims& dims, double correction, bool keepdim) {
  check_floating("variance", "x", x);
  if (!std::isfinite(correction)) {
    fail("variance", code::kValue, "expected a finite correction, got ", correction);
  }
  return reduce("variance", ReduceOp::Var, x, dims, keepdim, x.dtype(), correction);
}

Tensor max(const Tensor& x, const Dims& dims, bool keepdim) {
  check_numeric("max", x);
  return reduce("max", ReduceOp::Max, x, dims, keepdim, x.dtype());
}

Tensor min(const Tensor& x, const Dims& dims, bool keepdim) {
  check_numeric("min", x);
  return reduce("min", ReduceOp::Min, x, dims, keepdim, x.dtype());
}

Tensor any(const Tensor& x, const Dims& dims, bool keepdim) {
  check_bool("any", x);
  return reduce("any", ReduceOp::Any, x, dims, keepdim, DType::Bool);
}

Tensor all(const Tensor& x, const Dims& dims, bool keepdim) {
  check_bool("all", x);
  return reduce("all", ReduceOp::All, x, dims, keepdim, DType::Bool);
}

Tensor argmax(const Tensor& x, int64_t dim, bool keepdim) {
  return arg_reduce("argmax", ReduceOp::ArgMax, x, dim, keepdim);
}

Tensor argmin(const Tensor& x, int64_t dim, bool keepdim) {
  return arg_reduce("argmin", ReduceOp::ArgMin, x, dim, keepdim);
}

Tensor cumsum(const Tensor& x, int64_t d, bool reverse) {
  check_numeric("cumsum", x);
  const int dim = check_dim("cumsum", d, x.ndim());
  if (x.ndim() == 0) return clone(x);
  Tensor out = empty_like(x);
  launch(x.device(), "cumsum", &Kernels::cumsum, CumsumArgs{x.view(), out.view(), dim, reverse});
  return out;
}

std::tuple<Tensor, Tensor> topk(const Tensor& x, int64_t k, int64_t d, bool largest) {
  check_numeric("topk", x);
  if (x.ndim() == 0) fail("topk", code::kShape, "expected at least one dimension, got a scalar");
  const int dim = check_dim("topk", d, x.ndim());
  if (k < 0 || k > x.size(dim)) {
    fail("topk", code::kValue, "expected k from 0 to the size of dim ", d, " of ", x, ", got ", k);
  }
  const Tensor rows = transpose(x, dim, -1);
  Shape shape = rows.shape();
  shape[x.ndim() - 1] = k;
  Tensor values = empty(x.device(), shape, x.dtype());
  Tensor indices = empty(x.device(), shape, DType::Int64);
  launch(x.device(), "topk", &Kernels::topk, TopkArgs{rows.view(), values.view(), indices.view(), largest});
  return {transpose(values, dim, -1), transpose(indices, dim, -1)};
}

Tensor sum_to(const Tensor& x, const Dims& sizes) {
  const Shape shape{std::span<const int64_t>(sizes)};
  if (x.shape() == shape) return x;
  const int lead = x.ndim() - shape.ndim();
  Dims dims;
  for (int i = 0; i < x.ndim(); ++i) {
    const int64_t size = i >= lead ? shape[i - lead] : 1;
    if (i < lead || (size == 1 && x.size(i) != 1)) {
      dims.push_back(i);
    } else if (size != x.size(i)) {
      fail("sumTo", code::kShape, "expected a shape that broadcasts to ", x, ", got ", shape);
    }
  }
  const Tensor summed = dims.empty() ? x : sum(x, dims, true);
  return reshape(summed, sizes);
}

}  // namespace tenon::ops
