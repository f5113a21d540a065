// The two layers of a transformer's block with an activation between them. Backward makes the activation's result again,
// in the pass that its gradient takes anyhow, rather than keep it: a tenth of the memory of training Swin-T.
#include "ops/linear.h"

namespace tenon::ops {

namespace {

Activation activation_of(const char* op, const std::string& name) {
  const Activation activation = activation_named(op, name);
  if (activation != Activation::None) return activation;
  fail(op, code::kValue, "expected an activation of gelu, geluTanh, relu or silu, got 'none'");
}

// The gradients of a layer's weight and bias; each absent unless asked for.
std::tuple<Tensor, Tensor> layer_gradients(const Tensor& dy, const Tensor& x, bool needs_weight,
                                           bool needs_bias, DType dtype) {
  if (!needs_weight) return {Tensor(), needs_bias ? sum(dy, {0}, false) : Tensor()};
  return linear_weight_gradient(dy, x, needs_bias, dtype);
}

}  // namespace

std::tuple<Tensor, Tensor> mlp(const Tensor& x, const Tensor& weight1, const OptionalTensor& bias1,
                               const Tensor& weight2, const OptionalTensor& bias2,
                               const OptionalTensor& residual, const std::string& activation,
                               bool needs_before, bool is_fixed) {
  constexpr const char* kOp = "mlp";
  check_weight(kOp, x, "weight1", weight1);
  const int64_t hidden = weight1.size(0);
  check_bias(kOp, x, "bias1", bias1, hidden);
  check_same_dtype(kOp, "x", x, "weight2", weight2);
  if (weight2.ndim() != 2 || weight2.size(1) != hidden) {
    fail(kOp, code::kShape, "expected a weight2 [out, ", hidden, "] for a weight1 ", weight1, ", got ",
         weight2);
  }
  check_bias(kOp, x, "bias2", bias2, weight2.size(0));
  check_residual(kOp, x, residual, with_features(x, weight2.size(0)));
  const auto [after, before] =
      linear_layer(kOp, x, weight1, bias1, {}, activation_of(kOp, activation), needs_before, is_fixed);
  const auto [y, none] =
      linear_layer(kOp, after, weight2, bias2, residual, Activation::None, false, is_fixed);
  return {y, before};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> mlp_backward(
    const Tensor& dy, const Tensor& x, const Tensor& before, const Tensor& weight1, const Tensor& weight2,
    const std::string& activation, bool needs_dx, bool needs_weight1, bool needs_bias1, bool needs_weight2,
    bool needs_bias2, DType dtype) {
  constexpr const char* kOp = "mlpBackward";
  check_same_dtype(kOp, "dy", dy, "x", x);
  check_shape(kOp, "dy", dy, with_features(x, weight2.size(0)));
  check_shape(kOp, "before", before, with_features(x, weight1.size(0)));
  const Activation kind = activation_of(kOp, activation);
  const Tensor dy_rows = as_rows(contiguous(dy)), x_rows = as_rows(contiguous(x)),
               before_rows = as_rows(before);
  const bool needs_dbefore = needs_dx || needs_weight1 || needs_bias1;
  const Tensor after = needs_weight2 ? empty_like(before_rows) : Tensor();
  const Tensor dbefore = needs_dbefore ? empty_like(before_rows) : Tensor();
  if (needs_dbefore) {
    launch(x.device(), kOp, &Kernels::matmul_activation_backward,
           MatmulActivationBackwardArgs{kind, dy_rows.view(), gemm_operand(weight2).view(),
                                        before_rows.view(), after.view(), dbefore.view()});
  } else if (needs_weight2) {
    launch(x.device(), kOp, &Kernels::unary, UnaryArgs{unary_op(kind), before_rows.view(), after.view()});
  }
  const auto [dweight2, dbias2] = layer_gradients(dy_rows, after, needs_weight2, needs_bias2, dtype);
  const auto [dweight1, dbias1] = layer_gradients(dbefore, x_rows, needs_weight1, needs_bias1, dtype);
  Tensor dx;
  if (needs_dx) dx = matmul(dbefore, weight1).with(x.shape(), contiguous_strides(x.shape()), 0);
  return {dx, dweight1, dbias1, dweight2, dbias2};
}

}  // namespace tenon::ops
