#include "ops/ops.h"

namespace tenon::ops {

namespace {

constexpr int64_t kMaxHeadDim = 256;

void check_qk(const char* op, const Tensor& q, const Tensor& k) {
  check_floating(op, "q", q);
  check_ndim(op, "q [B, H, N, d]", q, 4);
  check_same_dtype(op, "q", q, "k", k);
  const bool fits =
      k.ndim() == 4 && k.size(0) == q.size(0) && k.size(1) == q.size(1) && k.size(3) == q.size(3);
  if (!fits) {
    fail(op, code::kShape, "expected k [", q.size(0), ", ", q.size(1), ", N, ", q.size(3), "] for q ", q,
         ", got ", k);
  }
  if (q.size(3) < 1 || q.size(3) > kMaxHeadDim) {
    fail(op, code::kShape, "expected a head dimension from 1 to ", kMaxHeadDim, ", got ", q.size(3));
  }
}

void check_qkv(const char* op, const Tensor& q, const Tensor& k, const Tensor& v) {
  check_qk(op, q, k);
  check_same_dtype(op, "q", q, "v", v);
  check_shape(op, "v", v, k.shape());
}

struct Extras {
  View bias;
  View mask;
};

Extras check_extras(const char* op, const Tensor& q, const Tensor& k, const OptionalTensor& bias,
                    const OptionalTensor& mask, double dropout) {
  const Shape scores{q.size(0), q.size(1), q.size(2), k.size(2)};
  Extras extras;
  if (bias) {
    check_same_dtype(op, "q", q, "bias", *bias);
    extras.bias = broadcast_to(op, *bias, scores, "a bias").view();
  }
  if (mask) {
    if (mask->dtype() != DType::Bool) fail(op, code::kDType, "expected a bool mask, got ", mask->dtype());
    extras.mask = broadcast_to(op, *mask, scores, "a mask").view();
  }
  if (!(dropout >= 0 && dropout < 1)) fail(op, code::kValue, "expected a dropout in [0, 1), got ", dropout);
  return extras;
}

// [B, H, N, d] seen on fresh memory laid out as [B, N, H, d].
Tensor empty_heads(const Tensor& like) {
  const Tensor memory =
      empty(like.device(), Shape{like.size(0), like.size(2), like.size(1), like.size(3)}, like.dtype());
  return transpose(memory, 1, 2);
}

DType lse_dtype(const Tensor& q) { return q.dtype() == DType::Float64 ? DType::Float64 : DType::Float32; }

// [B, N, 3 H d] -> tokens begin to end of q, k or v (which = 0, 1, 2) as [B, H, end - begin, d], without a copy.
Tensor head_window(const Tensor& qkv, int64_t heads, int64_t which, int64_t begin, int64_t end) {
  const int64_t batch = qkv.size(0), d = qkv.size(2) / (3 * heads);
  return qkv.with(Shape{batch, heads, end - begin, d}, Shape{qkv.stride(0), d, qkv.stride(1), 1},
                  qkv.offset() + begin * qkv.stride(1) + which * heads * d);
}

struct Heads {
  Tensor q;  // of the first `queries` tokens
  Tensor k;
  Tensor v;
};

Heads split_heads(const Tensor& qkv, int64_t heads, int64_t queries) {
  const int64_t n = qkv.size(1);
  return {head_window(qkv, heads, 0, 0, queries), head_window(qkv, heads, 1, 0, n),
          head_window(qkv, heads, 2, 0, n)};
}

void check_packed(const char* op, const Tensor& qkv, int64_t heads, int64_t queries) {
  check_floating(op, "qkv", qkv);
  check_ndim(op, "qkv [B, N, 3 * heads * d]", qkv, 3);
  if (heads < 1 || qkv.size(2) == 0 || qkv.size(2) % (3 * heads) != 0) {
    fail(op, code::kShape, "expected qkv [B, N, 3 * ", heads, " * d], got ", qkv);
  }
  if (queries < 0 || queries > qkv.size(1)) {
    fail(op, code::kValue, "expected from 0 to ", qkv.size(1), " queries, got ", queries);
  }
}

// The shape of the bias with leading ones, as the kernel writes its gradient.
Tensor empty_dbias(const char* op, const OptionalTensor& bias, const Shape& scores) {
  if (!bias) fail(op, code::kValue, "expected a bias to compute its gradient, got none");
  Shape shape = bias->shape();
  while (shape.ndim() < 4) shape.insert(0, 1);
  shape[2] = scores[2];
  shape[3] = scores[3];
  return empty(bias->device(), shape, bias->dtype());
}

struct Settings {
  double scale;
  double dropout;
  uint64_t seed;
  uint64_t offset;
};

void run_backward(const char* op, const Tensor& dout, const Tensor& q, const Tensor& k, const Tensor& v,
                  const Extras& extras, const Tensor& out, const Tensor& lse, const Tensor& dq,
                  const Tensor& dk, const Tensor& dv, const Tensor& dbias, const Settings& s) {
  const Tensor rows = with_rows(dout);
  launch(q.device(), op, &Kernels::attention_backward,
         AttentionBackwardArgs{q.view(), k.view(), v.view(), extras.bias, extras.mask, out.view(),
                               rows.view(), lse.view(), dq.view(), dk.view(), dv.view(), dbias.view(),
                               s.scale, s.dropout, s.seed, s.offset});
}

// dbias [Bb, Hb, Nq, Nk] to the bias's own shape.
Tensor to_bias_shape(const Tensor& dbias, const OptionalTensor& bias) {
  return dbias ? sum_to(dbias, Dims(bias->shape().begin(), bias->shape().end())) : dbias;
}

std::tuple<Tensor, Tensor> run_forward(const char* op, const Tensor& q, const Tensor& k, const Tensor& v,
                                       const OptionalTensor& bias, const OptionalTensor& mask,
                                       const Settings& s) {
  check_qkv(op, q, k, v);
  const Extras extras = check_extras(op, q, k, bias, mask, s.dropout);
  const Tensor qr = with_rows(q), kr = with_rows(k), vr = with_rows(v);
  Tensor out = empty_heads(q);
  Tensor lse = empty(q.device(), Shape{q.size(0), q.size(1), q.size(2)}, lse_dtype(q));
  launch(q.device(), op, &Kernels::attention,
         AttentionArgs{qr.view(), kr.view(), vr.view(), extras.bias, extras.mask, out.view(), lse.view(),
                       s.scale, s.dropout, s.seed, s.offset});
  return {out, lse};
}

}  // namespace

std::tuple<Tensor, Tensor> attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                     const OptionalTensor& bias, const OptionalTensor& mask, double scale,
                                     double dropout, uint64_t seed, uint64_t offset) {
  return run_forward("attention", q, k, v, bias, mask, {scale, dropout, seed, offset});
}

