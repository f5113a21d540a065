// Layer normalisation (Ba, Kiros, Hinton, arXiv:1607.06450) over the last dimension, with the sum of a residual
// branch in front of it, and its backward pass. A row is read from memory once: it stays in the first cache while its
// statistics are taken (the mean, then the squared distances from it, which float32 needs) and the result is written.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/layer_norm.cc"
#include "backend/cpu/rows.h"
//
#include <algorithm>
#include <vector>

#include "backend/cpu/kernels.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/prefetch.h"

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

template <typename S, typename Y>
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
    const auto total = sum_vectors(d, C, [&](auto part, int64_t i) { return part.get(d, x + i); });
    const T mean = sum_of_lanes(d, total) * inverse;
    const auto center = hn::Set(d, mean);
    const auto squares = sum_vectors(d, C, [&](auto part, int64_t i) {
      const auto distance = hn::Sub(part.get(d, x + i), center);
      return hn::Mul(distance, distance);
    });
    const T rstd = T{1} / std::sqrt(sum_of_lanes(d, squares) * inverse + static_cast<T>(args.eps));
    const auto scale = hn::Set(d, rstd);
    Y* y = args.y.as<Y>() + row * C;
    for_vectors(d, C, [&](auto part, int64_t i) {
      const auto normal = hn::Mul(hn::Sub(part.get(d, x + i), center), scale);
      part.put(d, hn::MulAdd(normal, part.get(d, gamma + i), part.get(d, beta + i)), y + i);
    });
    args.mean.as<T>()[row] = mean;
    args.rstd.as<T>()[row] = rstd;
  }
}

template <typename S, typename Y>
void forward(const LayerNormArgs& args) {
  using T = Compute<S>;
  const int64_t C = args.x.size(-1);
  static thread_local std::vector<T> gammas, betas;
  const T* gamma = vector_or(args.gamma, T{1}, C, gammas);
  const T* beta = vector_or(args.beta, T{0}, C, betas);
  parallel_for(args.mean.numel(), grain(C),
               [&](int64_t begin, int64_t end) { forward_rows<S, Y>(args, gamma, beta, begin, end); });
}

// With n = (s - mean) rstd and g = dy gamma:  dx = rstd (g - mean(g) - n mean(g n)) + dsum,
// and, summed over rows, dgamma += dy n and dbeta += dy. Takes kRows rows at once: dgamma and dbeta are loaded and
// stored once for all of them, and no row waits for the sums of another. Rows further down are asked for meanwhile, those
// of dx too, which is worth a quarter of the time for [6272, 192].
template <int kRows, typename S, typename Y>
HWY_INLINE void backward_rows(const LayerNormBackwardArgs& args, const Compute<S>* HWY_RESTRICT gamma,
                              Compute<S>* HWY_RESTRICT dgamma, Compute<S>* HWY_RESTRICT dbeta, int64_t row) {
  using T = Compute<S>;
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  const int64_t C = args.s.size(-1);
  const Y* HWY_RESTRICT dy = args.dy.as<Y>() + row * C;
  const S* HWY_RESTRICT s = args.s.as<S>() + row * C;
  const T* means = args.mean.as<T>() + row;
  const T* rstds = args.rstd.as<T>() + row;
  S* const dx = args.dx.as<S>() + row * C;
  const S* dsum = args.dsum ? args.dsum.as<S>() + row * C : nullptr;
  V sum_g[kRows], sum_gn[kRows];
  for (int r = 0; r < kRows; ++r) sum_g[r] = sum_gn[r] = hn::Zero(d);
  for_vectors(d, C, [&](auto part, int64_t i) {
    const V weight = part.get(d, gamma + i);
    V gammas = part.get(d, dgamma + i), betas = part.get(d, dbeta + i);
    for (int r = 0; r < kRows; ++r) {
      if constexpr (kRows > 1) {
        const int64_t ahead = (2 * kRows + r) * C + i;
        prefetch(dy + ahead);
        prefetch(s + ahead);
        if (dsum != nullptr) prefetch(dsum + ahead);
        prefetch(dx + ahead);
      }
      const V grad = part.get(d, dy + r * C + i);  // zeros beyond the row, and so is every product with them
      const V normal =
          hn::Mul(hn::Sub(part.get(d, s + r * C + i), hn::Set(d, means[r])), hn::Set(d, rstds[r]));
      const V g = hn::Mul(grad, weight);
      sum_g[r] = hn::Add(sum_g[r], g);
      sum_gn[r] = hn::MulAdd(g, normal, sum_gn[r]);
      gammas = hn::MulAdd(grad, normal, gammas);
      betas = hn::Add(betas, grad);
    }
    part.put(d, gammas, dgamma + i);
    part.put(d, betas, dbeta + i);
  });
  const T inverse = T{1} / static_cast<T>(C);
  for (int r = 0; r < kRows; ++r) {
    // dx = g rstd - mean(g) rstd - (s - mean) rstd^2 mean(g n)
    const T mean_g = sum_of_lanes(d, sum_g[r]) * inverse, mean_gn = sum_of_lanes(d, sum_gn[r]) * inverse;
    const V center = hn::Set(d, means[r]), scale = hn::Set(d, rstds[r]);
    const V slope = hn::Set(d, rstds[r] * rstds[r] * mean_gn), shift = hn::Set(d, rstds[r] * mean_g);
    for_vectors(d, C, [&](auto part, int64_t i) {
      const V g = hn::Mul(part.get(d, dy + r * C + i), part.get(d, gamma + i));
      const V distance = hn::Sub(part.get(d, s + r * C + i), center);
      V out = hn::NegMulAdd(distance, slope, hn::MulSub(g, scale, shift));
      if (dsum != nullptr) out = hn::Add(out, part.get(d, dsum + r * C + i));
      part.put(d, out, dx + r * C + i);
    });
  }
}

