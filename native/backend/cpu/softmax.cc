// softmax, log-softmax and log-sum-exp along a dimension, with softmax's backward pass.
//
// The work is done on contiguous lines. Along the last dimension a line is a row of the tensor itself; along any other
// (and for 16-bit dtypes) lines go through scratch, kLines neighbours at a time, so that whole cache lines are used.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/softmax.cc"
#include "backend/cpu/rows.h"
//
#include <algorithm>
#include <vector>

#include "backend/cpu/kernels.h"
#include "backend/cpu/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace tenon::cpu::HWY_NAMESPACE {
namespace {

constexpr int64_t kLines = 16;

// The lines of a tensor along `dim`, numbered in row-major order of the other dimensions.
class Lines {
 public:
  Lines(const View& x, int dim) : data_(x.as<char>()), dtype_(x.dtype), shape_(x.shape), strides_(x.strides) {
    if (x.ndim() == 0) return;
    const int d = dim < 0 ? dim + x.ndim() : dim;
    n_ = shape_[d];
    stride_ = strides_[d];
    shape_.erase(d);
    strides_.erase(d);
    if (shape_.ndim() > 0) {
      inner_ = shape_.back();
      inner_stride_ = strides_.back();
      shape_.erase(shape_.ndim() - 1);
      strides_.erase(strides_.ndim() - 1);
    }
  }

  int64_t count() const { return shape_.numel() * inner_; }
  int64_t length() const { return n_; }
  int64_t inner_stride() const { return inner_stride_; }
  bool contiguous() const { return stride_ == 1 || n_ == 1; }

  char* line(int64_t index) const {
    int64_t offset = index % inner_ * inner_stride_;
    int64_t rest = index / inner_;
    for (int d = shape_.ndim() - 1; d >= 0; --d) {
      offset += rest % shape_[d] * strides_[d];
      rest /= shape_[d];
    }
    return data_ + offset * static_cast<int64_t>(size_of(dtype_));
  }

  // How many lines from `index` on, at most `most`, follow each other at one distance.
  int64_t run(int64_t index, int64_t most) const { return std::min(most, inner_ - index % inner_); }

  // Lines [index, index + lines) to and from contiguous rows of T, lines being at most run(index, lines).
  template <typename T>
  void read(int64_t index, int64_t lines, T* to) const {
    with_float_type(dtype_, [&]<typename S>(S) {
      if constexpr (std::is_same_v<Compute<S>, T>) {
        const S* from = reinterpret_cast<const S*>(line(index));
        if (contiguous()) {
          for (int64_t l = 0; l < lines; ++l) convert_run(from + l * inner_stride_, 1, to + l * n_, 1, n_);
        } else {
          for (int64_t j = 0; j < n_; ++j) convert_run(from + j * stride_, inner_stride_, to + j, n_, lines);
        }
      }
    });
  }
  template <typename T>
  void write(int64_t index, int64_t lines, const T* from) const {
    with_float_type(dtype_, [&]<typename S>(S) {
      if constexpr (std::is_same_v<Compute<S>, T>) {
        S* to = reinterpret_cast<S*>(line(index));
        if (contiguous()) {
          for (int64_t l = 0; l < lines; ++l) convert_run(from + l * n_, 1, to + l * inner_stride_, 1, n_);
        } else {
          for (int64_t j = 0; j < n_; ++j) convert_run(from + j, n_, to + j * stride_, inner_stride_, lines);
        }
      }
    });
  }

  // Whether lines are rows of T in memory, so that no scratch is needed.
  template <typename T>
  bool rows_of() const {
    return contiguous() && is_own<T>(dtype_);
  }

 private:
  char* data_;
  DType dtype_;
  Shape shape_, strides_;  // of the dimensions outside the line and the inner one
  int64_t n_ = 1, stride_ = 1;
  int64_t inner_ = 1, inner_stride_ = 0;
};

// The lines of a group, where they are rows of T.
template <typename T>
class Rows {
 public:
  Rows(const Lines& lines, int64_t index)
      : first_(reinterpret_cast<T*>(lines.line(index))), step_(lines.inner_stride()) {}
  T* operator[](int64_t l) const { return first_ + l * step_; }

 private:
  T* first_;
  int64_t step_;
};

// Calls work(index, lines) for groups of neighbouring lines, in parallel.
template <typename Work>
void for_lines(const Lines& lines, Work&& work) {
  const int64_t grain = 4096 / (lines.length() + 1) + 1;
  parallel_for(lines.count(), grain, [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t group = lines.run(begin, std::min(kLines, end - begin));
      work(begin, group);
      begin += group;
    }
  });
}

template <typename T>
T* scratch(int which, int64_t size) {
  static thread_local std::vector<T> buffers[2];
  auto& buffer = buffers[which];
  if (buffer.size() < static_cast<size_t>(size)) buffer.resize(static_cast<size_t>(size));
  return buffer.data();
}

// out may be x. A line of minus infinities gives NaN, as in PyTorch: the maximum is subtracted from itself.
template <bool log, typename T>
void softmax_line(const T* x, T* out, int64_t n) {
  const hn::ScalableTag<T> d;
  const auto shift = hn::Set(d, max_of_row(x, n));  // a NaN shows in the sum in any case
  const auto total = sum_vectors(d, n, [&](auto part, int64_t i) {
    const auto shifted = hn::Sub(part.get(d, x + i), shift);
    const auto e = exp_negative(d, shifted);
    part.put(d, log ? shifted : e, out + i);
    return e;
  });
  const T sum = sum_of_lanes(d, total);
  const auto factor = hn::Set(d, log ? std::log(sum) : T{1} / sum);
  for_vectors(d, n, [&](auto part, int64_t i) {
    const auto v = part.get(d, out + i);
    part.put(d, log ? hn::Sub(v, factor) : hn::Mul(v, factor), out + i);
  });
}