std::tuple<Tensor, Tensor, Tensor, Tensor> attention_backward(
    const Tensor& dout, const Tensor& q, const Tensor& k, const Tensor& v, const OptionalTensor& bias,
    const OptionalTensor& mask, const Tensor& out, const Tensor& lse, double scale, double dropout,
    uint64_t seed, uint64_t offset, bool needs_dbias) {
  check_qkv("attentionBackward", q, k, v);
  check_shape("attentionBackward", "dout", dout, q.shape());
  const Extras extras = check_extras("attentionBackward", q, k, bias, mask, dropout);
  const Tensor qr = with_rows(q), kr = with_rows(k), vr = with_rows(v);
  const Tensor dq = empty_heads(q), dk = empty_heads(k), dv = empty_heads(v);
  const Shape scores{q.size(0), q.size(1), q.size(2), k.size(2)};
  const Tensor dbias = needs_dbias ? empty_dbias("attentionBackward", bias, scores) : Tensor();
  run_backward("attentionBackward", dout, qr, kr, vr, extras, out, lse, dq, dk, dv, dbias,
               {scale, dropout, seed, offset});
  return {dq, dk, dv, to_bias_shape(dbias, bias)};
}

std::tuple<Tensor, Tensor> attention_packed(const Tensor& qkv, int64_t heads, int64_t queries,
                                            const OptionalTensor& bias, const OptionalTensor& mask,
                                            double scale, double dropout, uint64_t seed, uint64_t offset) {
  check_packed("attentionPacked", qkv, heads, queries);
  const auto [q, k, v] = split_heads(with_rows(qkv), heads, queries);
  const auto [out, lse] = run_forward("attentionPacked", q, k, v, bias, mask, {scale, dropout, seed, offset});
  const Shape shape{qkv.size(0), queries, qkv.size(2) / 3};
  return {out.with(shape, contiguous_strides(shape), 0), lse};
}

