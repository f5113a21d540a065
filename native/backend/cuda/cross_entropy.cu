// Cross-entropy of logits with class indices or soft targets, and its gradient from the same exponentials. With
// p = softmax(x) and a target distribution t, which for a label is (1 - smoothing) one-hot + smoothing / K:
//   loss = sum_c -t[c] log p[c],   dloss/dx = p sum(t) - t.
//
// Bound by memory: logits (and soft targets) are read once and dlogits written once. Rows of up to 1024 aligned classes
// live in the registers of a warp (rows.h); others take a block each, which reads them again from the cache.
//
// Losses are summed in two stages without atomics: each row's goes to memory, then one block adds them up in float64. A
// first kernel counts the rows that Mean divides by, as their gradients need it.
//
// As in PyTorch, Mean over no rows at all (none given, or all ignored) is NaN; the gradients of ignored rows are zero.
// A label that is neither a class nor ignored is reported, and gives NaN in its row.
#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/cuda/data_error.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/rows.h"

namespace tenon::cuda {
namespace {

constexpr const char* kOp = "crossEntropy";
constexpr int kWarps = 4;  // rows that a block of row warps works on at once
constexpr int kWideThreads = 256;

struct Labels {
  const void* data;  // or null
  int64_t stride;
  int64_t ignore_index;
  bool is_int32;
  __device__ int64_t operator[](int64_t row) const {
    return is_int32 ? static_cast<const int32_t*>(data)[row * stride]
                    : static_cast<const int64_t*>(data)[row * stride];
  }
};

template <typename S>
struct Problem {
  const S* logits;
  Labels labels;
  const S* targets;  // or null
  int64_t target_strides[2];
  Compute<S>* losses;  // of the rows
  int64_t loss_stride;
  S* dlogits;              // or null
  const int64_t* counted;  // what gradients are divided by; null: by 1
  int64_t rows;
  int K;
  Compute<S> smoothing;
  IndexCheck labels_check;
};

// What a row's loss is made of.
template <typename T>
struct Sums {
  T sum = 0;      // of exp(x - shift), shift being the largest logit
  T shifted = 0;  // of x - shift
  T mass = 0;     // of the target
  T match = 0;    // of target (x - shift)
  __device__ __forceinline__ void add(T from_shift, T exponential, T target, bool skips_zeros) {
    sum += exponential;
    shifted += from_shift;
    if (skips_zeros && target == 0) return;  // times infinity, too
    mass += target;
    match += target * from_shift;
  }
};

template <typename S>
struct RowOfProblem {
  using T = Compute<S>;
  int64_t label = -1;
  bool ignored = false, invalid = false;
  T share, smoothing, uniform;  // of the target, of all classes, of each

