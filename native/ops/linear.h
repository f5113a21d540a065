// What layers with a weight [out, in] check of their operands, and how their kernels want them.
#pragma once

#include "ops/ops.h"

namespace tenon::ops {

// The kernel wants one of the last two strides to be 1.
inline Tensor gemm_operand(const Tensor& x) {
  const int n = x.ndim();
  const bool unit = x.stride(n - 1) == 1 || x.stride(n - 2) == 1 || x.size(n - 1) == 1 || x.size(n - 2) == 1;
  bool forward = true;
  for (const int64_t s : x.strides()) forward = forward && s >= 0;
  return unit && forward ? x : contiguous(x);
}

// [..., features] as [rows, features].
inline Tensor as_rows(const Tensor& x) {
  int64_t rows = 1;
  for (int d = 0; d < x.ndim() - 1; ++d) rows *= x.size(d);
  return reshape(x, {rows, x.size(-1)});
}

inline Activation activation_named(const char* op, const std::string& name) {
  if (name == "none") return Activation::None;
  if (name == "gelu") return Activation::Gelu;
  if (name == "geluTanh") return Activation::GeluTanh;
  if (name == "relu") return Activation::Relu;
  if (name == "silu") return Activation::Silu;
  fail(op, code::kValue, "expected an activation of none, gelu, geluTanh, relu or silu, got '", name, "'");
}

// A bias [out]; 16-bit layers take a float32 one.
inline void check_bias(const char* op, const Tensor& x, const char* name, const OptionalTensor& bias,
                       int64_t out) {
  if (!bias) return;
  if (size_of(x.dtype()) != 2 || bias->dtype() != DType::Float32) check_same_dtype(op, "x", x, name, *bias);
  check_shape(op, name, *bias, Shape{out});
}

// x [..., in] and a weight [out, in].
inline void check_weight(const char* op, const Tensor& x, const char* name, const Tensor& weight) {
  check_floating(op, "x", x);
  check_same_dtype(op, "x", x, name, weight);
  check_ndim(op, name, weight, 2);
  if (x.ndim() == 0 || x.size(-1) != weight.size(1)) {
    fail(op, code::kShape, "expected x [..., ", weight.size(1), "] for a ", name, " ", weight, ", got ", x);
  }
}

// x's shape with another last dimension.
inline Shape with_features(const Tensor& x, int64_t features) {
  Shape shape = x.shape();
  shape[x.ndim() - 1] = features;
  return shape;
}

// 16-bit layers take a float32 residual, and then their result is float32.
inline void check_residual(const char* op, const Tensor& x, const OptionalTensor& residual,
                           const Shape& shape) {
  if (!residual) return;
  if (size_of(x.dtype()) != 2 || residual->dtype() != DType::Float32)
    check_same_dtype(op, "x", x, "residual", *residual);
  check_shape(op, "residual", *residual, shape);
}

// The kernel wants a bias of out's dtype.
inline OptionalTensor bias_operand(const OptionalTensor& bias, DType dtype) {
  if (!bias) return bias;
  return bias->dtype() == dtype ? contiguous(*bias) : to(*bias, dtype);
}

// matmul.cc: linear whose operands are checked, and what goes into the activation (absent unless asked for, and then without
// a residual). `is_fixed`: the weight is going to stay as it is, so that a copy of it may be kept.
std::tuple<Tensor, Tensor> linear_layer(const char* op, const Tensor& x, const Tensor& weight,
                                        const OptionalTensor& bias, const OptionalTensor& residual,
                                        Activation activation, bool needs_before, bool is_fixed);

}  // namespace tenon::ops
