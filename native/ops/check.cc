#include "ops/check.h"

#include <algorithm>

namespace tenon::ops {

Tensor contiguous(const Tensor& x) {
  if (x.is_contiguous()) return x.with(x.shape(), contiguous_strides(x.shape()), x.offset());
  Tensor out = empty_like(x);
  launch(x.device(), "contiguous", &Kernels::copy, CopyArgs{x.view(), out.view()});
  return out;
}

Tensor channels_last(const Tensor& x) {
  if (x.view().is_channels_last()) return x.with(x.shape(), channels_last_strides(x.shape()), x.offset());
  Tensor out = empty_channels_last(x.device(), x.shape(), x.dtype());
  launch(x.device(), "channelsLast", &Kernels::copy, CopyArgs{x.view(), out.view()});
  return out;
}

Tensor with_rows(const Tensor& x) {
  const bool rows = x.ndim() == 0 || x.size(-1) <= 1 || x.stride(-1) == 1;
  const bool forward = std::all_of(x.strides().begin(), x.strides().end(), [](int64_t s) { return s >= 0; });
  return rows && forward ? x : contiguous(x);
}

Shape broadcast_shapes(const char* op, const Shape& a, const Shape& b) {
  Shape out;
  const int ndim = std::max(a.ndim(), b.ndim());
  for (int i = 0; i < ndim; ++i) {
    const int ia = i - (ndim - a.ndim());
    const int ib = i - (ndim - b.ndim());
    const int64_t na = ia >= 0 ? a[ia] : 1;
    const int64_t nb = ib >= 0 ? b[ib] : 1;
    if (na != nb && na != 1 && nb != 1) {
      fail(op, code::kShape, "shapes do not broadcast: ", a, " and ", b);
    }
    out.push_back(na == 1 ? nb : na);
  }
  return out;
}

Tensor broadcast_to(const char* op, const Tensor& x, const Shape& shape, const char* name) {
  const int lead = shape.ndim() - x.ndim();
  Shape strides;
  for (int i = 0; i < shape.ndim(); ++i) {
    const int ix = i - lead;
    const int64_t size = ix >= 0 ? x.size(ix) : 1;
    if (lead < 0 || (size != shape[i] && size != 1)) {
      fail(op, code::kShape, "expected ", name, " that broadcasts to ", shape, ", got ", x);
    }
    strides.push_back(size == 1 && shape[i] != 1 ? 0 : (ix >= 0 ? x.stride(ix) : 0));
  }
  if (lead < 0) fail(op, code::kShape, "expected ", name, " that broadcasts to ", shape, ", got ", x);
  return x.with(shape, strides, x.offset());
}

std::shared_ptr<Prepared> prepared_copy(const Tensor& weight, size_t bytes) {
  if (bytes == 0) return nullptr;
  Storage& storage = *weight.storage();
  const View of = weight.view();
  if (const Storage::Copy* copy = storage.copy()) {
    const View& known = copy->of;
    const bool is_same = known.data == of.data && known.dtype == of.dtype && known.shape == of.shape &&
                         known.strides == of.strides;
    if (is_same && copy->prepared->bytes >= bytes) return copy->prepared;
  }
  try {
    auto memory = std::make_unique<Storage>(storage.device(), storage.device().allocator(), bytes);
    auto prepared = std::make_shared<Prepared>();
    prepared->data = memory->data();
    prepared->bytes = bytes;
    storage.keep_copy({of, prepared, std::move(memory)});
    return prepared;
  } catch (const TensorError&) {
    return nullptr;  // the kernel is as right without it, and only slower
  }
}

}  // namespace tenon::ops
