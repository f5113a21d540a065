// Helpers of the kernels' tests: tensors between guard zones, random data, errors against a float64 reference.
#pragma once

#include <gtest/gtest.h>
#include <functional>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "core/error.h"
#include "test/elements.h"

namespace tenon::testing {

// The backend that this harness is linked with: the CPU (cpu_backend.cc), or CUDA's kernels on the emulator
// (cuda_emulator/backend.cc), where work is some thousand times slower.
const Kernels& kernels();
void* stream();
void wait();  // for what was run; throws the errors that it left
bool emulated();
// Calls body once for each of the ways in which the backend may multiply this dtype here.
void in_every_way(DType dtype, const std::function<void()>& body);

// run(&Kernels::softmax, args)
template <typename Args>
void run(void (*Kernels::*kernel)(const Args&, void*), const Args& args) {
  (kernels().*kernel)(args, stream());
  wait();
}

// "no error", or the code and the text of what was thrown.
template <typename Args>
std::string error_of(void (*Kernels::*kernel)(const Args&, void*), const Args& args) {
  try {
    run(kernel, args);
  } catch (const TensorError& error) {
    return error.code() + " " + error.what();
  }
  return "no error";
}

// Calls f(offset) for every element in row-major order; offset is in elements.
template <typename F>
void for_each_offset(const Shape& shape, const Shape& strides, F&& f) {
  Shape index = shape;
  for (int d = 0; d < shape.ndim(); ++d) index[d] = 0;
  for (int64_t n = shape.numel(); n > 0; --n) {
    int64_t offset = 0;
    for (int d = 0; d < shape.ndim(); ++d) offset += index[d] * strides[d];
    f(offset);
    for (int d = shape.ndim() - 1; d >= 0 && ++index[d] == shape[d]; --d) index[d] = 0;
  }
}

// The elements in row-major order.
inline std::vector<double> values(const View& x) {
  std::vector<double> out;
  for_each_offset(x.shape, x.strides, [&](int64_t i) { out.push_back(load(x.dtype, x.data, i)); });
  return out;
}

// A strided tensor that owns its memory. Elements start as NaN (integers as all ones), and the bytes around and
// between them stay 0xff unless somebody writes where nothing should be written.
class Buffer {
 public:
  explicit Buffer(DType dtype, const Shape& shape) : Buffer(dtype, shape, contiguous_strides(shape)) {}
  Buffer(DType dtype, const Shape& shape, const Shape& strides) {
    int64_t last = 0, first = 0;
    for (int d = 0; d < shape.ndim() && shape.numel() > 0; ++d) {
      (strides[d] > 0 ? last : first) += (shape[d] - 1) * strides[d];
    }
    const int64_t extent = shape.numel() == 0 ? 0 : last - first + 1;
    bytes_.assign(2 * kGuard + static_cast<size_t>(extent) * size_of(dtype), 0xff);
    view_ = {bytes_.data() + kGuard - first * static_cast<int64_t>(size_of(dtype)), dtype, shape, strides};
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  const View& view() const { return view_; }

  Buffer& fill(double value) {
    for_each_offset(view_.shape, view_.strides, [&](int64_t i) { store(view_.dtype, view_.data, i, value); });
    return *this;
  }
  Buffer& fill(const std::vector<double>& values) {
    size_t at = 0;
    for_each_offset(view_.shape, view_.strides,
                    [&](int64_t i) { store(view_.dtype, view_.data, i, values.at(at++)); });
    return *this;
  }
  Buffer& fill_normal(uint32_t seed, double deviation = 1) {
    std::mt19937 generator(seed);
    std::normal_distribution<double> normal(0, deviation);
    for_each_offset(view_.shape, view_.strides,
                    [&](int64_t i) { store(view_.dtype, view_.data, i, normal(generator)); });
    return *this;
  }

  std::vector<double> values() const { return testing::values(view_); }

  // Whether every byte outside the elements is as it was.
  bool intact() const {
    std::vector<bool> element(bytes_.size(), false);
    const auto zero = static_cast<const unsigned char*>(view_.data) - bytes_.data();
    const auto size = static_cast<int64_t>(size_of(view_.dtype));
    for_each_offset(view_.shape, view_.strides, [&](int64_t i) {
      for (int64_t b = 0; b < size; ++b) element[static_cast<size_t>(zero + i * size + b)] = true;
    });
    for (size_t i = 0; i < bytes_.size(); ++i) {
      if (!element[i] && bytes_[i] != 0xff) return false;
    }
    return true;
  }

 private:
  static constexpr int64_t kGuard = 256;
  std::vector<unsigned char> bytes_;
  View view_;
};

// ||actual - expected|| / ||expected||; infinite when an element is NaN, or infinite in one only.
inline double relative_error(const std::vector<double>& actual, const std::vector<double>& expected) {
  if (actual.size() != expected.size()) return std::numeric_limits<double>::infinity();
  double difference = 0, norm = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double d = actual[i] == expected[i] ? 0 : actual[i] - expected[i];
    difference += d * d;
    norm += expected[i] * expected[i];
  }
  if (!(difference < std::numeric_limits<double>::infinity())) return std::numeric_limits<double>::infinity();
  return difference == 0 ? 0 : std::sqrt(difference / norm);
}

// What rounding each result to dtype may cost, with room for a few roundings inside.
inline double tolerance(DType dtype) {
  switch (dtype) {
    case DType::Float64:
      return 1e-14;
    case DType::BFloat16:
      return 4e-3;
    case DType::Float16:
      return 5e-4;
    default:
      return 2e-6;
  }
}

inline const std::vector<DType>& float_dtypes() {
  static const std::vector<DType> dtypes = {DType::Float32, DType::Float64, DType::BFloat16, DType::Float16};
  return dtypes;
}

}  // namespace tenon::testing
