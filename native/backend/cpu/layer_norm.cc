// Layer normalisation (Ba, Kiros, Hinton, arXiv:1607.06450) over the last dimension, with the sum of a residual
// branch in front of it, and its backward pass. A row is read from memory once: it stays in the first cache while its
// statistics are taken (the mean, then the squared distances from it, which float32 needs) and the result is written.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/layer_norm.cc"
#include "backend/cpu/rows.h"
//
#include <omp.h>

#include <algorithm>
#include <vector>

#include "backend/cpu/kernels.h"
#include "backend/cpu/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace tenon::cpu::HWY_NAMESPACE {
namespace {

// Rows that are worth waking another thread for.
int64_t grain(int64_t columns) { return 8192 / (columns + 1) + 1; }

// gamma or beta as T; ones or zeros where it is absent.
template <typename T>
const T* vector_or(const View& x, T absent, int64_t n, std::vector<T>& storage) {
  storage.assign(static_cast<size_t>(n), absent);
  if (x) read_line(x.dtype, x.data, x.stride(0), n, storage.data());
  return storage.data();
}

template <typename S>
void forward_rows(const LayerNormArgs& args, const Compute<S>* HWY_RESTRICT gamma,
                  const Compute<S>* HWY_RESTRICT beta, int64_t begin, int64_t end) {
  using T = Compute<S>;
  const hn::ScalableTag<T> d;
  const int64_t C = args.x.size(-1);
  const T inverse = T{1} / static_cast<T>(C);
  for (int64_t row = begin; row < end; ++row) {
    const S* x = args.x.as<S>() + row * C;
    if (args.residual) {
      const S* residual = args.residual.as<S>() + row * C;
      S* sum = args.sum.as<S>() + row * C;
      for_vectors(d, C, [&](auto part, int64_t i) {
        part.put(d, hn::Add(part.get(d, x + i), part.get(d, residual + i)), sum + i);
      });
      x = sum;  // rounded to its dtype, as the backward pass will see it
    }
    auto total = hn::Zero(d);
    for_vectors(d, C, [&](auto part, int64_t i) { total = hn::Add(total, part.get(d, x + i)); });
    const T mean = sum_of_lanes(d, total) * inverse;
    const auto center = hn::Set(d, mean);
    auto squares = hn::Zero(d);
    for_vectors(d, C, [&](auto part, int64_t i) {
      const auto distance = part.only(d, hn::Sub(part.get(d, x + i), center));
      squares = hn::MulAdd(distance, distance, squares);
    });
    const T rstd = T{1} / std::sqrt(sum_of_lanes(d, squares) * inverse + static_cast<T>(args.eps));
    const auto scale = hn::Set(d, rstd);
    S* y = args.y.as<S>() + row * C;
    for_vectors(d, C, [&](auto part, int64_t i) {
      const auto normal = hn::Mul(hn::Sub(part.get(d, x + i), center), scale);
      part.put(d, hn::MulAdd(normal, part.get(d, gamma + i), part.get(d, beta + i)), y + i);
    });
    args.mean.as<T>()[row] = mean;
    args.rstd.as<T>()[row] = rstd;
  }
}

template <typename S>
void forward(const LayerNormArgs& args) {
  using T = Compute<S>;
  const int64_t C = args.x.size(-1);
  static thread_local std::vector<T> gammas, betas;
  const T* gamma = vector_or(args.gamma, T{1}, C, gammas);
  const T* beta = vector_or(args.beta, T{0}, C, betas);
  parallel_for(args.mean.numel(), grain(C),
               [&](int64_t begin, int64_t end) { forward_rows<S>(args, gamma, beta, begin, end); });
}

// With n = (s - mean) rstd and g = dy gamma:  dx = rstd (g - mean(g) - n mean(g n)) + dsum,
// and, summed over rows, dgamma += dy n and dbeta += dy.
template <typename S>
void backward_rows(const LayerNormBackwardArgs& args, const Compute<S>* HWY_RESTRICT gamma,
                   Compute<S>* HWY_RESTRICT dgamma, Compute<S>* HWY_RESTRICT dbeta, int64_t begin,
                   int64_t end) {
  using T = Compute<S>;
  const hn::ScalableTag<T> d;
  const int64_t C = args.s.size(-1);
  const T inverse = T{1} / static_cast<T>(C);
  for (int64_t row = begin; row < end; ++row) {
    const S* HWY_RESTRICT dy = args.dy.as<S>() + row * C;
    const S* HWY_RESTRICT s = args.s.as<S>() + row * C;
    const auto center = hn::Set(d, args.mean.as<T>()[row]);
    const auto scale = hn::Set(d, args.rstd.as<T>()[row]);
    auto sum_g = hn::Zero(d), sum_gn = hn::Zero(d);
    for_vectors(d, C, [&](auto part, int64_t i) {
      const auto grad = part.get(d, dy + i);  // zeros beyond the row, and so is every product with them
      const auto normal = hn::Mul(hn::Sub(part.get(d, s + i), center), scale);
      const auto g = hn::Mul(grad, part.get(d, gamma + i));
      sum_g = hn::Add(sum_g, g);
      sum_gn = hn::MulAdd(g, normal, sum_gn);
      part.put(d, hn::MulAdd(grad, normal, part.get(d, dgamma + i)), dgamma + i);
      part.put(d, hn::Add(grad, part.get(d, dbeta + i)), dbeta + i);
    });
    const auto mean_g = hn::Set(d, sum_of_lanes(d, sum_g) * inverse);
    const auto mean_gn = hn::Set(d, sum_of_lanes(d, sum_gn) * inverse);
    const S* dsum = args.dsum ? args.dsum.as<S>() + row * C : nullptr;
    S* dx = args.dx.as<S>() + row * C;
    for_vectors(d, C, [&](auto part, int64_t i) {
      const auto normal = hn::Mul(hn::Sub(part.get(d, s + i), center), scale);
      const auto g = hn::Mul(part.get(d, dy + i), part.get(d, gamma + i));
      auto out = hn::Mul(hn::NegMulAdd(normal, mean_gn, hn::Sub(g, mean_g)), scale);
      if (dsum != nullptr) out = hn::Add(out, part.get(d, dsum + i));
      part.put(d, out, dx + i);
    });
  }
}

// Rows whose contributions to dgamma and dbeta are summed before they join the total: sums in two levels stay
// accurate in float32 over any number of rows.
constexpr int64_t kRowsPerSum = 64;

template <typename S>
void backward(const LayerNormBackwardArgs& args) {
  using T = Compute<S>;
  const int64_t rows = args.mean.numel(), C = args.s.size(-1);
  static thread_local std::vector<T> gammas, sums;
  const T* gamma = vector_or(args.gamma, T{1}, C, gammas);
  const int64_t threads = omp_get_max_threads();
  sums.assign(static_cast<size_t>(threads * 4 * C), T{0});  // per thread [total, part][dgamma, dbeta][C]
  T* const all = sums.data();
  parallel_for(rows, grain(C), [&](int64_t begin, int64_t end) {
    T* const total = all + omp_get_thread_num() * 4 * C;
    T* const part = total + 2 * C;
    for (int64_t row = begin; row < end; row += kRowsPerSum) {
      backward_rows<S>(args, gamma, part, part + C, row, std::min(end, row + kRowsPerSum));
      for (int64_t i = 0; i < 2 * C; ++i) total[i] += part[i];
      std::fill(part, part + 2 * C, T{0});
    }
  });
  for (int64_t t = 1; t < threads; ++t) {
    for (int64_t i = 0; i < 2 * C; ++i) all[i] += all[t * 4 * C + i];
  }
  if (args.dgamma) write_line(args.dgamma.dtype, all, C, args.dgamma.data, args.dgamma.stride(0));
  if (args.dbeta) write_line(args.dbeta.dtype, all + C, C, args.dbeta.data, args.dbeta.stride(0));
}

void run_forward(const LayerNormArgs& args) {
  with_float_type(args.x.dtype, [&]<typename S>(S) { forward<S>(args); });
}

void run_backward(const LayerNormBackwardArgs& args) {
  with_float_type(args.s.dtype, [&]<typename S>(S) { backward<S>(args); });
}

}  // namespace
}  // namespace tenon::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tenon::cpu {

HWY_EXPORT(run_forward);
HWY_EXPORT(run_backward);

void layer_norm(const LayerNormArgs& args) { HWY_DYNAMIC_DISPATCH(run_forward)(args); }

void layer_norm_backward(const LayerNormBackwardArgs& args) { HWY_DYNAMIC_DISPATCH(run_backward)(args); }

}  // namespace tenon::cpu
#endif
