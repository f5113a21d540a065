// What every op uses to check its arguments and to make its results.
#pragma once

#include <cmath>
#include <limits>
#include <optional>
#include <sstream>
#include <string>

#include "backend/device.h"
#include "core/tensor.h"

namespace tenon::ops {

// Joins its arguments to one text; shapes print as "[2, 3]", dtypes by name, tensors as "[2, 3]".
template <typename... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream stream;
  stream.precision(std::numeric_limits<double>::digits10);  // 2147483648 rather than 2.14748e+09
  const auto put = [&stream]<typename Part>(const Part& part) {
    if constexpr (std::is_same_v<Part, Shape>) {
      stream << to_string(part);
    } else if constexpr (std::is_same_v<Part, Tensor>) {
      stream << to_string(part.shape());
    } else if constexpr (std::is_same_v<Part, DType>) {
      stream << name_of(part);
    } else {
      stream << part;
    }
  };
  (put(parts), ...);
  return stream.str();
}

template <typename... Parts>
[[noreturn]] void fail(const char* op, const char* code, const Parts&... parts) {
  throw TensorError(op, code, text(parts...));
}

inline void check_floating(const char* op, const char* name, const Tensor& x) {
  if (!is_floating(x.dtype())) {
    fail(op, code::kDType, "expected a floating-point ", name, ", got ", x.dtype());
  }
}

inline void check_same_dtype(const char* op, const char* a_name, const Tensor& a, const char* b_name,
                             const Tensor& b) {
  if (a.dtype() != b.dtype()) {
    fail(op, code::kDType, "dtypes differ: ", a_name, " is ", a.dtype(), ", ", b_name, " is ", b.dtype(),
         "; convert one with to()");
  }
}

// For callers in C++: JavaScript's are checked once for every op, in binding/def.h.
inline void check_same_device(const char* op, const Tensor& a, const Tensor& b) {
  if (&a.device() != &b.device()) {
    fail(op, code::kDevice, "expected tensors on one device, got ", a.device().name(), " and ",
         b.device().name());
  }
}

inline void check_index_dtype(const char* op, const char* name, const Tensor& x) {
  if (x.dtype() != DType::Int32 && x.dtype() != DType::Int64) {
    fail(op, code::kDType, "expected ", name, " to be int32 or int64, got ", x.dtype());
  }
}

// A number that stands for a tensor's elements: an integer dtype holds whole numbers of its range, bool 0 and 1.
inline void check_number(const char* op, DType dtype, double value) {
  const auto whole = [value](double low, double high) {
    return value == std::floor(value) && value >= low && value <= high;
  };
  const bool holds = dtype == DType::Int32   ? whole(-0x1p31, 0x1p31 - 1)
                     : dtype == DType::Int64 ? whole(-0x1p63, std::nextafter(0x1p63, 0))
                     : dtype == DType::UInt8 ? whole(0, 255)
                     : dtype == DType::Bool  ? whole(0, 1)
                                             : true;
  if (!holds) fail(op, code::kValue, "expected a number that ", dtype, " holds, got ", value);
}

inline void check_shape(const char* op, const char* name, const Tensor& x, const Shape& expected) {
  if (!(x.shape() == expected)) fail(op, code::kShape, "expected ", name, " ", expected, ", got ", x);
}

inline void check_ndim(const char* op, const char* name, const Tensor& x, int expected) {
  if (x.ndim() != expected) {
    fail(op, code::kShape, "expected ", name, " with ", expected,
         expected == 1 ? " dimension" : " dimensions", ", got ", x);
  }
}

// A dimension index in [0, ndim), counted from the end when negative.
inline int check_dim(const char* op, int64_t dim, int ndim) {
  const int64_t n = ndim == 0 ? 1 : ndim;  // a scalar accepts dim 0 and -1
  if (dim < -n || dim >= n) {
    fail(op, code::kIndex, "dim ", dim, " is outside [", -n, ", ", n, ") for a tensor with ", ndim,
         ndim == 1 ? " dimension" : " dimensions");
  }
  return static_cast<int>(dim < 0 ? dim + n : dim);
}

inline Tensor empty(Device& device, const Shape& shape, DType dtype) {
  const size_t bytes = static_cast<size_t>(shape.numel()) * size_of(dtype);
  return {std::make_shared<Storage>(device, device.allocator(), bytes), dtype, shape,
          contiguous_strides(shape), 0};
}

inline Tensor empty_like(const Tensor& x) { return empty(x.device(), x.shape(), x.dtype()); }

// A new image [B, C, H, W] that lies channels-last.
inline Tensor empty_channels_last(Device& device, const Shape& shape, DType dtype) {
  const Tensor x = empty(device, shape, dtype);
  return x.with(shape, channels_last_strides(shape), 0);
}

inline View optional_view(const std::optional<Tensor>& x) { return x ? x->view() : View{}; }

// x's elements where they lie in row-major order, else a copy that does. Its strides are those of its shape also where a
// dimension of size 1 had another: kernels read them as the distance to the next row.
Tensor contiguous(const Tensor& x);

// The same for an image that lies channels-last.
Tensor channels_last(const Tensor& x);

// x itself when the last dimension has stride 1 (and no stride is negative), else a contiguous copy.
Tensor with_rows(const Tensor& x);

// A copy of a weight that kernels keep (Prepared in backend.h), in `bytes` of memory: null for 0, and where memory is short.
std::shared_ptr<Prepared> prepared_copy(const Tensor& weight, size_t bytes);
// One of the size that the weight's device wants for a kernel with these arguments.
template <typename Args>
std::shared_ptr<Prepared> prepared_copy(const Tensor& weight, const Args& args) {
  return prepared_copy(weight, weight.device().prepared_bytes(args));
}

// The shape that a and b broadcast to, by numpy's rules.
Shape broadcast_shapes(const char* op, const Shape& a, const Shape& b);

// x seen with a broadcast shape: stride 0 where a dimension is repeated.
Tensor broadcast_to(const char* op, const Tensor& x, const Shape& shape, const char* name = "a shape");

}  // namespace tenon::ops
