// Cross-entropy of logits with class indices or soft targets: the loss, and its gradient from the same exponentials.
// With p = softmax(x) and a target distribution t, which for a label is (1 - smoothing) one-hot + smoothing / K:
//   loss = sum_c -t[c] log p[c],   dloss/dx = p sum(t) - t.
//
// As in PyTorch, Mean over no rows at all (none given, or all ignored) is NaN; the gradients of ignored rows are zero.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/cross_entropy.cc"
#include "backend/cpu/rows.h"
//
#include <algorithm>
#include <string>
#include <vector>

#include "backend/cpu/kernels.h"
#include "backend/cpu/parallel.h"
#include "core/error.h"

HWY_BEFORE_NAMESPACE();
namespace tenon::cpu::HWY_NAMESPACE {
namespace {

int64_t label_at(const View& labels, int64_t row) {
  const int64_t i = row * labels.stride(0);
  return labels.dtype == DType::Int32 ? labels.as<int32_t>()[i] : labels.as<int64_t>()[i];
}

// How many rows count. Throws for the first label that is neither a class nor ignored.
int64_t count_rows(const CrossEntropyArgs& args) {
  const int64_t rows = args.logits.size(0), K = args.logits.size(1);
  if (!args.labels) return rows;
  int64_t counted = 0;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t label = label_at(args.labels, row);
    if (label == args.ignore_index) continue;
    if (label < 0 || label >= K) {
      throw TensorError(
          "crossEntropy", code::kIndex,
          "expected labels from 0 to " + std::to_string(K - 1) + ", got " + std::to_string(label));
    }
    ++counted;
  }
  return counted;
}

// What a row's loss is made of, before its gradient.
template <typename T>
struct RowSums {
  T shift;        // the largest logit
  T sum;          // of exp(x - shift)
  T shifted = 0;  // sum of x - shift, where smoothing needs it
};

template <typename S>
RowSums<Compute<S>> sums_of(const S* HWY_RESTRICT x, int64_t K, bool with_shifted) {
  using T = Compute<S>;
  const hn::ScalableTag<T> d;
  RowSums<T> out;
  out.shift = max_of_row(x, K);
  const auto shift = hn::Set(d, out.shift);
  const auto shifted = [&](auto part, int64_t i) { return hn::Sub(part.get(d, x + i), shift); };
  out.sum = sum_of_lanes(
      d, sum_vectors(d, K, [&](auto part, int64_t i) { return exp_negative(d, shifted(part, i)); }));
  if (with_shifted) out.shifted = sum_of_lanes(d, sum_vectors(d, K, shifted));
  return out;
}

// The loss of one row against (1 - smoothing) target + smoothing / K, where target is one-hot at `label` or, with
// `soft` given, that row of probabilities. dx, if given, becomes the gradient times `scale`.
template <typename S>
Compute<S> one_row(const S* HWY_RESTRICT x, int64_t label, const Compute<S>* HWY_RESTRICT soft, int64_t K,
                   Compute<S> smoothing, Compute<S> scale, S* HWY_RESTRICT dx) {
  using T = Compute<S>;
  const hn::ScalableTag<T> d;
  const RowSums<T> row = sums_of(x, K, smoothing != 0);
  const T log_sum = std::log(row.sum);
  const T uniform = smoothing / static_cast<T>(K);
  const T share = T{1} - smoothing;
  const auto shift = hn::Set(d, row.shift);

  // sum_c -t[c] log p[c] = log_sum sum(t) - sum_c t[c] (x[c] - shift)
  T mass = 1, match;
  if (soft == nullptr) {
    match = static_cast<T>(x[label]) - row.shift;
  } else {
    auto masses = hn::Zero(d), matches = hn::Zero(d);
    for_vectors(d, K, [&](auto part, int64_t i) {
      const auto t = part.get(d, soft + i);
      masses = hn::Add(masses, t);
      matches = hn::MulAdd(t, part.only(d, hn::Sub(part.get(d, x + i), shift)), matches);
    });
    mass = sum_of_lanes(d, masses);
    match = sum_of_lanes(d, matches);
  }
  T loss = share * (log_sum * mass - match);
  if (smoothing != 0) loss += smoothing * log_sum - uniform * row.shifted;
  if (dx == nullptr) return loss;

  const auto factor = hn::Set(d, scale * (share * mass + smoothing) / row.sum);
  const auto even = hn::Set(d, scale * uniform), weight = hn::Set(d, scale * share);
  for_vectors(d, K, [&](auto part, int64_t i) {
    auto g = hn::MulSub(exp_negative(d, hn::Sub(part.get(d, x + i), shift)), factor, even);
    if (soft != nullptr) g = hn::NegMulAdd(weight, part.get(d, soft + i), g);
    part.put(d, g, dx + i);
  });
  if (soft == nullptr) {  // anew from its parts: what is stored may be 16-bit
    const T p = std::exp(match) * (scale * (share * mass + smoothing) / row.sum);
    dx[label] = convert<S>(p - scale * uniform - scale * share);
  }
  return loss;
}

template <typename S>
void cross_entropy_of(const CrossEntropyArgs& args) {
  using T = Compute<S>;
  const int64_t rows = args.logits.size(0), K = args.logits.size(1);
  const int64_t counted = count_rows(args);
  const bool mean = args.reduction == Reduction::Mean;
  const T scale = mean ? T{1} / static_cast<T>(std::max<int64_t>(counted, 1)) : T{1};
  static thread_local std::vector<T> storage;
  storage.resize(static_cast<size_t>(rows));
  T* const losses = storage.data();
  parallel_for(rows, 2048 / (K + 1) + 1, [&](int64_t begin, int64_t end) {
    static thread_local std::vector<T> soft;
    for (int64_t row = begin; row < end; ++row) {
      const S* x = args.logits.as<S>() + row * K;
      S* dx = args.dlogits ? args.dlogits.as<S>() + row * K : nullptr;
      const int64_t label = args.labels ? label_at(args.labels, row) : 0;
      if (K == 0 || (args.labels && label == args.ignore_index)) {
        losses[row] = 0;
        if (dx != nullptr) std::fill(dx, dx + K, S{});
        continue;
      }
      const T* target = nullptr;
      if (args.targets) {
        const S* from = args.targets.as<S>() + row * args.targets.stride(0);
        if constexpr (std::is_same_v<S, T>) {
          if (args.targets.stride(1) == 1) target = from;
        }
        if (target == nullptr) {
          soft.resize(static_cast<size_t>(K));
          convert_run(from, args.targets.stride(1), soft.data(), 1, K);
          target = soft.data();
        }
      }
      losses[row] = one_row(x, label, target, K, static_cast<T>(args.smoothing), scale, dx);
    }
  });
  T* const loss = args.loss.as<T>();
  if (args.reduction == Reduction::None) {
    for (int64_t row = 0; row < rows; ++row) loss[row * args.loss.stride(0)] = losses[row];
    return;
  }
  double sum = 0;
  for (int64_t row = 0; row < rows; ++row) sum += static_cast<double>(losses[row]);
  *loss = static_cast<T>(mean ? sum / static_cast<double>(counted) : sum);
}

void run(const CrossEntropyArgs& args) {
  with_float_type(args.logits.dtype, [&]<typename S>(S) { cross_entropy_of<S>(args); });
}

}  // namespace
}  // namespace tenon::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tenon::cpu {

HWY_EXPORT(run);

void cross_entropy(const CrossEntropyArgs& args) { HWY_DYNAMIC_DISPATCH(run)(args); }

}  // namespace tenon::cpu
#endif
