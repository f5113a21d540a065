// A blocked GEMM after Goto and van de Geijn ("Anatomy of high-performance matrix multiplication", TOMS 2008): panels
// of a and b are packed (and converted to the accumulator's type) so that the innermost loop reads both in order, and
// a tile of out stays in registers over a block of K.
//
// Threads own rectangles of out and share nothing. Each element's sum runs over k in one fixed order.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/gemm.cc"
#include "backend/cpu/activation.h"
//
#include "backend/cpu/rows.h"
//
#include <omp.h>

#include <algorithm>
#include <cmath>

#include "backend/cpu/gemm.h"
#include "backend/cpu/parallel.h"
#include "hwy/aligned_allocator.h"

#ifndef TENON_GEMM_ONCE
#define TENON_GEMM_ONCE
namespace tenon::cpu {

// A block of an operand or of out: element (i, j) is data[i * row + j * column].
struct Matrix {
  char* data = nullptr;
  DType dtype = DType::Float32;
  int64_t rows = 0, columns = 0;
  int64_t row = 0, column = 0;

  Matrix block(int64_t i, int64_t j, int64_t m, int64_t n) const {
    return {data + (i * row + j * column) * static_cast<int64_t>(size_of(dtype)), dtype, m, n, row, column};
  }
};

// One rectangle of one product of the batch.
struct GemmTask {
  Matrix a, b, out;
  Matrix bias;      // [1, N] or absent
  Matrix residual;  // or absent
  Activation activation = Activation::None;
  bool accumulate = false;
};

// Scratch of one thread: it only grows, and stays for the next call.
struct GemmScratch {
  template <typename T>
  static T* reserve(hwy::AlignedFreeUniquePtr<char[]>& buffer, size_t& size, int64_t count) {
    const size_t bytes = static_cast<size_t>(count) * sizeof(T);
    if (size < bytes) {
      buffer = hwy::AllocateAligned<char>(bytes);
      if (!buffer) throw std::bad_alloc();
      size = bytes;
    }
    return reinterpret_cast<T*>(buffer.get());
  }
  hwy::AlignedFreeUniquePtr<char[]> a, b, c, line;
  size_t a_size = 0, b_size = 0, c_size = 0, line_size = 0;
};

}  // namespace tenon::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace tenon::cpu::HWY_NAMESPACE {
namespace {

// The register tile is kTileRows x 2 vectors: 24 accumulators where there are 32 registers, else 12 of 16.
constexpr int64_t kTileRows =
    HWY_TARGET <= HWY_AVX3 || (HWY_ARCH_ARM_A64 && HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128) ? 12
                                                                                                         : 6;

template <typename T>
constexpr int64_t tile_columns() {
  return 2 * static_cast<int64_t>(HWY_LANES(T));
}

// Blocks of out are kBlockRows x kBlockColumns; K is cut so that a tile's panels stay in the caches.
constexpr int64_t kBlockRows = 96;
constexpr int64_t kBlockColumns = 768;
constexpr int64_t kBlockDepth = 384;
static_assert(kBlockRows % kTileRows == 0);

constexpr int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// Packs x into panels of `width` rows: panel p holds x[p * width + w, k] at [k * width + w]; missing rows are zeros.
// b is packed through its transpose.
template <typename S, typename T>
void pack_as(const Matrix& x, int64_t width, T* HWY_RESTRICT to) {
  const S* const from = reinterpret_cast<const S*>(x.data);
  const int64_t panel = width * x.columns;
  const int64_t last = x.rows / width * width;
  if (last < x.rows) std::fill(to + last * x.columns, to + last * x.columns + panel, T{0});

  if (x.column == 1 &&
      x.row != 1) {  // k runs along memory: transpose, a chunk at a time that stays in the first cache
    constexpr int64_t kChunk = 64;
    for (int64_t first = 0; first < x.rows; first += width, to += panel) {
      for (int64_t k = 0; k < x.columns; k += kChunk) {
        const int64_t depth = std::min(kChunk, x.columns - k);
        T line[kChunk];
        for (int64_t w = 0; w < std::min(width, x.rows - first); ++w) {
          convert_run(from + (first + w) * x.row + k, 1, line, 1, depth);
          T* HWY_RESTRICT out = to + k * width + w;
          for (int64_t i = 0; i < depth; ++i) out[i * width] = line[i];
        }
      }
    }
    return;
  }
  for (int64_t k = 0; k < x.columns; ++k) {  // the rows of x run along memory: deal them out to the panels
    T line[std::max(kBlockRows, kBlockColumns)];
    convert_run(from + k * x.column, x.row, line, 1, x.rows);
    for (int64_t first = 0; first < x.rows; first += width) {
      std::copy_n(line + first, std::min(width, x.rows - first), to + first * x.columns + k * width);
    }
  }
}

template <typename T>
void pack(const Matrix& x, int64_t width, T* to) {
  with_float_type(x.dtype, [&]<typename S>(S) {
    if constexpr (std::is_same_v<Compute<S>, T>) pack_as<S>(x, width, to);
  });
}

// c[kTileRows, tile_columns] (+)= the product of two packed panels of depth `depth`.
template <typename T>
HWY_NOINLINE void multiply_tile(const T* HWY_RESTRICT a, const T* HWY_RESTRICT b, int64_t depth,
                                T* HWY_RESTRICT c, int64_t stride, bool add) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  constexpr int64_t lanes = HWY_LANES(T);
  V low[kTileRows], high[kTileRows];
#pragma GCC unroll 16
  for (int64_t i = 0; i < kTileRows; ++i) {
    low[i] = add ? hn::Load(d, c + i * stride) : hn::Zero(d);
    high[i] = add ? hn::Load(d, c + i * stride + lanes) : hn::Zero(d);
  }
  for (int64_t k = 0; k < depth; ++k, a += kTileRows, b += 2 * lanes) {
    const V b0 = hn::Load(d, b), b1 = hn::Load(d, b + lanes);
#pragma GCC unroll 16
    for (int64_t i = 0; i < kTileRows; ++i) {
      const V x = hn::Set(d, a[i]);
      low[i] = hn::MulAdd(x, b0, low[i]);
      high[i] = hn::MulAdd(x, b1, high[i]);
    }
  }
#pragma GCC unroll 16
  for (int64_t i = 0; i < kTileRows; ++i) {
    hn::Store(low[i], d, c + i * stride);
    hn::Store(high[i], d, c + i * stride + lanes);
  }
}

