// Each operand is read once, and each result written once: bound by memory. A thread takes packs of 16 bytes where all rows
// allow it, neighbouring threads neighbouring packs.
#include "backend/cuda/epilogue.h"

#include <limits>

#include "backend/cuda/activation.h"
#include "backend/cuda/elementwise.h"

namespace tenon::cuda {
namespace {

// A view of rank 2 as one of rank 3; rows are contiguous.
template <typename S>
struct Rows {
  S* data = nullptr;
  int64_t batch = 0, row = 0;

  Rows() = default;
  explicit Rows(const View& x) : data(x.as<S>()) {
    if (!x) return;
    batch = x.ndim() == 3 ? x.stride(0) : 0;
    row = x.stride(-2);
  }
  template <int kWidth>
  bool takes_packs() const {
    using P = Pack<std::remove_const_t<S>, kWidth>;
    return reinterpret_cast<uintptr_t>(data) % alignof(P) == 0 && batch % kWidth == 0 && row % kWidth == 0;
  }
};

// The product may be in float32 where S has 16 bits.
template <typename S, typename P>
struct Finish {
  Rows<const P> product;
  Rows<const S> residual;
  Rows<S> out, before;
  const S* bias;
  int64_t bias_stride, residual_column;
  Activation activation;
  bool residual_first;
  int64_t rows, columns, count;  // of a matrix; count: of packs
};

// 32-bit divisions take a fraction of the time of 64-bit ones.
__device__ __forceinline__ int64_t divide(int64_t a, int64_t b, bool narrow) {
  return narrow ? static_cast<uint32_t>(a) / static_cast<uint32_t>(b) : a / b;
}

template <int kWidth, typename S, typename P>
__global__ void __launch_bounds__(kThreads) finish_kernel(const Finish<S, P> f) {
  const int64_t packs = f.columns / kWidth;
  const bool narrow_count = f.count <= std::numeric_limits<uint32_t>::max();
  const bool adds = f.residual.data != nullptr;
  for (int64_t at = thread_of_grid(); at < f.count; at += threads_of_grid()) {
    const int64_t row = divide(at, packs, narrow_count), column = (at - row * packs) * kWidth;
    const int64_t batch = divide(row, f.rows, narrow_count), m = row - batch * f.rows;
    Pack<P, kWidth> x{};
    Pack<S, kWidth> added{}, input{}, result{};
    if (f.product.data != nullptr) {
      x = *reinterpret_cast<const Pack<P, kWidth>*>(f.product.data + batch * f.product.batch +
                                                    m * f.product.row + column);
    }
    if (adds) {
      const S* const from = f.residual.data + batch * f.residual.batch + m * f.residual.row;
      added = *reinterpret_cast<const Pack<S, kWidth>*>(from + column * f.residual_column);
    }
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      Compute<S> value = widen(x.elements[i]);
      if (f.bias != nullptr) value += widen(f.bias[(column + i) * f.bias_stride]);
      if (adds && f.residual_first) value += widen(added.elements[i]);
      input.elements[i] = narrow<S>(value);
      value = activate(f.activation, value);
      if (adds && !f.residual_first) value += widen(added.elements[i]);
      result.elements[i] = narrow<S>(value);
    }
    *reinterpret_cast<Pack<S, kWidth>*>(f.out.data + batch * f.out.batch + m * f.out.row + column) = result;
    if (f.before.data != nullptr) {
      S* const to = f.before.data + batch * f.before.batch + m * f.before.row;
      *reinterpret_cast<Pack<S, kWidth>*>(to + column) = input;
    }
  }
}

template <typename S, typename P>
void finish_as(Queue& queue, const char* op, const Epilogue& e) {
  constexpr int kWidth = kFullWidth<S>;
  Finish<S, P> f{Rows<const P>(e.product),
                 Rows<const S>(e.residual),
                 Rows<S>(e.out),
                 Rows<S>(e.before),
                 e.bias.as<const S>(),
                 e.bias ? e.bias.stride(0) : 0,
                 e.residual ? e.residual.stride(-1) : 1,
                 e.activation,
                 e.residual_first,
                 e.out.size(-2),
                 e.out.size(-1),
                 e.out.numel()};
  if (f.columns % kWidth == 0 && f.product.template takes_packs<kWidth>() &&
      f.residual.template takes_packs<kWidth>() && f.out.template takes_packs<kWidth>() &&
      f.before.template takes_packs<kWidth>() && f.residual_column == 1) {
    f.count /= kWidth;
    launch_over(queue, op, &finish_kernel<kWidth, S, P>, f.count, f);
  } else {
    launch_over(queue, op, &finish_kernel<1, S, P>, f.count, f);
  }
}

template <typename S>
struct Pass {
  const S* before;
  S* gradient;  // of after, then of before
  S* after;     // or null
  Activation activation;
  int64_t count;  // of packs
};

template <int kWidth, typename S>
__global__ void __launch_bounds__(kThreads) finish_backward_kernel(const Pass<S> pass) {
  using Elements = Pack<S, kWidth>;
  for (int64_t at = thread_of_grid(); at < pass.count; at += threads_of_grid()) {
    const auto before = reinterpret_cast<const Elements*>(pass.before)[at];
    Elements after{};
    Compute<S> slopes[kWidth]{};
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const Compute<S> x = widen(before.elements[i]);
      after.elements[i] = narrow<S>(activate(pass.activation, x));
      slopes[i] = slope_of(pass.activation, x);
    }
    // Read last: while the activation is computed, float64 has no registers for it on every architecture.
    if (pass.after != nullptr) reinterpret_cast<Elements*>(pass.after)[at] = after;
    auto gradient = reinterpret_cast<const Elements*>(pass.gradient)[at];
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      gradient.elements[i] = narrow<S>(widen(gradient.elements[i]) * slopes[i]);
    reinterpret_cast<Elements*>(pass.gradient)[at] = gradient;
  }
}

}  // namespace

void finish(Queue& queue, const char* op, const Epilogue& epilogue) {
  with_float_type(epilogue.out.dtype, [&]<typename S>(S) {
    if constexpr (sizeof(S) == 2) {
      if (epilogue.product.dtype == DType::Float32) return finish_as<S, float>(queue, op, epilogue);
    }
    finish_as<S, S>(queue, op, epilogue);
  });
}

void finish_backward(Queue& queue, const char* op, const MatmulActivationBackwardArgs& args) {
  with_float_type(args.before.dtype, [&]<typename S>(S) {
    constexpr int kWidth = kFullWidth<S>;
    Pass<S> pass{args.before.as<const S>(), args.dbefore.as<S>(), args.after.as<S>(), args.activation,
                 args.before.numel()};
    bool packs = pass.count % kWidth == 0;
    for (const View& x : {args.before, args.dbefore, args.after})
      packs = packs && reinterpret_cast<uintptr_t>(x.data) % 16 == 0;
    if (packs) {
      pass.count /= kWidth;
      launch_over(queue, op, &finish_backward_kernel<kWidth, S>, pass.count, pass);
    } else {
      launch_over(queue, op, &finish_backward_kernel<1, S>, pass.count, pass);
    }
  });
}

}  // namespace tenon::cuda
