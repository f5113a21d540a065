// Batch normalisation (Ioffe and Szegedy, arXiv:1502.03167) of the columns of [rows, C], with the sum of a residual branch
// and ReLU behind it, and its backward pass.
//
// Bound by memory: the forward reads x twice, the backward dy, x and y twice. The sums of the columns take two stages
// and no atomics. A block sums a strip of 32 columns over a share of the rows: each row of its threads reads 32
// neighbours. A thread for each column then joins the blocks' sums in float64, in their order: it is fixed by the shape
// and the number of multiprocessors.
#include <algorithm>

#include "backend/cuda/elementwise.h"
#include "backend/cuda/kernels.h"

namespace tenon::cuda {
namespace {

constexpr int kStrip = kWarpSize;  // columns of a block
constexpr int kLanes = 8;          // rows that it reads at once

// A parameter or a statistic, absent or of a dtype of its own, as double.
struct Vector {
  void* data = nullptr;
  DType dtype = DType::Float32;

  explicit Vector(const View& view) : data(view.data), dtype(view.dtype) {}

  __device__ __forceinline__ double at(int64_t c, double absent) const {
    if (data == nullptr) return absent;
    switch (dtype) {
      case DType::Float64:
        return static_cast<const double*>(data)[c];
      case DType::BFloat16:
        return widen(static_cast<const bfloat16*>(data)[c]);
      case DType::Float16:
        return widen(static_cast<const float16*>(data)[c]);
      default:
        return static_cast<const float*>(data)[c];
    }
  }
  __device__ __forceinline__ void put(int64_t c, double value) const {
    if (data == nullptr) return;
    switch (dtype) {
      case DType::Float64:
        static_cast<double*>(data)[c] = value;
        return;
      case DType::BFloat16:
        static_cast<bfloat16*>(data)[c] = narrow<bfloat16>(static_cast<float>(value));
        return;
      case DType::Float16:
        static_cast<float16*>(data)[c] = narrow<float16>(static_cast<float>(value));
        return;
      default:
        static_cast<float*>(data)[c] = static_cast<float>(value);
    }
  }
};

// Two sums for each column over a share of the rows: partial [shares, 2, C].
template <typename T>
struct Partial {
  T* sums;
  int shares;
  int64_t rows, C;
};

// term(row, c, first, second) adds a row's terms. A block is kStrip x kLanes threads.
template <typename T, typename Term>
__device__ __forceinline__ void sum_columns(const Partial<T>& p, Term&& term) {
  T* const shared = shared_memory<T>();  // [2, kLanes, kStrip]
  const int column = static_cast<int>(threadIdx.x), lane = static_cast<int>(threadIdx.y);
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kStrip + column;
  const int share = static_cast<int>(blockIdx.y);
  const int64_t end = p.rows * (share + 1) / p.shares;
  T first = 0, second = 0;
  if (c < p.C) {
    for (int64_t row = p.rows * share / p.shares + lane; row < end; row += kLanes)
      term(row, c, first, second);
  }
  shared[lane * kStrip + column] = first;
  shared[(kLanes + lane) * kStrip + column] = second;
  __syncthreads();
  if (lane > 1 || c >= p.C) return;
  T total = 0;
  for (int i = 0; i < kLanes; ++i) total += shared[(lane * kLanes + i) * kStrip + column];
  p.sums[(static_cast<int64_t>(share) * 2 + lane) * p.C + c] = total;
}

template <typename T>
__device__ __forceinline__ double total_of(const Partial<T>& p, int which, int64_t c) {
  double total = 0;
  for (int share = 0; share < p.shares; ++share) {
    total += static_cast<double>(p.sums[(static_cast<int64_t>(share) * 2 + which) * p.C + c]);
  }
  return total;
}

template <typename S>
struct Forward {
  const S *x, *residual;
  S* y;
  Compute<S>*mean, *rstd;
  Vector gamma, beta, running_mean, running_var;
  Partial<Compute<S>> partial;
  int64_t count;  // of elements
  double eps, momentum;
  bool training, relu;
};

// Of x - x[0], which is as near the mean as any element: sums of squares lose nothing to a large mean.
template <typename S>
__global__ void __launch_bounds__(kStrip* kLanes) sum_forward(const Forward<S> a) {
  sum_columns(a.partial, [&](int64_t row, int64_t c, Compute<S>& sum, Compute<S>& squares) {
    const Compute<S> distance = widen(a.x[row * a.partial.C + c]) - widen(a.x[c]);
    sum += distance;
    squares += distance * distance;
  });
}

template <typename S>
__global__ void __launch_bounds__(kThreads) finish_statistics(const Forward<S> a) {
  using T = Compute<S>;
  const auto n = static_cast<double>(a.partial.rows);
  for (int64_t c = thread_of_grid(); c < a.partial.C; c += threads_of_grid()) {
    double mean = a.running_mean.at(c, 0), variance = a.running_var.at(c, 1);
    if (a.training) {
      const double old_mean = mean, old_var = variance, distance = total_of(a.partial, 0, c) / n;
      mean = static_cast<double>(widen(a.x[c])) + distance;
      variance = std::fmax(0.0, total_of(a.partial, 1, c) / n - distance * distance);
      a.running_mean.put(c, (1 - a.momentum) * old_mean + a.momentum * mean);
      a.running_var.put(c, (1 - a.momentum) * old_var + a.momentum * variance * n / (n - 1));
    }
    a.mean[c] = static_cast<T>(mean);
    a.rstd[c] = static_cast<T>(1 / sqrt(variance + a.eps));
  }
}

template <typename S>
__global__ void __launch_bounds__(kThreads) normalise(const Forward<S> a) {
  using T = Compute<S>;
  for (int64_t i = thread_of_grid(); i < a.count; i += threads_of_grid()) {
    const int64_t c = i % a.partial.C;
    const T scale = a.rstd[c] * static_cast<T>(a.gamma.at(c, 1));
    T y = (widen(a.x[i]) - a.mean[c]) * scale + static_cast<T>(a.beta.at(c, 0));
    if (a.residual != nullptr) y += widen(a.residual[i]);
    if (a.relu && y < T(0)) y = 0;  // NaN stays NaN
    a.y[i] = narrow<S>(y);
  }
}

template <typename S>
struct Backward {
  const S *dy, *x, *y;
  S *dx, *dresidual;
  const Compute<S>*mean, *rstd;
  Vector gamma, dgamma, dbeta;
  Partial<Compute<S>> partial;
  Compute<S>* factors;  // [3, C]: scale, shift and slope
  int64_t count;
  bool training;

