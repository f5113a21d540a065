// Layer normalisation (Ba, Kiros, Hinton, arXiv:1607.06450) over the last dimension, with the sum of a residual branch
// in front of it, and its backward pass.
//
// Both passes are bound by memory: forward reads x and writes y (and reads the residual and writes the sum), backward
// reads dy and s and writes dx. So a row is read from memory once. Rows of up to 1024 elements live in the registers of
// one warp, kPacks accesses of 16 bytes in each lane; longer rows, and those whose length or address 16 bytes do not
// divide, take a block, which reads them again from the cache.
//
// dgamma and dbeta are summed in two stages and without atomics: every block sums its rows, then a second kernel sums
// the blocks. The order is fixed by the shape and the number of multiprocessors.
#include <algorithm>

#include "backend/cuda/kernels.h"
#include "backend/cuda/rows.h"

namespace tenon::cuda {
namespace {

constexpr int kWarps = 4;  // rows that a block of row warps works on at once
constexpr int kWideThreads = 256;

// ---- rows in the registers of a warp -----------------------------------------------------------------------------

template <typename S, typename Y>
struct Forward {
  const S *x, *residual, *gamma, *beta;
  S* sum;
  Y* y;
  Compute<S>*mean, *rstd;
  int64_t rows;
  int columns;
  Compute<S> eps;
};

template <typename S, typename Y, int kPacks>
__global__ void __launch_bounds__(kWarps* kWarpSize) forward_in_registers(const Forward<S, Y> a) {
  using T = Compute<S>;
  using R = Row<S, kPacks>;
  const int64_t row = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarpSize;
  if (row >= a.rows) return;  // a whole warp
  const int64_t begin = row * a.columns;
  const T inverse = T(1) / T(a.columns);
  R x;
  x.load(a.x + begin, a.columns, T(0));
  if (a.residual != nullptr) {
    R residual;
    residual.load(a.residual + begin, a.columns, T(0));
#pragma unroll
    for (int i = 0; i < kPacks * R::kWidth; ++i) x.values[i] += residual.values[i];
    x.round();  // as the backward pass will see it
    x.store(a.sum + begin, a.columns);
  }
  T total = 0;
#pragma unroll
  for (int i = 0; i < kPacks * R::kWidth; ++i) total += x.values[i];
  const T mean = sum_over_warp(total) * inverse;
  T squares = 0;
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
#pragma unroll
    for (int i = 0; i < R::kWidth; ++i) {
      const T distance = R::at(p) < a.columns ? x.values[p * R::kWidth + i] - mean : T(0);
      squares += distance * distance;
    }
  }
  const T rstd = T(1) / sqrt(sum_over_warp(squares) * inverse + a.eps);
  R gamma, beta;
  gamma.load(a.gamma, a.columns, T(1));
  beta.load(a.beta, a.columns, T(0));
#pragma unroll
  for (int i = 0; i < kPacks * R::kWidth; ++i) {
    x.values[i] = (x.values[i] - mean) * rstd * gamma.values[i] + beta.values[i];
  }
  x.store(a.y + begin, a.columns);
  if (threadIdx.x % kWarpSize == 0) {
    a.mean[row] = mean;
    a.rstd[row] = rstd;
  }
}

template <typename S, typename Y>
struct Backward {
  const Y* dy;
  const S *s, *gamma, *dsum;
  const Compute<S>*mean, *rstd;
  S* dx;
  Compute<S>*
      partial;  // [grid, 2, columns]: the sums of dgamma and dbeta of each block's rows; null: not wanted
  int64_t rows;
  int columns;
};

// With n = (s - mean) rstd and g = dy gamma:  dx = rstd (g - mean(g) - n mean(g n)) + dsum.
template <typename S, typename Y, int kPacks>
__global__ void __launch_bounds__(kWarps* kWarpSize) backward_in_registers(const Backward<S, Y> a) {
  using T = Compute<S>;
  using R = Row<S, kPacks>;
  constexpr int kCount = kPacks * R::kWidth;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const T inverse = T(1) / T(a.columns);
  R gamma;
  gamma.load(a.gamma, a.columns, T(1));
  T gammas[kCount] = {}, betas[kCount] = {};
  for (int64_t row = int64_t{blockIdx.x} * kWarps + warp; row < a.rows; row += int64_t{gridDim.x} * kWarps) {
    const int64_t begin = row * a.columns;
    R dy, s;
    dy.load(a.dy + begin, a.columns, T(0));
    s.load(a.s + begin, a.columns, T(0));
    const T mean = a.mean[row], rstd = a.rstd[row];
    T sum_g = 0, sum_gn = 0;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {  // beyond the row dy is 0, and so is all that it multiplies
      const T normal = (s.values[i] - mean) * rstd, g = dy.values[i] * gamma.values[i];
      sum_g += g;
      sum_gn += g * normal;
      gammas[i] += dy.values[i] * normal;
      betas[i] += dy.values[i];
    }
    const T mean_g = sum_over_warp(sum_g) * inverse, mean_gn = sum_over_warp(sum_gn) * inverse;
    R dsum;
    dsum.load(a.dsum == nullptr ? nullptr : a.dsum + begin, a.columns, T(0));
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const T normal = (s.values[i] - mean) * rstd, g = dy.values[i] * gamma.values[i];
      dsum.values[i] += rstd * (g - mean_g - normal * mean_gn);
    }
    dsum.store(a.dx + begin, a.columns);
  }
  if (a.partial == nullptr) return;
  // Shared memory holds [kWarps, 2, columns].
  T* const shared = shared_memory<T>();
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    if (R::at(p) >= a.columns) continue;
#pragma unroll
    for (int i = 0; i < R::kWidth; ++i) {
      T* const own = shared + 2 * warp * a.columns + R::at(p) + i;
      own[0] = gammas[p * R::kWidth + i];
      own[a.columns] = betas[p * R::kWidth + i];
    }
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < 2 * a.columns; i += static_cast<int>(blockDim.x)) {
    T sum = 0;
    for (int w = 0; w < kWarps; ++w) sum += shared[2 * w * a.columns + i];
    a.partial[static_cast<int64_t>(blockIdx.x) * 2 * a.columns + i] = sum;
  }
}