template <typename T>
void activate(Activation activation, T* x, int64_t n) {
  switch (activation) {
    case Activation::None:
      return;
    case Activation::Relu:
      return map_vectors(
          x, n, [](auto d, auto v) { return relu_at(d, v).value; }, x);
    case Activation::Gelu:
      return map_vectors(
          x, n, [](auto d, auto v) { return gelu_at(d, v).value; }, x);
    case Activation::GeluTanh:
      return map_vectors(
          x, n, [](auto d, auto v) { return gelu_tanh_at(d, v).value; }, x);
    case Activation::Silu:
      return map_vectors(
          x, n, [](auto d, auto v) { return silu_at(d, v).value; }, x);
  }
}

// One row of the epilogue: c holds a row of a b, and is scratch afterwards.
template <typename T>
void finish_row(const GemmTask& task, int64_t i, int64_t j, int64_t n, const T* HWY_RESTRICT bias,
                T* HWY_RESTRICT c, T* HWY_RESTRICT line) {
  if (bias != nullptr) {
    for (int64_t l = 0; l < n; ++l) c[l] += bias[l];
  }
  activate(task.activation, c, n);
  const auto add = [&](const Matrix& x) {
    read_line(x.dtype, x.block(i, j, 1, n).data, x.column, n, line);
    for (int64_t l = 0; l < n; ++l) c[l] += line[l];
  };
  if (task.residual.data != nullptr) add(task.residual);
  if (task.accumulate) add(task.out);
  write_line(task.out.dtype, c, n, task.out.block(i, j, 1, n).data, 1);
}

template <typename T>
void multiply(const GemmTask& task, GemmScratch& scratch) {
  constexpr int64_t tile_n = tile_columns<T>();
  const int64_t M = task.out.rows, N = task.out.columns, K = task.a.columns;
  const int64_t widest = round_up(std::min(N, kBlockColumns), tile_n);
  T* a_panels =
      GemmScratch::reserve<T>(scratch.a, scratch.a_size, round_up(std::min(M, kBlockRows), kTileRows) * K);
  T* b_panels = GemmScratch::reserve<T>(scratch.b, scratch.b_size, widest * K);
  T* c = GemmScratch::reserve<T>(scratch.c, scratch.c_size, kBlockRows * widest);
  T* line = GemmScratch::reserve<T>(scratch.line, scratch.line_size, 2 * widest);
  T* bias_line = line + widest;

  for (int64_t j0 = 0; j0 < N; j0 += kBlockColumns) {
    const int64_t n = std::min(kBlockColumns, N - j0);
    const Matrix b = task.b.block(0, j0, K, n);
    pack(Matrix{b.data, b.dtype, n, K, b.column, b.row}, tile_n, b_panels);
    const T* bias = nullptr;
    if (task.bias.data != nullptr) {
      read_line(task.bias.dtype, task.bias.block(0, j0, 1, n).data, task.bias.column, n, bias_line);
      bias = bias_line;
    }
    for (int64_t i0 = 0; i0 < M; i0 += kBlockRows) {
      const int64_t m = std::min(kBlockRows, M - i0);
      pack(task.a.block(i0, 0, m, K), kTileRows, a_panels);
      int64_t k0 = 0;
      do {  // once even when K is 0: it makes c zero
        const int64_t depth = std::min(kBlockDepth, K - k0);
        for (int64_t j = 0; j < n; j += tile_n) {
          for (int64_t i = 0; i < m; i += kTileRows) {
            multiply_tile(a_panels + i * K + k0 * kTileRows, b_panels + j * K + k0 * tile_n, depth,
                          c + i * widest + j, widest, k0 > 0);
          }
        }
        k0 += depth;
      } while (k0 < K);
      for (int64_t i = 0; i < m; ++i) finish_row(task, i0 + i, j0, n, bias, c + i * widest, line);
    }
  }
}

