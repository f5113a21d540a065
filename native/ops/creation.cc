#include <vector>

#include "ops/ops.h"

namespace tenon::ops {

namespace {

Shape checked_shape(const char* op, const Dims& sizes) {
  const Shape shape{std::span<const int64_t>(sizes)};
  for (const int64_t n : shape) {
    if (n < 0) fail(op, code::kShape, "expected sizes of 0 or more, got ", shape);
  }
  return shape;
}

}  // namespace

Tensor full(Device& device, const Dims& shape, double value, DType dtype) {
  check_number("full", dtype, value);
  Tensor out = empty(device, checked_shape("full", shape), dtype);
  launch(device, "full", &Kernels::fill, FillArgs{out.view(), value});
  return out;
}

Tensor arange(Device& device, int64_t n, double start, double step, DType dtype) {
  if (n > 0) {
    check_number("arange", dtype, start);
    check_number("arange", dtype, start + static_cast<double>(n - 1) * step);
  }
  Tensor out = empty(device, checked_shape("arange", {n}), dtype);
  launch(device, "arange", &Kernels::arange, ArangeArgs{out.view(), start, step});
  return out;
}

Tensor eye(Device& device, int64_t n, DType dtype) {
  Tensor out = empty(device, checked_shape("eye", {n, n}), dtype);
  launch(device, "eye", &Kernels::fill, FillArgs{out.view(), 0});
  const Tensor diagonal = out.with(Shape{n}, Shape{n + 1}, 0);
  launch(device, "eye", &Kernels::fill, FillArgs{diagonal.view(), 1});
  return out;
}

Tensor to(const Tensor& x, DType dtype) {
  Tensor out = empty(x.device(), x.shape(), dtype);
  launch(x.device(), "to", &Kernels::copy, CopyArgs{x.view(), out.view()});
  return out;
}

Tensor to_device(const Tensor& x, Device& device) {
  if (&device == &x.device()) return clone(x);
  const Tensor source = contiguous(x);
  const size_t bytes = static_cast<size_t>(x.numel()) * size_of(x.dtype());
  Tensor out = empty(device, x.shape(), x.dtype());
  if (device.copy_from(x.device(), out.data(), source.data(), bytes)) return out;
  std::vector<char> staged(bytes);
  download_now(x.device(), staged.data(), source.data(), bytes, x.storage()->tasks());
  device.upload(out.data(), staged.data(), bytes);
  return out;
}

Tensor clone(const Tensor& x) { return to(x, x.dtype()); }

Tensor own(const Tensor& x) { return x.is_contiguous() && x.storage().use_count() == 1 ? x : clone(x); }

void copy_into(const Tensor& target, const Tensor& source) {
  for (int i = 0; i < target.ndim(); ++i) {
    if (target.size(i) > 1 && target.stride(i) == 0) {
      fail("copyInto", code::kValue, "expected a target with memory for each element, got ", target,
           " with strides ", target.strides());
    }
  }
  // The kernel reads and writes in any order, so that it must not read what it has written.
  const Tensor from = source.storage() == target.storage() ? clone(source) : source;
  const Tensor wide = broadcast_to("copyInto", from, target.shape());
  launch(target.device(), "copyInto", &Kernels::copy, CopyArgs{wide.view(), target.view()});
  target.storage()->mark_written();
}

}  // namespace tenon::ops