// ---- rows of any length and alignment, a block each ----------------------------------------------------------------

template <typename S, typename Y>
__global__ void __launch_bounds__(kWideThreads) forward_wide(const Forward<S, Y> a, int64_t first_row) {
  using T = Compute<S>;
  T* const warps = shared_memory<T>();
  const int64_t row = first_row + blockIdx.x, begin = row * a.columns;
  const int first = static_cast<int>(threadIdx.x);
  const T inverse = T(1) / T(a.columns);
  const S* x = a.x + begin;
  if (a.residual != nullptr) {
    S* const sum = a.sum + begin;
    for (int i = first; i < a.columns; i += kWideThreads) {
      sum[i] = narrow<S>(widen(x[i]) + widen(a.residual[begin + i]));
    }
    x = sum;  // a thread reads below what it wrote itself
  }
  T total = 0;
  for (int i = first; i < a.columns; i += kWideThreads) total += widen(x[i]);
  const T mean = sum_over_block(total, warps) * inverse;
  T squares = 0;
  for (int i = first; i < a.columns; i += kWideThreads) {
    const T distance = widen(x[i]) - mean;
    squares += distance * distance;
  }
  const T rstd = T(1) / sqrt(sum_over_block(squares, warps) * inverse + a.eps);
  for (int i = first; i < a.columns; i += kWideThreads) {
    const T gamma = a.gamma == nullptr ? T(1) : T(widen(a.gamma[i]));
    const T beta = a.beta == nullptr ? T(0) : T(widen(a.beta[i]));
    a.y[begin + i] = narrow<Y>((widen(x[i]) - mean) * rstd * gamma + beta);
  }
  if (first == 0) {
    a.mean[row] = mean;
    a.rstd[row] = rstd;
  }
}

