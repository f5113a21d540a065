// Batch normalisation (Ioffe and Szegedy, arXiv:1502.03167) of the columns of [rows, C], with the sum of a residual
// branch and ReLU behind it, and its backward pass. Memory bounds it: the forward reads x twice, the backward dy, x and y
// twice. Column sums run over blocks of rows in the computing type, and over blocks in double.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/batch_norm.cc"
#include "backend/cpu/rows.h"
//
#include <algorithm>
#include <vector>

#include "backend/cpu/kernels.h"
#include "backend/cpu/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace tenon::cpu::HWY_NAMESPACE {
namespace {

// Rows that are worth waking another thread for.
int64_t grain(int64_t columns) { return 8192 / (columns + 1) + 1; }

constexpr int64_t kRowsPerBlock = 64;
constexpr int kRowsAtOnce = 4;  // whose terms join before a column's sum is loaded and stored

// Two sums for each of C columns: totals[0][c] and totals[1][c] of what add(rows, part, row, i, first, second) joins to the
// vectors first and second of columns i and on, for `rows` rows from `row`.
template <typename T, typename Add>
const double* column_sums(int64_t rows, int64_t C, Add&& add) {
  const hn::ScalableTag<T> d;
  static thread_local std::vector<double> totals;
  const Parts parts(rows, grain(C));
  totals.assign(static_cast<size_t>(parts.count * 2 * C), 0.0);
  double* const all = totals.data();
  parallel_for(parts, [&](int64_t begin, int64_t end, int64_t index) {
    static thread_local std::vector<T> few;
    few.assign(static_cast<size_t>(2 * C), T{0});
    double* const total = all + index * 2 * C;
    T* const block = few.data();
    const auto sweep = [&](auto count, int64_t row) {
      for_vectors(d, C, [&](auto part, int64_t i) {
        auto first = part.get(d, block + i), second = part.get(d, block + C + i);
        add(count, part, row, i, first, second);
        part.put(d, first, block + i);
        part.put(d, second, block + C + i);
      });
    };
    for (int64_t row = begin; row < end; row += kRowsPerBlock) {
      const int64_t stop = std::min(end, row + kRowsPerBlock);
      int64_t r = row;
      for (; r + kRowsAtOnce <= stop; r += kRowsAtOnce) sweep(std::integral_constant<int, kRowsAtOnce>(), r);
      for (; r < stop; ++r) sweep(std::integral_constant<int, 1>(), r);
      for (int64_t i = 0; i < 2 * C; ++i) total[i] += static_cast<double>(block[i]);
      std::fill(block, block + 2 * C, T{0});
    }
  });
  for (int64_t part = 1; part < parts.count; ++part) {
    for (int64_t i = 0; i < 2 * C; ++i) all[i] += all[part * 2 * C + i];
  }
  return all;
}

// A vector [C] of a float dtype as T; ones or zeros where it is absent.
template <typename T>
std::vector<T>& vector_or(std::vector<T>& storage, const View& x, T absent, int64_t n) {
  storage.assign(static_cast<size_t>(n), absent);
  if (x) read_line(x.dtype, x.data, 1, n, storage.data());
  return storage;
}

template <typename T>
void write_vector(const std::vector<T>& values, const View& x) {
  write_line(x.dtype, values.data(), static_cast<int64_t>(values.size()), x.data, 1);
}

// mean and rstd of the columns, and the step of the running statistics. The sums are of x - x[0], which is as near the
// mean as any element: sums of squares lose nothing to a large mean.
template <typename S>
void statistics(const BatchNormArgs& args) {
  using T = Compute<S>;
  const hn::ScalableTag<T> d;
  const int64_t rows = args.x.size(0), C = args.x.size(1);
  T *mean = args.mean.as<T>(), *rstd = args.rstd.as<T>();
  static thread_local std::vector<T> running_mean, running_var, origins;
  vector_or(running_mean, args.running_mean, T{0}, C);
  vector_or(running_var, args.running_var, T{1}, C);
  if (!args.training) {
    for (int64_t c = 0; c < C; ++c) {
      mean[c] = running_mean[static_cast<size_t>(c)];
      rstd[c] = T{1} / std::sqrt(running_var[static_cast<size_t>(c)] + static_cast<T>(args.eps));
    }
    return;
  }
  const S* const x = args.x.as<S>();
  origins.resize(static_cast<size_t>(C));
  convert_run(x, 1, origins.data(), 1, C);
  const T* const origin = origins.data();
  const double* sums =
      column_sums<T>(rows, C, [&](auto count, auto part, int64_t row, int64_t i, auto& sum, auto& squares) {
        const auto from = part.get(d, origin + i);
        for (int r = 0; r < count; ++r) {
          const auto distance = hn::Sub(part.get(d, x + (row + r) * C + i), from);
          sum = hn::Add(sum, distance);
          squares = hn::MulAdd(distance, distance, squares);
        }
      });
  const auto n = static_cast<double>(rows);
  for (int64_t c = 0; c < C; ++c) {
    const auto i = static_cast<size_t>(c);
    const double distance = sums[c] / n;
    const double variance = std::max(0.0, sums[C + c] / n - distance * distance);
    const double center = static_cast<double>(origin[c]) + distance;
    mean[c] = static_cast<T>(center);
    rstd[c] = static_cast<T>(1 / std::sqrt(variance + args.eps));
    const auto move = [&](T& running, double to) {
      running = static_cast<T>((1 - args.momentum) * static_cast<double>(running) + args.momentum * to);
    };
    move(running_mean[i], center);
    move(running_var[i], variance * n / (n - 1));
  }
  if (!args.running_mean) return;
  write_vector(running_mean, args.running_mean);
  write_vector(running_var, args.running_var);
}

template <typename S>
void forward(const BatchNormArgs& args) {
  using T = Compute<S>;
  const hn::ScalableTag<T> d;
  const int64_t rows = args.x.size(0), C = args.x.size(1);
  statistics<S>(args);
  static thread_local std::vector<T> scales, shifts;
  T* const scale = vector_or(scales, args.gamma, T{1}, C).data();
  const T* const shift = vector_or(shifts, args.beta, T{0}, C).data();
  const T* const mean = args.mean.as<T>();
  for (int64_t c = 0; c < C; ++c) scale[c] *= args.rstd.as<T>()[c];
  parallel_for(rows, grain(C), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const S* const x = args.x.as<S>() + row * C;
      const S* const residual = args.residual ? args.residual.as<S>() + row * C : nullptr;
      S* const y = args.y.as<S>() + row * C;
      for_vectors(d, C, [&](auto part, int64_t i) {
        const auto distance = hn::Sub(part.get(d, x + i), part.get(d, mean + i));
        auto out = hn::MulAdd(distance, part.get(d, scale + i), part.get(d, shift + i));
        if (residual != nullptr) out = hn::Add(out, part.get(d, residual + i));
        if (args.relu) out = hn::IfThenZeroElse(hn::Lt(out, hn::Zero(d)), out);  // NaN stays NaN
        part.put(d, out, y + i);
      });
    }
  });
}

