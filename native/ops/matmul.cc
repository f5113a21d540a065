#include <utility>

#include "ops/linear.h"

namespace tenon::ops {

namespace {

// Folds the leading dimensions into one, keeping a broadcast (stride 0) where there is one; copies when it must.
Tensor fold_batch(const Tensor& x) {
  const int64_t rows = x.size(-2), columns = x.size(-1);
  int64_t batch = 1;
  bool broadcast = true;
  for (int i = 0; i < x.ndim() - 2; ++i) {
    batch *= x.size(i);
    broadcast = broadcast && (x.stride(i) == 0 || x.size(i) == 1);
  }
  if (broadcast) {
    return x.with(Shape{batch, rows, columns}, Shape{0, x.stride(-2), x.stride(-1)}, x.offset());
  }
  int64_t step = 0;
  bool regular = true;
  int64_t inner = 1;
  for (int i = x.ndim() - 3; i >= 0; --i) {
    if (x.size(i) == 1) continue;
    if (step == 0) step = x.stride(i);
    regular = regular && step != 0 && x.stride(i) == step * inner;
    inner *= x.size(i);
  }
  if (regular)
    return x.with(Shape{batch, rows, columns}, Shape{step, x.stride(-2), x.stride(-1)}, x.offset());
  const Tensor copy = contiguous(x);
  return copy.with(Shape{batch, rows, columns}, Shape{rows * columns, columns, 1}, copy.offset());
}

void gemm(const char* op, const Tensor& a, const Tensor& b, const Tensor& out) {
  if (out.numel() == 0) return;
  launch(out.device(), op, &Kernels::matmul, MatmulArgs{a.view(), b.view(), out.view(), {}, {}});
}

}  // namespace

Tensor matmul(const Tensor& a, const Tensor& b) {
  check_floating("matmul", "a", a);
  check_same_dtype("matmul", "a", a, "b", b);
  if (a.ndim() == 0 || b.ndim() == 0) {
    fail("matmul", code::kShape, "expected tensors with at least one dimension, got ", a, " and ", b);
  }
  const Tensor a2 = a.ndim() == 1 ? unsqueeze(a, 0) : a;
  const Tensor b2 = b.ndim() == 1 ? unsqueeze(b, 1) : b;
  const int64_t m = a2.size(-2), k = a2.size(-1), n = b2.size(-1);
  if (b2.size(-2) != k) fail("matmul", code::kShape, "inner dimensions differ: a ", a, ", b ", b);

  Shape a_batch = a2.shape(), b_batch = b2.shape();
  for (int i = 0; i < 2; ++i) {
    a_batch.erase(a_batch.ndim() - 1);
    b_batch.erase(b_batch.ndim() - 1);
  }
  const Shape batch = broadcast_shapes("matmul", a_batch, b_batch);
  Shape shape = batch;
  shape.push_back(m);
  shape.push_back(n);
  Tensor out = empty(a.device(), shape, a.dtype());

  if (batch.empty()) {
    gemm("matmul", gemm_operand(a2), gemm_operand(b2), out);
  } else if (b2.ndim() == 2 && a2.is_contiguous()) {  // one tall product instead of a batch
    const int64_t rows = a2.numel() / std::max<int64_t>(k, 1);
    const Tensor tall = a2.with(Shape{k == 0 ? batch.numel() * m : rows, k}, Shape{k, 1}, a2.offset());
    gemm("matmul", tall, gemm_operand(b2), out.with(Shape{batch.numel() * m, n}, Shape{n, 1}, 0));
  } else {
    Shape a_shape = batch, b_shape = batch;
    a_shape.push_back(m);
    a_shape.push_back(k);
    b_shape.push_back(k);
    b_shape.push_back(n);
    const Tensor a3 = fold_batch(broadcast_to("matmul", gemm_operand(a2), a_shape));
    const Tensor b3 = fold_batch(broadcast_to("matmul", gemm_operand(b2), b_shape));
    gemm("matmul", a3, b3, out.with(Shape{batch.numel(), m, n}, Shape{m * n, n, 1}, 0));
  }
  if (a.ndim() == 1) out = squeeze(out, {-2});
  if (b.ndim() == 1) out = squeeze(out, {-1});
  return out;
}

std::tuple<Tensor, Tensor> linear_layer(const char* op, const Tensor& x, const Tensor& weight,
                                        const OptionalTensor& bias, const OptionalTensor& residual,
                                        Activation activation, bool needs_before, bool is_fixed) {
  const Shape shape = with_features(x, weight.size(0));
  Tensor out = empty(x.device(), shape, residual ? residual->dtype() : x.dtype());
  Tensor before = needs_before ? empty_like(out) : Tensor();
  if (out.numel() == 0) return {out, before};
  const Tensor x2 = gemm_operand(as_rows(x)), w = gemm_operand(weight);
  const OptionalTensor b = bias_operand(bias, out.dtype());
  const OptionalTensor r = residual ? OptionalTensor(as_rows(contiguous(*residual))) : residual;
  MatmulArgs args{x2.view(),        transpose(w, 0, 1).view(), as_rows(out).view(),
                  optional_view(b), optional_view(r),          activation};
  if (before) args.before = as_rows(before).view();
  const std::shared_ptr<Prepared> prepared =
      is_fixed && w.storage() == weight.storage() ? prepared_copy(w, args) : nullptr;
  args.prepared_b = prepared.get();
  launch(x.device(), op, &Kernels::matmul, args, prepared);
  return {out, before};
}

std::tuple<Tensor, Tensor> linear(const Tensor& x, const Tensor& weight, const OptionalTensor& bias,
                                  const OptionalTensor& residual, const std::string& activation,
                                  bool needs_before, bool is_fixed) {
  constexpr const char* kOp = "linear";
  check_weight(kOp, x, "weight", weight);
  check_bias(kOp, x, "bias", bias, weight.size(0));
  check_residual(kOp, x, residual, with_features(x, weight.size(0)));
  const Activation kind = activation_named(kOp, activation);
  if (kind == Activation::None || !needs_before || !residual)
    return linear_layer(kOp, x, weight, bias, residual, kind, needs_before && kind != Activation::None,
                        is_fixed);
  const auto [after, before] = linear_layer(kOp, x, weight, bias, {}, kind, true, is_fixed);
  const Tensor own = after.dtype() == residual->dtype() ? after : to(after, residual->dtype());
  return {add(own, *residual, 0), before};
}

std::tuple<Tensor, Tensor> linear_weight_gradient(const Tensor& dy, const Tensor& x, bool needs_dbias,
                                                  DType dtype) {
  constexpr const char* kOp = "linearWeightGradient";
  check_floating(kOp, "dy", dy);
  check_same_dtype(kOp, "dy", dy, "x", x);
  Shape expected = x.shape();
  if (x.ndim() > 0 && dy.ndim() > 0) expected[x.ndim() - 1] = dy.size(-1);
  if (x.ndim() == 0 || !(dy.shape() == expected)) {
    fail(kOp, code::kShape, "expected dy and x of one shape but for the last dimension, got ", dy, " and ",
         x);
  }
  if (dtype != x.dtype() && !(size_of(x.dtype()) == 2 && dtype == DType::Float32)) {
    fail(kOp, code::kDType, "expected the dtype of x, or float32 for 16 bits, got ", name_of(dtype), " for ",
         x);
  }
  const int64_t out = dy.size(-1), in = x.size(-1);
  const Tensor a = transpose(gemm_operand(as_rows(dy)), 0, 1), b = gemm_operand(as_rows(x));
  Tensor dweight = empty(x.device(), Shape{out, in}, dtype);
  Tensor dbias = needs_dbias ? empty(x.device(), Shape{out}, dtype) : Tensor();
  MatmulArgs args{a.view(), b.view(), dweight.view(), {}, {}};
  args.a_sums = dbias.view();
  launch(x.device(), kOp, &Kernels::matmul, args);
  return {dweight, dbias};
}

}  // namespace tenon::ops