template <typename S, typename Y>
__global__ void __launch_bounds__(kWideThreads) backward_wide(const Backward<S, Y> a, int64_t first_row) {
  using T = Compute<S>;
  T* const warps = shared_memory<T>();
  const int64_t row = first_row + blockIdx.x, begin = row * a.columns;
  const int first = static_cast<int>(threadIdx.x);
  const T inverse = T(1) / T(a.columns);
  const T mean = a.mean[row], rstd = a.rstd[row];
  const auto gradient = [&](int i) {
    return widen(a.dy[begin + i]) * (a.gamma == nullptr ? T(1) : T(widen(a.gamma[i])));
  };
  const auto normal = [&](int i) { return (widen(a.s[begin + i]) - mean) * rstd; };
  T sum_g = 0, sum_gn = 0;
  for (int i = first; i < a.columns; i += kWideThreads) {
    sum_g += gradient(i);
    sum_gn += gradient(i) * normal(i);
  }
  const T mean_g = sum_over_block(sum_g, warps) * inverse, mean_gn = sum_over_block(sum_gn, warps) * inverse;
  for (int i = first; i < a.columns; i += kWideThreads) {
    const T direct = a.dsum == nullptr ? T(0) : T(widen(a.dsum[begin + i]));
    a.dx[begin + i] = narrow<S>(rstd * (gradient(i) - mean_g - normal(i) * mean_gn) + direct);
  }
}

// partial[block, :, column] of the rows that the block takes: a thread to a column.
template <typename S, typename Y>
__global__ void __launch_bounds__(kWideThreads) sum_columns(const Backward<S, Y> a) {
  using T = Compute<S>;
  const int column = static_cast<int>(blockIdx.x) * kWideThreads + static_cast<int>(threadIdx.x);
  if (column >= a.columns) return;
  T dgamma = 0, dbeta = 0;
  for (int64_t row = blockIdx.y; row < a.rows; row += gridDim.y) {
    const int64_t at = row * a.columns + column;
    const T dy = widen(a.dy[at]);
    dgamma += dy * ((widen(a.s[at]) - a.mean[row]) * a.rstd[row]);
    dbeta += dy;
  }
  T* const partial = a.partial + static_cast<int64_t>(blockIdx.y) * 2 * a.columns + column;
  partial[0] = dgamma;
  partial[a.columns] = dbeta;
}

// dgamma and dbeta from the sums of the blocks: a thread to a column of both.
template <typename S>
__global__ void __launch_bounds__(kWideThreads)
    sum_blocks(const Compute<S>* partial, int blocks, int columns, S* dgamma, S* dbeta) {
  using T = Compute<S>;
  const int64_t i = int64_t{blockIdx.x} * kWideThreads + threadIdx.x;
  if (i >= 2 * columns) return;
  T sum = 0;
  for (int block = 0; block < blocks; ++block) sum += partial[static_cast<int64_t>(block) * 2 * columns + i];
  S* const out = i < columns ? dgamma : dbeta;
  if (out != nullptr) out[i < columns ? i : i - columns] = narrow<S>(sum);
}

// ---- host side -----------------------------------------------------------------------------------------------------

constexpr size_t kWideShared = kWideThreads / kWarpSize * sizeof(double);