// dx = y (dy - sum(y dy)), or for log-softmax dx = dy - exp(y) sum(dy). dx may be y or dy.
template <bool log, typename T>
void softmax_backward_line(const T* y, const T* dy, T* dx, int64_t n) {
  const hn::ScalableTag<T> d;
  const auto total = sum_vectors(d, n, [&](auto part, int64_t i) {
    const auto grad = part.get(d, dy + i);
    return log ? grad : hn::Mul(part.get(d, y + i), grad);
  });
  const auto sum = hn::Set(d, sum_of_lanes(d, total));
  for_vectors(d, n, [&](auto part, int64_t i) {
    const auto grad = part.get(d, dy + i), value = part.get(d, y + i);
    part.put(d, log ? hn::NegMulAdd(exp_negative(d, value), sum, grad) : hn::Mul(value, hn::Sub(grad, sum)),
             dx + i);
  });
}

// An infinite maximum cannot be subtracted; without it the sum becomes infinite, or 0, as it should.
template <typename T>
T logsumexp_line(const T* x, int64_t n) {
  const hn::ScalableTag<T> d;
  const T largest = max_of_row(x, n);
  const T shift = std::isfinite(largest) ? largest : T{0};
  const auto shifts = hn::Set(d, shift);
  const auto total =
      sum_vectors(d, n, [&](auto part, int64_t i) { return exp(d, hn::Sub(part.get(d, x + i), shifts)); });
  return shift + std::log(sum_of_lanes(d, total));
}

template <bool log, typename T>
void softmax_of(const SoftmaxArgs& args) {
  const Lines x(args.x, args.dim), out(args.out, args.dim);
  const int64_t n = x.length();
  for_lines(x, [&](int64_t index, int64_t lines) {
    if (x.rows_of<T>() && out.rows_of<T>()) {
      const Rows<T> from(x, index), to(out, index);
      for (int64_t l = 0; l < lines; ++l) softmax_line<log, T>(from[l], to[l], n);
      return;
    }
    T* block = scratch<T>(0, lines * n);
    x.read(index, lines, block);
    for (int64_t l = 0; l < lines * n; l += n) softmax_line<log>(block + l, block + l, n);
    out.write(index, lines, block);
  });
}

template <bool log, typename T>
void softmax_backward_of(const SoftmaxBackwardArgs& args) {
  const Lines y(args.y, args.dim), dy(args.dy, args.dim), dx(args.dx, args.dim);
  const int64_t n = y.length();
  for_lines(y, [&](int64_t index, int64_t lines) {
    if (y.rows_of<T>() && dy.rows_of<T>() && dx.rows_of<T>()) {
      const Rows<T> values(y, index), gradients(dy, index), to(dx, index);
      for (int64_t l = 0; l < lines; ++l) softmax_backward_line<log, T>(values[l], gradients[l], to[l], n);
      return;
    }
    T* values = scratch<T>(0, lines * n);
    T* gradients = scratch<T>(1, lines * n);
    y.read(index, lines, values);
    dy.read(index, lines, gradients);
    for (int64_t l = 0; l < lines * n; l += n) {
      softmax_backward_line<log>(values + l, gradients + l, gradients + l, n);
    }
    dx.write(index, lines, gradients);
  });
}

template <typename T>
void logsumexp_of(const LogsumexpArgs& args) {
  const Lines x(args.x, args.dim), out(args.out, args.dim);
  const int64_t n = x.length();
  for_lines(x, [&](int64_t index, int64_t lines) {
    T results[kLines];
    if (x.rows_of<T>()) {
      const Rows<T> from(x, index);
      for (int64_t l = 0; l < lines; ++l) results[l] = logsumexp_line<T>(from[l], n);
    } else {
      T* block = scratch<T>(0, lines * n);
      x.read(index, lines, block);
      for (int64_t l = 0; l < lines; ++l) results[l] = logsumexp_line(block + l * n, n);
    }
    out.write(index, lines, results);
  });
}

template <bool log>
void run_softmax_as(const SoftmaxArgs& args) {
  return args.x.dtype == DType::Float64 ? softmax_of<log, double>(args) : softmax_of<log, float>(args);
}
void run_softmax(const SoftmaxArgs& args) {
  return args.log ? run_softmax_as<true>(args) : run_softmax_as<false>(args);
}

template <bool log>
void run_softmax_backward_as(const SoftmaxBackwardArgs& args) {
  return args.y.dtype == DType::Float64 ? softmax_backward_of<log, double>(args)
                                        : softmax_backward_of<log, float>(args);
}
void run_softmax_backward(const SoftmaxBackwardArgs& args) {
  return args.log ? run_softmax_backward_as<true>(args) : run_softmax_backward_as<false>(args);
}

void run_logsumexp(const LogsumexpArgs& args) {
  return args.x.dtype == DType::Float64 ? logsumexp_of<double>(args) : logsumexp_of<float>(args);
}

}  // namespace
}  // namespace tenon::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tenon::cpu {

HWY_EXPORT(run_softmax);
HWY_EXPORT(run_softmax_backward);
HWY_EXPORT(run_logsumexp);

void softmax(const SoftmaxArgs& args) { HWY_DYNAMIC_DISPATCH(run_softmax)(args); }
void softmax_backward(const SoftmaxBackwardArgs& args) { HWY_DYNAMIC_DISPATCH(run_softmax_backward)(args); }
void logsumexp(const LogsumexpArgs& args) { HWY_DYNAMIC_DISPATCH(run_logsumexp)(args); }

}  // namespace tenon::cpu
#endif