  __device__ __forceinline__ RowOfProblem(const Problem<S>& a, int64_t row)
      : share(1 - a.smoothing), smoothing(a.smoothing), uniform(a.smoothing / T(a.K)) {
    if (a.labels.data == nullptr) return;
    label = a.labels[row];
    ignored = label == a.labels.ignore_index;
    invalid = !ignored && !a.labels_check(label);
  }
  __device__ __forceinline__ T loss(const Sums<T>& s) const {
    if (ignored) return 0;
    if (invalid) return std::numeric_limits<T>::quiet_NaN();
    const T log_sum = std::log(s.sum), own = share * (log_sum * s.mass - s.match);
    return smoothing == 0 ? own : own + (smoothing * log_sum - uniform * s.shifted);
  }
  __device__ __forceinline__ T gradient(T exponential, T target, const Sums<T>& s, T scale) const {
    if (ignored) return 0;
    if (invalid) return std::numeric_limits<T>::quiet_NaN();
    return scale * ((share * s.mass + smoothing) / s.sum * exponential - uniform - share * target);
  }
};

template <typename S>
__device__ __forceinline__ Compute<S> gradient_scale(const Problem<S>& a) {
  return a.counted == nullptr || *a.counted == 0 ? Compute<S>(1) : 1 / Compute<S>(*a.counted);
}

template <typename S, int kPacks>
__global__ void __launch_bounds__(kWarps* kWarpSize) rows_in_registers(const Problem<S> a) {
  using T = Compute<S>;
  using R = Row<S, kPacks>;
  constexpr int kCount = kPacks * R::kWidth;
  constexpr T kLeast = -std::numeric_limits<T>::infinity();
  const int64_t row = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarpSize;
  if (row >= a.rows) return;  // a whole warp
  const RowOfProblem<S> problem(a, row);
  const int64_t begin = row * a.K;
  R x, target;
  x.load(a.logits + begin, a.K, kLeast);
  target.load(a.targets == nullptr ? nullptr : a.targets + row * a.target_strides[0], a.K, T(0));
  T largest = kLeast;
#pragma unroll
  for (int i = 0; i < kCount; ++i) largest = std::fmax(largest, x.values[i]);
  const T shift = max_over_warp(largest);
  Sums<T> sums;
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
#pragma unroll
    for (int j = 0; j < R::kWidth; ++j) {
      const int i = p * R::kWidth + j;
      const bool inside = R::at(p) < a.K;
      if (R::at(p) + j == problem.label) target.values[i] = 1;
      const T from_shift = inside ? x.values[i] - shift : T(0);
      x.values[i] = inside ? std::exp(from_shift) : T(0);
      sums.add(from_shift, x.values[i], target.values[i], a.targets == nullptr);
    }
  }
  sums = {sum_over_warp(sums.sum), sum_over_warp(sums.shifted), sum_over_warp(sums.mass),
          sum_over_warp(sums.match)};
  if (threadIdx.x % kWarpSize == 0) a.losses[row * a.loss_stride] = problem.loss(sums);
  if (a.dlogits == nullptr) return;
  const T scale = gradient_scale(a);
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    x.values[i] = problem.gradient(x.values[i], target.values[i], sums, scale);
  }
  x.store(a.dlogits + begin, a.K);
}

template <typename S>
__global__ void __launch_bounds__(kWideThreads) rows_wide(const Problem<S> a) {
  using T = Compute<S>;
  T* const warps = shared_memory<T>();
  const auto row = static_cast<int64_t>(blockIdx.x);
  const RowOfProblem<S> problem(a, row);
  const auto x = [&](int i) { return widen(a.logits[row * a.K + i]); };
  const auto target = [&](int i) -> T {
    if (a.targets == nullptr) return i == problem.label ? 1 : 0;
    return widen(a.targets[row * a.target_strides[0] + i * a.target_strides[1]]);
  };
  const auto first = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  T largest = -std::numeric_limits<T>::infinity();
  for (int i = first; i < a.K; i += threads) largest = std::fmax(largest, x(i));
  const T shift = max_over_block(largest, warps);
  Sums<T> sums;
  for (int i = first; i < a.K; i += threads)
    sums.add(x(i) - shift, std::exp(x(i) - shift), target(i), a.targets == nullptr);
  sums.sum = sum_over_block(sums.sum, warps);
  sums.shifted = sum_over_block(sums.shifted, warps);
  sums.mass = sum_over_block(sums.mass, warps);
  sums.match = sum_over_block(sums.match, warps);
  if (first == 0) a.losses[row * a.loss_stride] = a.K == 0 ? T(0) : problem.loss(sums);
  if (a.dlogits == nullptr) return;
  const T scale = gradient_scale(a);
  for (int i = first; i < a.K; i += threads) {
    a.dlogits[row * a.K + i] = narrow<S>(problem.gradient(std::exp(x(i) - shift), target(i), sums, scale));
  }
}

// How many rows count.
__global__ void __launch_bounds__(kWideThreads) count_rows(Labels labels, int64_t rows, int64_t* counted) {
  auto* const warps = shared_memory<int64_t>();
  int64_t count = 0;
  for (int64_t row = threadIdx.x; row < rows; row += blockDim.x) {
    if (labels[row] != labels.ignore_index) ++count;
  }
  count = sum_over_block(count, warps);
  if (threadIdx.x == 0) *counted = count;
}

// The sum of the rows' losses, over the rows that count where `mean` says so.
template <typename T>
__global__ void __launch_bounds__(kWideThreads)
    sum_losses(const T* losses, int64_t rows, const int64_t* counted, bool mean, T* loss) {
  auto* const warps = shared_memory<double>();
  double sum = 0;
  for (int64_t row = threadIdx.x; row < rows; row += blockDim.x) {
    sum += static_cast<double>(losses[row]);
  }
  sum = sum_over_block(sum, warps);
  if (threadIdx.x == 0) *loss = static_cast<T>(mean ? sum / static_cast<double>(*counted) : sum);
}