// Rows whose contributions to dgamma and dbeta are summed before they join the total: sums in two levels stay
// accurate in float32 over any number of rows.
constexpr int64_t kRowsPerSum = 64;

template <typename S, typename Y>
void backward(const LayerNormBackwardArgs& args) {
  using T = Compute<S>;
  const int64_t rows = args.mean.numel(), C = args.s.size(-1);
  static thread_local std::vector<T> gammas, sums;
  const T* gamma = vector_or(args.gamma, T{1}, C, gammas);
  const Parts parts(rows, grain(C));
  sums.assign(static_cast<size_t>(parts.count * 2 * C), T{0});  // per part [dgamma, dbeta][C]
  T* const all = sums.data();
  parallel_for(parts, [&](int64_t begin, int64_t end, int64_t index) {
    static thread_local std::vector<T> few;
    few.assign(static_cast<size_t>(2 * C), T{0});
    T *const total = all + index * 2 * C, *const some = few.data();
    for (int64_t row = begin; row < end; row += kRowsPerSum) {
      const int64_t stop = std::min(end, row + kRowsPerSum);
      int64_t r = row;
      for (; r + 4 <= stop; r += 4) backward_rows<4, S, Y>(args, gamma, some, some + C, r);
      for (; r < stop; ++r) backward_rows<1, S, Y>(args, gamma, some, some + C, r);
      for (int64_t i = 0; i < 2 * C; ++i) total[i] += some[i];
      std::fill(some, some + 2 * C, T{0});
    }
  });
  for (int64_t part = 1; part < parts.count; ++part) {
    for (int64_t i = 0; i < 2 * C; ++i) all[i] += all[part * 2 * C + i];
  }
  if (args.dgamma) write_line(args.dgamma.dtype, all, C, args.dgamma.data, args.dgamma.stride(0));
  if (args.dbeta) write_line(args.dbeta.dtype, all + C, C, args.dbeta.data, args.dbeta.stride(0));
}

void run_forward(const LayerNormArgs& args) {
  with_narrowed_type(args.x.dtype, args.y.dtype, [&]<typename S, typename Y>(S, Y) { forward<S, Y>(args); });
}

void run_backward(const LayerNormBackwardArgs& args) {
  with_narrowed_type(args.s.dtype, args.dy.dtype,
                     [&]<typename S, typename Y>(S, Y) { backward<S, Y>(args); });
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