// HWY_EXPORT takes no templates.
void multiply_float(const GemmTask& task, GemmScratch& scratch) { multiply<float>(task, scratch); }
void multiply_double(const GemmTask& task, GemmScratch& scratch) { multiply<double>(task, scratch); }

}  // namespace
}  // namespace tenon::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tenon::cpu {

HWY_EXPORT(multiply_float);
HWY_EXPORT(multiply_double);

namespace {

Matrix matrix(const View& x, int64_t batch) {
  if (!x) return {};
  const int64_t offset = x.ndim() == 3 ? batch * x.stride(0) * static_cast<int64_t>(size_of(x.dtype)) : 0;
  return {x.as<char>() + offset, x.dtype, x.size(-2), x.size(-1), x.stride(-2), x.stride(-1)};
}

// Into how many row and column ranges the threads split one product: near-square rectangles pack the least.
struct Grid {
  int64_t rows = 1, columns = 1;
};

Grid split(int64_t m, int64_t n, int64_t threads) {
  constexpr int64_t kTile = 24;  // no rectangle is thinner than a register tile or so
  const int64_t tiles_m = (m + kTile - 1) / kTile, tiles_n = (n + kTile - 1) / kTile;
  Grid best;
  double best_cost = INFINITY;
  for (int64_t rows = 1; rows <= std::min(threads, tiles_m); ++rows) {
    const int64_t columns = std::min(threads / rows, tiles_n);
    const int64_t tall = (tiles_m + rows - 1) / rows, wide = (tiles_n + columns - 1) / columns;
    const double cost = static_cast<double>(tall * wide) + 0.1 * static_cast<double>(tall + wide);
    if (cost < best_cost) {
      best_cost = cost;
      best = {rows, columns};
    }
  }
  return best;
}

}  // namespace

void gemm(const MatmulArgs& args) {
  if (args.out.numel() == 0) return;
  const int64_t m = args.out.size(-2), n = args.out.size(-1), k = args.a.size(-1);
  const int64_t batch = args.out.ndim() == 3 ? args.out.size(0) : 1;
  const int64_t threads = omp_get_max_threads();
  constexpr int64_t kSmall = 1 << 15;  // multiplications for which waking a thread does not pay
  const int64_t useful = std::clamp<int64_t>(m * n * k / kSmall, 1, threads);
  const Grid grid = batch >= 4 * threads ? Grid{} : split(m, n, useful);
  const bool wide = args.a.dtype == DType::Float64;
  const int64_t tasks = batch * grid.rows * grid.columns;
  const int64_t grain = std::max<int64_t>(1, kSmall * tasks / std::max<int64_t>(1, batch * m * n * k));
  parallel_for(tasks, grain, [&](int64_t begin, int64_t end) {
    static thread_local GemmScratch scratch;
    for (int64_t t = begin; t < end; ++t) {
      const int64_t column = t % grid.columns, row = t / grid.columns % grid.rows;
      const int64_t index = t / (grid.columns * grid.rows);
      const int64_t i = m * row / grid.rows, rows = m * (row + 1) / grid.rows - i;
      const int64_t j = n * column / grid.columns, columns = n * (column + 1) / grid.columns - j;
      GemmTask task;
      task.a = matrix(args.a, index).block(i, 0, rows, k);
      task.b = matrix(args.b, index).block(0, j, k, columns);
      task.out = matrix(args.out, index).block(i, j, rows, columns);
      if (args.residual) task.residual = matrix(args.residual, index).block(i, j, rows, columns);
      if (args.bias) {
        const int64_t stride = args.bias.stride(0);
        task.bias = Matrix{args.bias.as<char>(), args.bias.dtype, 1, n, 0, stride}.block(0, j, 1, columns);
      }
      task.activation = args.activation;
      task.accumulate = args.accumulate;
      if (wide) {
        HWY_DYNAMIC_DISPATCH(multiply_double)(task, scratch);
      } else {
        HWY_DYNAMIC_DISPATCH(multiply_float)(task, scratch);
      }
    }
  });
}

}  // namespace tenon::cpu
#endif
