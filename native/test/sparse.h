// Tensors larger than memory.
#pragma once

#include <sys/mman.h>

#include <new>
#include <vector>

#include "test/kernel_testing.h"

namespace tenon::testing {

// A tensor of zeros: only the pages that are touched exist.
class Sparse {
 public:
  Sparse(DType dtype, const Shape& shape) : Sparse(dtype, shape, contiguous_strides(shape)) {}
  Sparse(DType dtype, const Shape& shape, const Shape& strides) {
    int64_t extent = 1;
    for (int d = 0; d < shape.ndim(); ++d) extent += (shape[d] - 1) * strides[d];
    bytes_ = static_cast<size_t>(extent) * size_of(dtype);
    void* const data =
        mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED) throw std::bad_alloc();
    view_ = {data, dtype, shape, strides};
  }
  ~Sparse() { munmap(view_.data, bytes_); }
  Sparse(const Sparse&) = delete;
  Sparse& operator=(const Sparse&) = delete;

  const View& view() const { return view_; }
  Sparse& fill(const View& from) {
    const std::vector<double> values = testing::values(from);
    size_t at = 0;
    for_each_offset(view_.shape, view_.strides,
                    [&](int64_t i) { store(view_.dtype, view_.data, i, values[at++]); });
    return *this;
  }
  std::vector<double> values() const { return testing::values(view_); }

  // Row i of a tensor whose rows are its first dimension.
  View row(int64_t i) const {
    View x = view_;
    x.data = static_cast<char*>(x.data) + i * x.stride(0) * static_cast<int64_t>(size_of(x.dtype));
    x.shape[0] = 1;
    return x;
  }
  void set(int64_t i, const std::vector<double>& values) {
    const View x = row(i);
    size_t at = 0;
    for_each_offset(x.shape, x.strides, [&](int64_t place) { store(x.dtype, x.data, place, values[at++]); });
  }
  std::vector<double> get(int64_t i) const { return testing::values(row(i)); }

 private:
  size_t bytes_ = 0;
  View view_;
};

}  // namespace tenon::testing