std::tuple<Tensor, Tensor> attention_packed_backward(const Tensor& dout, const Tensor& qkv, int64_t heads,
                                                     const OptionalTensor& bias, const OptionalTensor& mask,
                                                     const Tensor& out, const Tensor& lse, double scale,
                                                     double dropout, uint64_t seed, uint64_t offset,
                                                     bool needs_dbias) {
  constexpr const char* kOp = "attentionPackedBackward";
  check_ndim(kOp, "out [B, queries, heads * d]", out, 3);
  const int64_t queries = out.size(1);
  check_packed(kOp, qkv, heads, queries);
  check_shape(kOp, "dout", dout, out.shape());
  const auto [q, k, v] = split_heads(with_rows(qkv), heads, queries);
  const Extras extras = check_extras(kOp, q, k, bias, mask, dropout);
  const auto as_heads = [&, &q = q](const Tensor& x) {
    const Tensor rows = contiguous(x);
    return rows.with(q.shape(), Shape{rows.stride(0), q.size(3), rows.stride(1), 1}, rows.offset());
  };
  const Tensor dqkv = empty(qkv.device(), qkv.shape(), qkv.dtype());
  const Heads gradient = split_heads(dqkv, heads, queries);
  if (queries < qkv.size(1)) {  // the other tokens asked nothing
    const Tensor rest = head_window(dqkv, heads, 0, queries, qkv.size(1));
    launch(qkv.device(), kOp, &Kernels::fill, FillArgs{rest.view(), 0});
  }
  const Shape scores{q.size(0), q.size(1), q.size(2), k.size(2)};
  const Tensor dbias = needs_dbias ? empty_dbias(kOp, bias, scores) : Tensor();
  run_backward(kOp, as_heads(dout), q, k, v, extras, as_heads(out), lse, gradient.q, gradient.k, gradient.v,
               dbias, {scale, dropout, seed, offset});
  return {dqkv, to_bias_shape(dbias, bias)};
}

Tensor attention_rows(const Tensor& q, const Tensor& k, const OptionalTensor& bias,
                      const OptionalTensor& mask, const Tensor& rows, double scale) {
  check_qk("attentionRows", q, k);
  check_ndim("attentionRows", "rows", rows, 1);
  if (rows.dtype() != DType::Int64)
    fail("attentionRows", code::kDType, "expected int64 rows, got ", rows.dtype());
  const Extras extras = check_extras("attentionRows", q, k, bias, mask, 0);
  const Tensor qr = with_rows(q), kr = with_rows(k), index = contiguous(rows);
  Tensor out = empty(q.device(), Shape{q.size(0), q.size(1), rows.size(0), k.size(2)}, q.dtype());
  launch(q.device(), "attentionRows", &Kernels::attention_rows,
         AttentionRowsArgs{qr.view(), kr.view(), extras.bias, extras.mask, index.view(), out.view(), scale});
  return out;
}

}  // namespace tenon::ops
