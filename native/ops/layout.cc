#include <numeric>

#include "ops/ops.h"

namespace tenon::ops {

namespace {

void copy_part(const char* op, const Tensor& source, const Tensor& target) {
  if (target.numel() == 0) return;
  launch(target.device(), op, &Kernels::copy, CopyArgs{source.view(), target.view()});
}

}  // namespace

Tensor cat(const std::vector<Tensor>& tensors, int64_t dim) {
  if (tensors.empty()) fail("cat", code::kValue, "expected at least one tensor, got none");
  const Tensor& first = tensors.front();
  if (first.ndim() == 0)
    fail("cat", code::kShape, "expected tensors with at least one dimension, got a scalar");
  const int at = check_dim("cat", dim, first.ndim());
  Shape shape = first.shape();
  shape[at] = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const Tensor& t = tensors[i];
    check_same_dtype("cat", "tensor 0", first, ("tensor " + std::to_string(i)).c_str(), t);
    Shape expected = first.shape();
    if (t.ndim() == expected.ndim()) expected[at] = t.size(at);
    check_shape("cat", ("tensor " + std::to_string(i)).c_str(), t, expected);
    shape[at] += t.size(at);
    shape.numel();  // throws before the sum leaves 64 bits
  }
  Tensor out = empty(first.device(), shape, first.dtype());
  int64_t begin = 0;
  for (const Tensor& t : tensors) {
    copy_part("cat", t, slice(out, at, begin, begin + t.size(at), 1));
    begin += t.size(at);
  }
  return out;
}

Tensor pad(const Tensor& x, const Dims& before, const Dims& after, double value) {
  const auto ndim = static_cast<size_t>(x.ndim());
  if (before.size() != ndim || after.size() != ndim) {
    fail("pad", code::kShape, "expected ", ndim, " pairs of paddings for ", x, ", got ", before.size(),
         " and ", after.size());
  }
  check_number("pad", x.dtype(), value);
  Shape shape = x.shape();
  for (int i = 0; i < x.ndim(); ++i) {
    const auto k = static_cast<size_t>(i);
    if (before[k] < 0 || after[k] < 0) {
      fail("pad", code::kValue, "expected paddings of 0 or more, got ", before[k], " and ", after[k],
           " for dim ", i);
    }
    shape[i] += before[k] + after[k];
  }
  Tensor out = empty(x.device(), shape, x.dtype());
  launch(x.device(), "pad", &Kernels::fill, FillArgs{out.view(), value});
  Tensor inner = out;
  for (int i = 0; i < x.ndim(); ++i) {
    const int64_t begin = before[static_cast<size_t>(i)];
    inner = slice(inner, i, begin, begin + x.size(i), 1);
  }
  copy_part("pad", x, inner);
  return out;
}

Tensor roll(const Tensor& x, const Dims& shifts, const Dims& dims) {
  if (shifts.size() != dims.size()) {
    fail("roll", code::kValue, "expected as many shifts as dims, got ", shifts.size(), " and ", dims.size());
  }
  Tensor result = x;
  for (size_t i = 0; i < dims.size(); ++i) {
    const int dim = check_dim("roll", dims[i], x.ndim());
    const int64_t n = x.size(dim);
    if (n == 0) continue;
    const int64_t shift = ((shifts[i] % n) + n) % n;
    if (shift == 0) continue;
    Tensor out = empty_like(x);
    copy_part("roll", slice(result, dim, 0, n - shift, 1), slice(out, dim, shift, n, 1));
    copy_part("roll", slice(result, dim, n - shift, n, 1), slice(out, dim, 0, shift, 1));
    result = out;
  }
  return result.storage() == x.storage() ? clone(x) : result;
}

Tensor flip(const Tensor& x, const Dims& dims) {
  if (x.ndim() == 0) fail("flip", code::kShape, "expected at least one dimension, got a scalar");
  std::vector<bool> seen(static_cast<size_t>(x.ndim()), false);
  Tensor view = x;
  for (const int64_t d : dims) {
    const int dim = check_dim("flip", d, x.ndim());
    if (seen[static_cast<size_t>(dim)])
      fail("flip", code::kShape, "expected each dim once, got ", d, " twice");
    seen[static_cast<size_t>(dim)] = true;
    view = slice(view, dim, view.size(dim) - 1, -view.size(dim) - 1, -1);
  }
  Tensor out = empty_like(x);
  copy_part("flip", view, out);
  return out;
}

}  // namespace tenon::ops
