#include <algorithm>
#include <optional>
#include <utility>

#include "ops/ops.h"

namespace tenon::ops {

namespace {

// Strides that show x's elements with another shape, or nothing when its layout does not allow that without a copy.
// Walks both shapes from the end and matches groups of dimensions with equal products.
std::optional<Shape> strides_for(const Tensor& x, const Shape& shape) {
  if (x.numel() == 0) return contiguous_strides(shape);
  Shape strides = shape;
  int to = shape.ndim() - 1;
  int64_t chunk = 1;    // product of the x dimensions in the current group
  int64_t covered = 1;  // product of the new dimensions laid out in it
  int64_t base = 1;     // stride of the group's innermost dimension
  bool open = false;
  for (int from = x.ndim() - 1; from >= 0; --from) {
    if (x.size(from) == 1) continue;
    if (!open) {
      base = x.stride(from);
      chunk = 1;
      covered = 1;
      open = true;
    }
    chunk *= x.size(from);
    int above = from - 1;
    while (above >= 0 && x.size(above) == 1) --above;
    const bool ends = above < 0 || x.stride(above) != x.size(from) * x.stride(from);
    if (!ends) continue;
    while (to >= 0 && (covered < chunk || shape[to] == 1)) {
      strides[to] = base * covered;
      covered *= shape[to];
      --to;
    }
    if (covered != chunk) return std::nullopt;
    open = false;
  }
  for (; to >= 0; --to) strides[to] = 1;  // only ones are left
  return strides;
}

}  // namespace

Tensor alias(const Tensor& x) { return x; }

Tensor reshape(const Tensor& x, const Dims& sizes) {
  Shape shape{std::span<const int64_t>(sizes)};
  int unknown = -1;
  for (int i = 0; i < shape.ndim(); ++i) {
    if (shape[i] == -1 && unknown < 0) {
      unknown = i;
      shape[i] = 1;
    } else if (shape[i] < 0) {
      fail("reshape", code::kShape, "expected sizes of 0 or more and at most one -1, got ",
           Shape{std::span<const int64_t>(sizes)});
    }
  }
  if (unknown >= 0) {
    const int64_t known = shape.numel();
    if (known == 0 || x.numel() % known != 0) {
      fail("reshape", code::kShape, "cannot infer -1 in ", Shape{std::span<const int64_t>(sizes)}, " for ",
           x);
    }
    shape[unknown] = x.numel() / known;
  }
  if (shape.numel() != x.numel()) {
    fail("reshape", code::kShape, "expected ", x.numel(), " elements as in ", x, ", got ", shape);
  }
  if (const auto strides = strides_for(x, shape)) return x.with(shape, *strides, x.offset());
  const Tensor copy = contiguous(x);
  return copy.with(shape, contiguous_strides(shape), copy.offset());
}

Tensor permute(const Tensor& x, const Dims& dims) {
  if (static_cast<int>(dims.size()) != x.ndim()) {
    fail("permute", code::kShape, "expected ", x.ndim(), " dims for ", x, ", got ", dims.size());
  }
  Shape shape, strides;
  std::vector<bool> seen(dims.size(), false);
  for (const int64_t d : dims) {
    const int dim = check_dim("permute", d, x.ndim());
    if (seen[static_cast<size_t>(dim)])
      fail("permute", code::kShape, "expected each dim once, got ", d, " twice");
    seen[static_cast<size_t>(dim)] = true;
    shape.push_back(x.size(dim));
    strides.push_back(x.stride(dim));
  }
  return x.with(shape, strides, x.offset());
}

Tensor transpose(const Tensor& x, int64_t dim0, int64_t dim1) {
  if (x.ndim() == 0) return x;
  const int a = check_dim("transpose", dim0, x.ndim());
  const int b = check_dim("transpose", dim1, x.ndim());
  Shape shape = x.shape(), strides = x.strides();
  std::swap(shape[a], shape[b]);
  std::swap(strides[a], strides[b]);
  return x.with(shape, strides, x.offset());
}

Tensor expand(const Tensor& x, const Dims& sizes) {
  Shape shape{std::span<const int64_t>(sizes)};
  for (int i = 0; i < shape.ndim(); ++i) {
    const int ix = i - (shape.ndim() - x.ndim());
    if (shape[i] == -1 && ix >= 0) shape[i] = x.size(ix);
    if (shape[i] < 0)
      fail("expand", code::kShape, "expected sizes of 0 or more, or -1 to keep one, got ", shape);
  }
  return broadcast_to("expand", x, shape);
}

Tensor squeeze(const Tensor& x, const Dims& dims) {
  std::vector<bool> drop(std::max(size_t{1}, static_cast<size_t>(x.ndim())),
                         dims.empty());  // a scalar has a dim 0
  for (const int64_t d : dims) drop[static_cast<size_t>(check_dim("squeeze", d, x.ndim()))] = true;
  Shape shape, strides;
  for (int i = 0; i < x.ndim(); ++i) {
    if (drop[static_cast<size_t>(i)] && x.size(i) == 1) continue;
    shape.push_back(x.size(i));
    strides.push_back(x.stride(i));
  }
  return x.with(shape, strides, x.offset());
}

Tensor unsqueeze(const Tensor& x, int64_t dim) {
  const int at = check_dim("unsqueeze", dim, x.ndim() + 1);
  Shape shape = x.shape(), strides = x.strides();
  strides.insert(at, at < x.ndim() ? x.size(at) * x.stride(at) : 1);
  shape.insert(at, 1);
  return x.with(shape, strides, x.offset());
}

// Python's slice: start and stop count from the end when negative and are clamped; a negative step walks backwards.
Tensor slice(const Tensor& x, int64_t dim, int64_t start, int64_t stop, int64_t step) {
  if (x.ndim() == 0) fail("slice", code::kShape, "expected at least one dimension, got a scalar");
  if (step == 0) fail("slice", code::kValue, "expected a step other than 0");
  const int at = check_dim("slice", dim, x.ndim());
  const int64_t n = x.size(at);
  const int64_t lowest = step > 0 ? 0 : -1;
  const int64_t highest = step > 0 ? n : n - 1;
  const auto place = [&](int64_t i) { return std::clamp(i < 0 ? i + n : i, lowest, highest); };
  const int64_t first = place(start);
  const int64_t last = place(stop);
  const int64_t count = step > 0 ? (last - first + step - 1) / step : (first - last - step - 1) / -step;
  Shape shape = x.shape(), strides = x.strides();
  shape[at] = std::max<int64_t>(count, 0);
  strides[at] = x.stride(at) * std::clamp(step, -n - 1, n + 1);  // a longer one leads out as well
  return x.with(shape, strides, shape[at] > 0 ? x.offset() + first * x.stride(at) : x.offset());
}

int64_t written(const Tensor& x) { return x.storage()->written(); }

int64_t write_clock() { return Storage::clock(); }

}  // namespace tenon::ops