// With n = (x - mean) rstd:  dbeta = sum(g), dgamma = sum(g n), and in training
// dx = gamma rstd (g - dbeta / rows - n dgamma / rows); with given statistics dx = gamma rstd g.
template <typename S>
void backward(const BatchNormBackwardArgs& args) {
  using T = Compute<S>;
  const hn::ScalableTag<T> d;
  const int64_t rows = args.x.size(0), C = args.x.size(1);
  const S *const x = args.x.as<S>(), *const dy = args.dy.as<S>();
  const S* const y = args.y ? args.y.as<S>() : nullptr;
  const T *const mean = args.mean.as<T>(), *const rstd = args.rstd.as<T>();
  const auto gradient = [&](auto part, int64_t at) {
    const auto g = part.get(d, dy + at);
    return y == nullptr ? g : hn::IfThenElseZero(hn::Gt(part.get(d, y + at), hn::Zero(d)), g);
  };
  const double* sums =
      column_sums<T>(rows, C, [&](auto count, auto part, int64_t row, int64_t i, auto& sum, auto& products) {
        const auto center = part.get(d, mean + i);
        for (int r = 0; r < count; ++r) {
          const int64_t at = (row + r) * C + i;
          const auto g = gradient(part, at);
          sum = hn::Add(sum, g);
          products = hn::MulAdd(g, hn::Sub(part.get(d, x + at), center), products);
        }
      });
  static thread_local std::vector<T> scales, shifts, slopes, dgammas, dbetas;
  T* const scale = vector_or(scales, args.gamma, T{1}, C).data();
  for (std::vector<T>* each : {&shifts, &slopes, &dgammas, &dbetas})
    each->assign(static_cast<size_t>(C), T{0});
  for (int64_t c = 0; c < C; ++c) {
    const auto i = static_cast<size_t>(c);
    const auto deviation = static_cast<double>(rstd[c]), n = static_cast<double>(rows);
    const double dbeta = sums[c], dgamma = sums[C + c] * deviation;
    dbetas[i] = static_cast<T>(dbeta);
    dgammas[i] = static_cast<T>(dgamma);
    const double weight = static_cast<double>(scale[c]) * deviation;
    scale[c] = static_cast<T>(weight);
    if (!args.training) continue;
    shifts[i] = static_cast<T>(weight * dbeta / n);
    slopes[i] = static_cast<T>(weight * deviation * dgamma / n);
  }
  if (args.dgamma) write_vector(dgammas, args.dgamma);
  if (args.dbeta) write_vector(dbetas, args.dbeta);
  const T *const shift = shifts.data(), *const slope = slopes.data();
  parallel_for(rows, grain(C), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      for_vectors(d, C, [&](auto part, int64_t i) {
        const int64_t at = row * C + i;
        const auto g = gradient(part, at);
        const auto distance = hn::Sub(part.get(d, x + at), part.get(d, mean + i));
        const auto straight = hn::MulSub(g, part.get(d, scale + i), part.get(d, shift + i));
        part.put(d, hn::NegMulAdd(distance, part.get(d, slope + i), straight), args.dx.as<S>() + at);
        if (args.dresidual) part.put(d, g, args.dresidual.as<S>() + at);
      });
    }
  });
}

void run_forward(const BatchNormArgs& args) {
  with_float_type(args.x.dtype, [&]<typename S>(S) { forward<S>(args); });
}

void run_backward(const BatchNormBackwardArgs& args) {
  with_float_type(args.x.dtype, [&]<typename S>(S) { backward<S>(args); });
}

}  // namespace
}  // namespace tenon::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tenon::cpu {

HWY_EXPORT(run_forward);
HWY_EXPORT(run_backward);

void batch_norm(const BatchNormArgs& args) {
  if (args.x.numel() > 0) HWY_DYNAMIC_DISPATCH(run_forward)(args);
}

void batch_norm_backward(const BatchNormBackwardArgs& args) { HWY_DYNAMIC_DISPATCH(run_backward)(args); }

}  // namespace tenon::cpu
#endif