template <typename S, typename Y>
void forward(const LayerNormArgs& args, Queue& queue) {
  using T = Compute<S>;
  const int64_t rows = args.mean.numel();
  const int columns = to_int("layerNorm", "columns", args.x.size(-1));
  if (rows == 0 || columns == 0) return;
  const Forward<S, Y> a{args.x.as<S>(),    args.residual.as<S>(),   args.gamma.as<S>(),
                        args.beta.as<S>(), args.sum.as<S>(),        args.y.as<Y>(),
                        args.mean.as<T>(), args.rstd.as<T>(),       rows,
                        columns,           static_cast<T>(args.eps)};
  if constexpr (!std::is_same_v<S, double>) {
    if (fits_registers<S>(columns, {a.x, a.residual, a.gamma, a.beta, a.sum, a.y})) {
      with_packs<S>(columns, [&](auto packs) {
        launch(queue, "layerNorm", &forward_in_registers<S, Y, packs.value>, blocks_for(rows, kWarps),
               kWarps * kWarpSize, 0, a);
      });
      return;
    }
  }
  for_grids(rows, [&](int64_t first, int64_t blocks) {
    launch(queue, "layerNorm", &forward_wide<S, Y>, blocks, kWideThreads, kWideShared, a, first);
  });
}

template <typename S, typename Y>
void backward(const LayerNormBackwardArgs& args, Queue& queue) {
  using T = Compute<S>;
  const int64_t rows = args.mean.numel();
  const int columns = to_int("layerNormBackward", "columns", args.s.size(-1));
  if (columns == 0) return;
  Backward<S, Y> a{args.dy.as<Y>(),
                   args.s.as<S>(),
                   args.gamma.as<S>(),
                   args.dsum.as<S>(),
                   args.mean.as<T>(),
                   args.rstd.as<T>(),
                   args.dx.as<S>(),
                   nullptr,
                   rows,
                   columns};
  const bool wants_sums = args.dgamma || args.dbeta;
  // Two blocks for each multiprocessor, or as many as there are rows.
  const auto blocks =
      static_cast<int>(std::min<int64_t>(2 * queue.multiprocessors(), blocks_for(rows, kWarps)));
  if (wants_sums && blocks > 0) {
    const size_t bytes = static_cast<size_t>(blocks) * 2 * static_cast<size_t>(columns) * sizeof(T);
    a.partial = static_cast<T*>(queue.scratch(bytes));
  }
  const auto in_registers = [&] {
    if constexpr (!std::is_same_v<S, double>) {
      if (!fits_registers<S>(columns, {a.dy, a.s, a.gamma, a.dsum, a.dx})) return false;
      const size_t shared = wants_sums ? sizeof(T) * kWarps * 2 * static_cast<size_t>(columns) : 0;
      with_packs<S>(columns, [&](auto packs) {
        launch(queue, "layerNormBackward", &backward_in_registers<S, Y, packs.value>, blocks,
               kWarps * kWarpSize, shared, a);
      });
      return true;
    } else {
      return false;
    }
  };
  if (rows > 0 && !in_registers()) {
    for_grids(rows, [&](int64_t first, int64_t count) {
      launch(queue, "layerNormBackward", &backward_wide<S, Y>, count, kWideThreads, kWideShared, a, first);
    });
    if (wants_sums) {
      launch(queue, "layerNormBackward", &sum_columns<S, Y>,
             Blocks(blocks_for(columns, kWideThreads), blocks), kWideThreads, 0, a);
    }
  }
  if (wants_sums) {
    launch(queue, "layerNormBackward", &sum_blocks<S>, blocks_for(2 * columns, kWideThreads), kWideThreads, 0,
           a.partial, blocks, columns, args.dgamma.as<S>(), args.dbeta.as<S>());
  }
}

}  // namespace

void layer_norm(const LayerNormArgs& args, void* stream) {
  with_narrowed_type(args.x.dtype, args.y.dtype,
                     [&]<typename S, typename Y>(S, Y) { forward<S, Y>(args, queue_of(stream)); });
}

void layer_norm_backward(const LayerNormBackwardArgs& args, void* stream) {
  with_narrowed_type(args.s.dtype, args.dy.dtype,
                     [&]<typename S, typename Y>(S, Y) { backward<S, Y>(args, queue_of(stream)); });
}

}  // namespace tenon::cuda
