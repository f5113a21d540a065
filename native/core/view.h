// What a kernel sees of a tensor: a pointer to its first element, sizes, and strides in elements (0 for a broadcast
// dimension, negative for a flipped one). It owns nothing. `data == nullptr` means "absent" for optional operands.
#pragma once

#include "core/dtype.h"
#include "core/shape.h"

namespace tenon {

struct View {
  void* data = nullptr;
  DType dtype = DType::Float32;
  Shape shape;
  Shape strides;

  explicit operator bool() const { return data != nullptr; }
  int ndim() const { return shape.ndim(); }
  int64_t size(int dim) const { return shape[dim < 0 ? dim + shape.ndim() : dim]; }
  int64_t stride(int dim) const { return strides[dim < 0 ? dim + strides.ndim() : dim]; }
  int64_t numel() const { return shape.numel(); }
  bool is_contiguous() const {
    int64_t step = 1;
    for (int i = shape.ndim() - 1; i >= 0; --i) {
      if (shape[i] != 1 && strides[i] != step) return false;
      step *= shape[i];
    }
    return true;
  }
  // Whether an image [B, C, H, W] lies as [B, H, W, C].
  bool is_channels_last() const {
    if (shape.ndim() != 4) return false;
    const Shape packed = channels_last_strides(shape);
    for (int i = 0; i < 4; ++i) {
      if (shape[i] != 1 && strides[i] != packed[i]) return false;
    }
    return true;
  }

  template <typename T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

}  // namespace tenon