__global__ void set_count(int64_t* counted, int64_t count) { *counted = count; }

// Its rows from `first` on.
template <typename S>
Problem<S> rest_of(Problem<S> a, int64_t first) {
  a.logits += first * a.K;
  if (a.labels.data != nullptr) {
    const int64_t bytes = a.labels.is_int32 ? sizeof(int32_t) : sizeof(int64_t);
    a.labels.data = static_cast<const char*>(a.labels.data) + first * a.labels.stride * bytes;
  }
  if (a.targets != nullptr) a.targets += first * a.target_strides[0];
  a.losses += first * a.loss_stride;
  if (a.dlogits != nullptr) a.dlogits += first * a.K;
  a.rows -= first;
  return a;
}

template <typename S>
void run(const CrossEntropyArgs& args, Queue& queue) {
  using T = Compute<S>;
  const int64_t rows = args.logits.size(0);
  const int K = to_int(kOp, "classes", args.logits.size(1));
  Problem<S> a{};
  a.logits = args.logits.as<S>();
  if (args.labels) {
    a.labels = {args.labels.data, args.labels.stride(0), args.ignore_index,
                args.labels.dtype == DType::Int32};
  }
  if (args.targets) {
    a.targets = args.targets.as<S>();
    std::copy_n(args.targets.strides.begin(), 2, a.target_strides);
  }
  a.dlogits = args.dlogits.as<S>();
  a.rows = rows;
  a.K = K;
  a.smoothing = static_cast<T>(args.smoothing);
  a.labels_check = {kOp, K, queue.data_error(), "labels"};
  const bool keeps_rows = args.reduction == Reduction::None, mean = args.reduction == Reduction::Mean;
  if (keeps_rows) {
    a.losses = args.loss.as<T>();
    a.loss_stride = args.loss.stride(0);
  }
  int64_t* counted = nullptr;
  if (!keeps_rows) {  // the count, then the rows' losses
    counted = static_cast<int64_t*>(queue.scratch(sizeof(int64_t) + static_cast<size_t>(rows) * sizeof(T)));
    a.losses = reinterpret_cast<T*>(counted + 1);
    a.loss_stride = 1;
  }
  constexpr size_t kShared = kWideThreads / kWarpSize * sizeof(double);
  if (mean) {
    if (args.labels) {
      launch(queue, kOp, &count_rows, 1, kWideThreads, kShared, a.labels, rows, counted);
    } else {
      launch(queue, kOp, &set_count, 1, 1, 0, counted, rows);
    }
    a.counted = counted;
  }
  const auto in_registers = [&] {
    if constexpr (std::is_same_v<S, double>) {
      return false;
    } else {
      if (K == 0 || !fits_registers<S>(K, {a.logits, a.targets, a.dlogits})) return false;
      if (args.targets && (args.targets.stride(1) != 1 || args.targets.stride(0) % kFullWidth<S> != 0)) {
        return false;
      }
      with_packs<S>(K, [&](auto packs) {
        launch(queue, kOp, &rows_in_registers<S, packs.value>, blocks_for(rows, kWarps), kWarps * kWarpSize,
               0, a);
      });
      return true;
    }
  };
  if (rows > 0 && !in_registers()) {
    const auto warps =
        static_cast<int>(std::clamp<int64_t>(blocks_for(K, kWarpSize), 1, kWideThreads / kWarpSize));
    for_grids(rows, [&](int64_t first, int64_t blocks) {
      launch(queue, kOp, &rows_wide<S>, blocks, warps * kWarpSize, static_cast<size_t>(warps) * sizeof(T),
             rest_of(a, first));
    });
  }
  if (!keeps_rows) {
    launch(queue, kOp, &sum_losses<T>, 1, kWideThreads, kShared, a.losses, rows, counted, mean,
           args.loss.as<T>());
  }
}

}  // namespace

void cross_entropy(const CrossEntropyArgs& args, void* stream) {
  with_float_type(args.logits.dtype, [&]<typename S>(S) { run<S>(args, queue_of(stream)); });
}

}  // namespace tenon::cuda
