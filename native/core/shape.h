// Sizes and strides of a tensor, stored inline: an op describes its tensors without touching the heap.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include "core/error.h"

namespace tenon {

constexpr int kMaxDims = 8;

// Elements of a tensor, those of views included, which cost no memory: as far as JavaScript counts exactly. Offsets and
// bytes are then far from the end of 64 bits.
constexpr int64_t kMaxElements = int64_t{1} << 53;

class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> values) {
    for (const int64_t v : values) push_back(v);
  }
  explicit Shape(std::span<const int64_t> values) {
    for (const int64_t v : values) push_back(v);
  }

  int ndim() const { return ndim_; }
  bool empty() const { return ndim_ == 0; }
  int64_t& operator[](int i) { return values_[static_cast<size_t>(i)]; }
  int64_t operator[](int i) const { return values_[static_cast<size_t>(i)]; }
  int64_t back() const { return values_[static_cast<size_t>(ndim_ - 1)]; }
  const int64_t* begin() const { return values_.data(); }
  const int64_t* end() const { return values_.data() + ndim_; }
  bool operator==(const Shape& other) const { return std::equal(begin(), end(), other.begin(), other.end()); }

  void push_back(int64_t value) {
    if (ndim_ == kMaxDims) {
      throw TensorError(code::kShape,
                        "expected at most " + std::to_string(kMaxDims) + " dimensions, got more");
    }
    values_[static_cast<size_t>(ndim_++)] = value;
  }
  void insert(int at, int64_t value) {
    push_back(0);
    for (int i = ndim_ - 1; i > at; --i) (*this)[i] = (*this)[i - 1];
    (*this)[at] = value;
  }
  void erase(int at) {
    for (int i = at; i + 1 < ndim_; ++i) (*this)[i] = (*this)[i + 1];
    --ndim_;
  }

  // Throws TensorError SHAPE beyond kMaxElements. A size of 0 counts as 1 there: strides are products of the others.
  int64_t numel() const {
    int64_t n = 1;
    bool none = false;
    for (const int64_t v : *this) {
      none |= v == 0;
      if (__builtin_mul_overflow(n, v == 0 ? 1 : v, &n) || n > kMaxElements) refuse();
    }
    return none ? 0 : n;
  }

 private:
  [[noreturn]] void refuse() const;

  std::array<int64_t, kMaxDims> values_{};
  int ndim_ = 0;
};

// Row-major strides, in elements.
Shape contiguous_strides(const Shape& shape);

// Strides of an image [B, C, H, W] that lies as [B, H, W, C].
Shape channels_last_strides(const Shape& shape);

// "[2, 3, 4]"
std::string to_string(const Shape& shape);

}  // namespace tenon
