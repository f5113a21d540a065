#include "ops/ops.h"

namespace tenon::ops {

namespace {

constexpr int64_t kMaxHeadDim = 256;

Windows make_windows(const char* op, const Tensor& qkv, const Dims& window, const Dims& shift) {
  if (window.size() != 2 || window[0] < 1 || window[1] < 1) {
    fail(op, code::kValue, "expected a window of two sizes of 1 or more, got ", Shape(window));
  }
  if (shift.size() != 2 || shift[0] < 0 || shift[0] >= window[0] || shift[1] < 0 || shift[1] >= window[1]) {
    fail(op, code::kValue, "expected a shift of 0 or more and less than the window ", Shape(window), ", got ",
         Shape(shift));
  }
  return {.map_height = qkv.size(1),
          .map_width = qkv.size(2),
          .height = window[0],
          .width = window[1],
          .shift_y = shift[0],
          .shift_x = shift[1]};
}

Windows check_operands(const char* op, const Tensor& qkv, const Tensor& table, const OptionalTensor& padding,
                       const Dims& window, const Dims& shift, double dropout) {
  check_floating(op, "qkv", qkv);
  check_ndim(op, "qkv [B, H, W, 3 * heads * d]", qkv, 4);
  check_same_dtype(op, "qkv", qkv, "table", table);
  const Windows windows = make_windows(op, qkv, window, shift);
  Shape{2 * window[0] - 1, 2 * window[1] - 1}.numel();  // throws where the table's rows cannot be counted
  if (table.ndim() != 2 || table.size(0) != windows.offsets() || table.size(1) < 1) {
    fail(op, code::kShape, "expected a table [", windows.offsets(), ", heads] for windows of ", Shape(window),
         ", got ", table);
  }
  const int64_t heads = table.size(1), features = qkv.size(3);
  if (features == 0 || features % (3 * heads) != 0) {
    fail(op, code::kShape, "expected qkv [B, H, W, 3 * ", heads, " * d], got ", qkv);
  }
  if (features / (3 * heads) > kMaxHeadDim) {
    fail(op, code::kShape, "expected a head dimension from 1 to ", kMaxHeadDim, ", got ",
         features / (3 * heads));
  }
  if (padding) {
    check_same_dtype(op, "qkv", qkv, "padding", *padding);
    check_shape(op, "padding", *padding, Shape{features});
  }
  if (!(dropout >= 0 && dropout < 1)) fail(op, code::kValue, "expected a dropout in [0, 1), got ", dropout);
  return windows;
}

OptionalTensor optional_contiguous(const OptionalTensor& x) { return x ? OptionalTensor(contiguous(*x)) : x; }

}  // namespace

std::tuple<Tensor, Tensor> window_attention(const Tensor& qkv, const Tensor& table,
                                            const OptionalTensor& padding, const Dims& window,
                                            const Dims& shift, double scale, double dropout, uint64_t seed,
                                            uint64_t offset) {
  const Windows windows = check_operands("windowAttention", qkv, table, padding, window, shift, dropout);
  const Tensor q = contiguous(qkv), t = contiguous(table);
  const OptionalTensor p = optional_contiguous(padding);
  const Tensor out =
      empty(qkv.device(), Shape{qkv.size(0), qkv.size(1), qkv.size(2), qkv.size(3) / 3}, qkv.dtype());
  const Tensor lse = empty(qkv.device(), Shape{qkv.size(0), table.size(1), qkv.size(1), qkv.size(2)},
                           qkv.dtype() == DType::Float64 ? DType::Float64 : DType::Float32);
  launch(qkv.device(), "windowAttention", &Kernels::window_attention,
         WindowAttentionArgs{q.view(), t.view(), optional_view(p), out.view(), lse.view(), windows, scale,
                             dropout, seed, offset});
  return {out, lse};
}

std::tuple<Tensor, Tensor, Tensor> window_attention_backward(
    const Tensor& dout, const Tensor& qkv, const Tensor& table, const OptionalTensor& padding,
    const Tensor& out, const Tensor& lse, const Dims& window, const Dims& shift, double scale, double dropout,
    uint64_t seed, uint64_t offset, bool needs_dtable, bool needs_dpadding) {
  const char* op = "windowAttentionBackward";
  const Windows windows = check_operands(op, qkv, table, padding, window, shift, dropout);
  check_shape(op, "dout", dout, out.shape());
  if (needs_dpadding && !padding) {
    fail(op, code::kValue, "expected a padding to compute its gradient, got none");
  }
  const Tensor d = contiguous(dout), q = contiguous(qkv), t = contiguous(table);
  const OptionalTensor p = optional_contiguous(padding);
  const Tensor dqkv = empty_like(qkv);
  const Tensor dtable = needs_dtable ? empty_like(table) : Tensor();
  const Tensor dpadding = needs_dpadding ? empty_like(*padding) : Tensor();
  launch(qkv.device(), op, &Kernels::window_attention_backward,
         WindowAttentionBackwardArgs{q.view(), t.view(), optional_view(p), out.view(), d.view(), lse.view(),
                                     dqkv.view(), dtable.view(), dpadding.view(), windows, scale, dropout,
                                     seed, offset});
  return {dqkv, dtable, dpadding};
}

}  // namespace tenon::ops