  __device__ __forceinline__ Compute<S> gradient(int64_t i) const {
    return y == nullptr || widen(y[i]) > Compute<S>(0) ? widen(dy[i]) : Compute<S>(0);
  }
};

template <typename S>
__global__ void __launch_bounds__(kStrip* kLanes) sum_backward(const Backward<S> a) {
  sum_columns(a.partial, [&](int64_t row, int64_t c, Compute<S>& sum, Compute<S>& products) {
    const int64_t i = row * a.partial.C + c;
    const Compute<S> g = a.gradient(i);
    sum += g;
    products += g * (widen(a.x[i]) - a.mean[c]);
  });
}

// dx = gamma rstd (g - dbeta / rows - n dgamma / rows) = scale g - shift - slope (x - mean)
template <typename S>
__global__ void __launch_bounds__(kThreads) finish_gradients(const Backward<S> a) {
  using T = Compute<S>;
  const int64_t C = a.partial.C;
  const double n = a.training ? static_cast<double>(a.partial.rows) : HUGE_VAL;
  for (int64_t c = thread_of_grid(); c < C; c += threads_of_grid()) {
    const double rstd = a.rstd[c], weight = a.gamma.at(c, 1) * rstd;
    const double dbeta = total_of(a.partial, 0, c), dgamma = total_of(a.partial, 1, c) * rstd;
    a.dbeta.put(c, dbeta);
    a.dgamma.put(c, dgamma);
    a.factors[c] = static_cast<T>(weight);
    a.factors[C + c] = static_cast<T>(weight * dbeta / n);
    a.factors[2 * C + c] = static_cast<T>(weight * rstd * dgamma / n);
  }
}

template <typename S>
__global__ void __launch_bounds__(kThreads) differentiate(const Backward<S> a) {
  const int64_t C = a.partial.C;
  for (int64_t i = thread_of_grid(); i < a.count; i += threads_of_grid()) {
    const int64_t c = i % C;
    const Compute<S> g = a.gradient(i);
    const Compute<S> straight = g * a.factors[c] - a.factors[C + c];
    a.dx[i] = narrow<S>(straight - (widen(a.x[i]) - a.mean[c]) * a.factors[2 * C + c]);
    if (a.dresidual != nullptr) a.dresidual[i] = narrow<S>(g);
  }
}

// Enough blocks to fill the device, each with rows for its trouble.
int shares_for(const Queue& queue, int64_t rows, int64_t C) {
  const int64_t strips = blocks_for(C, kStrip), wanted = 8 * queue.multiprocessors() / strips + 1;
  return static_cast<int>(std::clamp<int64_t>(rows / (4 * kLanes), 1, wanted));
}

template <typename T>
void launch_sums(Queue& queue, const char* op, auto kernel, const Partial<T>& p, const auto& args) {
  launch(queue, op, kernel, Blocks(blocks_for(p.C, kStrip), p.shares), dim3(kStrip, kLanes),
         2 * kStrip * kLanes * sizeof(T), args);
}

}  // namespace

void batch_norm(const BatchNormArgs& args, void* stream) {
  if (args.x.numel() == 0) return;
  Queue& queue = queue_of(stream);
  const int64_t rows = args.x.size(0), C = args.x.size(1);
  with_float_type(args.x.dtype, [&]<typename S>(S) {
    using T = Compute<S>;
    const int shares = shares_for(queue, rows, C);
    T* const sums = static_cast<T*>(queue.scratch(static_cast<size_t>(2 * shares * C) * sizeof(T)));
    const Forward<S> a{args.x.as<const S>(),
                       args.residual.as<const S>(),
                       args.y.as<S>(),
                       args.mean.as<T>(),
                       args.rstd.as<T>(),
                       Vector(args.gamma),
                       Vector(args.beta),
                       Vector(args.running_mean),
                       Vector(args.running_var),
                       {sums, shares, rows, C},
                       args.x.numel(),
                       args.eps,
                       args.momentum,
                       args.training,
                       args.relu};
    if (args.training) launch_sums(queue, "batchNorm", &sum_forward<S>, a.partial, a);
    launch_over(queue, "batchNorm", &finish_statistics<S>, C, a);
    launch_over(queue, "batchNorm", &normalise<S>, a.count, a);
  });
}

void batch_norm_backward(const BatchNormBackwardArgs& args, void* stream) {
  Queue& queue = queue_of(stream);
  const int64_t rows = args.x.size(0), C = args.x.size(1);
  if (C == 0) return;
  with_float_type(args.x.dtype, [&]<typename S>(S) {
    using T = Compute<S>;
    const int shares = shares_for(queue, rows, C);
    const auto numbers = static_cast<size_t>((2 * shares + 3) * C);
    T* const sums = static_cast<T*>(queue.scratch(numbers * sizeof(T)));
    const Backward<S> a{args.dy.as<const S>(),   args.x.as<const S>(),
                        args.y.as<const S>(),    args.dx.as<S>(),
                        args.dresidual.as<S>(),  args.mean.as<const T>(),
                        args.rstd.as<const T>(), Vector(args.gamma),
                        Vector(args.dgamma),     Vector(args.dbeta),
                        {sums, shares, rows, C}, sums + 2 * shares * C,
                        args.x.numel(),          args.training};
    launch_sums(queue, "batchNormBackward", &sum_backward<S>, a.partial, a);
    launch_over(queue, "batchNormBackward", &finish_gradients<S>, C, a);
    launch_over(queue, "batchNormBackward", &differentiate<S>, a.count, a);
  });
}

}  // namespace tenon::cuda
