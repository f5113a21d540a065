// A blocked GEMM after Goto and van de Geijn ("Anatomy of high-performance matrix multiplication", TOMS 2008): a block of b
// is packed into panels that the innermost loop reads in order, and a tile of out stays in registers over a block of K.
// Rows and columns of a are read where they are; what is strided, or of another type than the sums, is packed too.
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
#include "backend/cpu/prefetch.h"
#include "backend/cpu/scratch.h"
#include "backend/divide.h"

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
  int64_t row = 0, column = 0;  // of the rectangle
  const FinishRow* finish = nullptr;
  double* a_sums = nullptr;  // of a's rows, added to; or null
};

struct GemmScratch {
  ScratchBuffer a, b, c, line;
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

// A panel of b of kBlockDepth stays in the first cache while it meets kBlockRows rows of a, which stay in the second, and
// so do those that come next.
constexpr int64_t kBlockRows = 96;
constexpr int64_t kBlockColumns = 1536;
constexpr int64_t kBlockDepth = 400;
static_assert(kBlockRows % kTileRows == 0);

// Of a block of b, what the second cache has room for beside those.
constexpr int64_t kAskedBytes = 160 << 10;

// A tile asks for what comes next, and keeps the sums of its rows, in chunks of K.
constexpr int64_t kChunk = 384 / kTileRows;

// Rows whose sums wait in scratch where out can't hold them.
constexpr int64_t kScratchRows = 8 * kBlockRows;

// to[k * width + w] = from[w * stride + k] for depth k and 4 w: 4 x 4 elements at a time.
HWY_INLINE void transpose_4_rows(const float* HWY_RESTRICT from, int64_t stride, int64_t width, int64_t depth,
                                 float* HWY_RESTRICT to) {
  int64_t k = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::FixedTag<float, 4> d;
  const hn::RepartitionToWide<decltype(d)> pairs;
  const auto wide = [pairs](auto v) { return hn::BitCast(pairs, v); };
  for (; k + 4 <= depth; k += 4) {
    const auto r0 = hn::LoadU(d, from + k), r1 = hn::LoadU(d, from + stride + k);
    const auto r2 = hn::LoadU(d, from + 2 * stride + k), r3 = hn::LoadU(d, from + 3 * stride + k);
    const auto low01 = wide(hn::InterleaveLower(d, r0, r1)), low23 = wide(hn::InterleaveLower(d, r2, r3));
    const auto high01 = wide(hn::InterleaveUpper(d, r0, r1)), high23 = wide(hn::InterleaveUpper(d, r2, r3));
    float* const out = to + k * width;
    hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, low01, low23)), d, out);
    hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, low01, low23)), d, out + width);
    hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, high01, high23)), d, out + 2 * width);
    hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, high01, high23)), d, out + 3 * width);
  }
#endif
  for (; k < depth; ++k) {
    for (int64_t w = 0; w < 4; ++w) to[k * width + w] = from[w * stride + k];
  }
}

// pack_as where k runs along memory, a chunk at a time that stays in the first cache.
template <typename S, int64_t kWidth, typename T>
void pack_transposed(const Matrix& x, T* HWY_RESTRICT to) {
  const S* const from = reinterpret_cast<const S*>(x.data);
  constexpr int64_t kRun = 64;
  for (int64_t first = 0; first < x.rows; first += kWidth, to += kWidth * x.columns) {
    const int64_t rows = std::min(kWidth, x.rows - first);
    for (int64_t k = 0; k < x.columns; k += kRun) {
      const int64_t depth = std::min(kRun, x.columns - k);
      int64_t w = 0;
      if constexpr (std::is_same_v<T, float>) {
        for (; w + 4 <= rows; w += 4) {
          const S* const chunk = from + (first + w) * x.row + k;
          if constexpr (std::is_same_v<S, float>) {
            transpose_4_rows(chunk, x.row, kWidth, depth, to + k * kWidth + w);
          } else {
            float lines[4 * kRun];
            for (int64_t r = 0; r < 4; ++r) convert_run(chunk + r * x.row, 1, lines + r * kRun, 1, depth);
            transpose_4_rows(lines, kRun, kWidth, depth, to + k * kWidth + w);
          }
        }
      }
      for (; w < rows; ++w) {
        T line[kRun];
        convert_run(from + (first + w) * x.row + k, 1, line, 1, depth);
        T* HWY_RESTRICT out = to + k * kWidth + w;
        for (int64_t i = 0; i < depth; ++i) out[i * kWidth] = line[i];
      }
    }
  }
}

// The widest vectors that a run of kWidth elements is whole ones of.
template <typename T, int64_t kWidth>
constexpr int64_t run_lanes() {
  constexpr auto all = static_cast<int64_t>(HWY_LANES(T));
  return kWidth % all == 0 ? all : kWidth % 4 == 0 && all >= 4 ? 4 : 2;
}

// to[i] = from[i] for i below kWidth, for which GCC would call memmove.
template <int64_t kWidth, typename T>
HWY_INLINE void copy_run(const T* HWY_RESTRICT from, T* HWY_RESTRICT to) {
  constexpr int64_t lanes = run_lanes<T, kWidth>();
  const hn::CappedTag<T, lanes> d;
#pragma GCC unroll 16
  for (int64_t i = 0; i < kWidth; i += lanes) hn::StoreU(hn::LoadU(d, from + i), d, to + i);
}

// The depth of K's blocks, which are even: a shallow last one would go through out for little.
int64_t block_depth(int64_t k) { return ceil_div(k, std::max<int64_t>(1, ceil_div(k, kBlockDepth))); }

// Packs x into panels of kWidth rows: panel p holds x[p * kWidth + w, k] at [k * kWidth + w]; missing rows are zeros.
// b is packed through its transpose.
template <typename S, int64_t kWidth, typename T>
void pack_as(const Matrix& x, T* HWY_RESTRICT to) {
  const S* const from = reinterpret_cast<const S*>(x.data);
  const int64_t panel = kWidth * x.columns;
  const int64_t last = x.rows / kWidth * kWidth;
  if (last < x.rows) std::fill(to + last * x.columns, to + last * x.columns + panel, T{0});

  if (x.column == 1 && x.row != 1) return pack_transposed<S, kWidth>(x, to);
  for (int64_t k = 0; k < x.columns; ++k) {  // the rows of x run along memory: deal them out to the panels
    const S* const row = from + k * x.column;
    T line[std::max(kBlockRows, kBlockColumns)];
    const T* all = line;
    if constexpr (std::is_same_v<S, T>) {
      if (x.row == 1) all = row;
    }
    if (all == line) convert_run(row, x.row, line, 1, x.rows);
    T* HWY_RESTRICT out = to + k * kWidth;
    for (int64_t first = 0; first < last; first += kWidth, out += panel) copy_run<kWidth>(all + first, out);
    for (int64_t i = last; i < x.rows; ++i) out[i - last] = all[i];
  }
}

template <int64_t kWidth, typename T>
void pack(const Matrix& x, T* to) {
  with_float_type(x.dtype, [&]<typename S>(S) {
    if constexpr (std::is_same_v<Compute<S>, T>) pack_as<S, kWidth>(x, to);
  });
}

// A tile's rows of a: kTileRows neighbours in memory for each k, as in a panel, or rows of memory. Those are reached from
// every third of them, so that the addresses fit x86's 16 registers.
template <typename T>
struct ColumnsTile {
  const T* a;
  int64_t step;
  HWY_INLINE T at(int64_t i, int64_t k) const { return a[k * step + i]; }
  HWY_INLINE const T* run(int64_t k) const { return a + k * step; }
};
template <typename T>
struct RowsTile {
  const T* thirds[kTileRows / 3];
  int64_t stride, twice;
  HWY_INLINE RowsTile(const T* row, int64_t s) : stride(s), twice(2 * s) {
    for (auto& third : thirds) {
      third = row;
      row += 3 * s;
    }
  }
  HWY_INLINE T at(int64_t i, int64_t k) const {
    const T* row = thirds[i / 3] + k;
    return i % 3 == 0 ? *row : i % 3 == 1 ? row[stride] : row[twice];
  }
};
static_assert(kTileRows % 3 == 0);

// The rows of a block of a, as panels or as they lie in memory. edge(i) is a tile that may reach beyond the last row: `last`
// holds the rows after the last whole tile, then. kHasSums: whether a tile's rows can be summed on the way, where they are
// neighbours.
template <typename T>
struct Panels {
  static constexpr bool kHasSums = true;
  const T* a;
  int64_t depth;
  HWY_INLINE ColumnsTile<T> tile(int64_t i) const { return {a + i * depth, kTileRows}; }
  ColumnsTile<T> edge(int64_t i) const { return tile(i); }
};
template <typename T>
struct Rows {
  static constexpr bool kHasSums = false;
  const T* a;
  int64_t stride, count;
  const T* last;  // as rows of `depth`
  int64_t depth;
  HWY_INLINE RowsTile<T> tile(int64_t i) const { return {a + i * stride, stride}; }
  RowsTile<T> edge(int64_t i) const { return i + kTileRows <= count ? tile(i) : RowsTile<T>(last, depth); }
};
template <typename T>
struct Columns {
  static constexpr bool kHasSums = true;
  const T* a;
  int64_t step, count;
  const T* last;  // as a panel
  HWY_INLINE ColumnsTile<T> tile(int64_t i) const { return {a + i, step}; }
  ColumnsTile<T> edge(int64_t i) const {
    return i + kTileRows <= count ? tile(i) : ColumnsTile<T>{last, kTileRows};
  }
};

// The blocks that come next, asked for while a block of out is computed: a few of their runs of memory with each of its
// tiles. A product of operands that lie in memory then takes hardly longer than one of operands in the cache: [25088, 96] x
// [96, 384] ran at 194 GFLOP/s without this and the same for out's tiles, and runs at 222; Zen 4, 2 threads, 225 possible.
class Ahead {
 public:
  explicit Ahead(int64_t tiles) : tiles_(tiles) {}
  void add(const Matrix& block) {
    if (tiles_ == 0 || (block.row != 1 && block.column != 1)) return;
    const bool in_rows = block.column == 1;
    const auto size = static_cast<int64_t>(size_of(block.dtype));
    const int64_t count = in_rows ? block.rows : block.columns;
    runs_[count_++] = {block.data, count, (in_rows ? block.row : block.column) * size,
                       (in_rows ? block.columns : block.rows) * size, ceil_div(count, tiles_)};
  }
  HWY_INLINE void ask() {
    for (int i = 0; i < count_; ++i) {
      Runs& runs = runs_[i];
      const int64_t share = std::min(runs.share, runs.left);
      for (int64_t r = 0; r < share; ++r, runs.at += runs.step) prefetch(runs.at, runs.bytes);
      runs.left -= share;
    }
  }

 private:
  struct Runs {
    const char* at = nullptr;
    int64_t left = 0, step = 0, bytes = 0, share = 0;
  };
  int64_t tiles_;
  int count_ = 0;
  Runs runs_[2];
};

// What a tile's sums get besides products: a line of biases, and a tile of terms. Either may be null.
template <typename T>
struct Terms {
  const T* bias = nullptr;
  const T* tile = nullptr;
  int64_t stride = 0;

  // Those of the block that begins at row i and column j.
  Terms at(int64_t i, int64_t j) const {
    return {bias == nullptr ? nullptr : bias + j, tile == nullptr ? nullptr : tile + i * stride + j, stride};
  }
};

// c[kTileRows, tile_columns] = the product of kTileRows rows of a and a panel of b, plus terms. With kSums, sums[i] += the sum
// of row i of a: a chunk of terms as T, those as float64.
template <bool kSums, typename T, typename A>
HWY_INLINE void multiply_tile(const A a, const T* HWY_RESTRICT b, int64_t depth, const Terms<T>& terms, T* c,
                              int64_t stride, [[maybe_unused]] double* sums, Ahead& ahead) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  constexpr int64_t lanes = HWY_LANES(T), run = run_lanes<T, kTileRows>();
  const hn::CappedTag<T, run> part;
  V low[kTileRows], high[kTileRows];
#pragma GCC unroll 16
  for (int64_t i = 0; i < kTileRows; ++i) low[i] = high[i] = hn::Zero(d);
  const int64_t share = 1 + (kTileRows - 1) * kChunk / (depth + 1);
  int64_t next = kTileRows;  // a row of the next tile
  for (int64_t k = 0; k < depth;) {
    ahead.ask();
    for (const int64_t stop = std::min(2 * kTileRows, next + share); next < stop; ++next) {
      prefetch(c + next * stride, 2 * lanes * sizeof(T));
      if (terms.tile != nullptr) prefetch(terms.tile + next * terms.stride, 2 * lanes * sizeof(T));
    }
    [[maybe_unused]] hn::Vec<decltype(part)> chunk[kTileRows / run];
    if constexpr (kSums) {
      for (auto& sum : chunk) sum = hn::Zero(part);
    }
    const int64_t end = std::min(depth, k + kChunk);
#pragma GCC unroll 2
    for (; k < end; ++k, b += 2 * lanes) {
      const V b0 = hn::Load(d, b), b1 = hn::Load(d, b + lanes);
#pragma GCC unroll 16
      for (int64_t i = 0; i < kTileRows; ++i) {
        const V x = hn::Set(d, a.at(i, k));
        low[i] = hn::MulAdd(x, b0, low[i]);
        high[i] = hn::MulAdd(x, b1, high[i]);
      }
      if constexpr (kSums) {
#pragma GCC unroll 16
        for (int64_t i = 0; i < kTileRows; i += run)
          chunk[i / run] = hn::Add(chunk[i / run], hn::LoadU(part, a.run(k) + i));
      }
    }
    if constexpr (kSums) {
      HWY_ALIGN T some[kTileRows];
      for (int64_t i = 0; i < kTileRows; i += run) hn::StoreU(chunk[i / run], part, some + i);
      for (int64_t i = 0; i < kTileRows; ++i) sums[i] += static_cast<double>(some[i]);
    }
  }
  if (terms.bias != nullptr) {
    const V b0 = hn::LoadU(d, terms.bias), b1 = hn::LoadU(d, terms.bias + lanes);
#pragma GCC unroll 16
    for (int64_t i = 0; i < kTileRows; ++i) {
      low[i] = hn::Add(low[i], b0);
      high[i] = hn::Add(high[i], b1);
    }
  }
  if (terms.tile != nullptr) {
#pragma GCC unroll 16
    for (int64_t i = 0; i < kTileRows; ++i) {
      low[i] = hn::Add(low[i], hn::LoadU(d, terms.tile + i * terms.stride));
      high[i] = hn::Add(high[i], hn::LoadU(d, terms.tile + i * terms.stride + lanes));
    }
  }
#pragma GCC unroll 16
  for (int64_t i = 0; i < kTileRows; ++i) {
    hn::StoreU(low[i], d, c + i * stride);
    hn::StoreU(high[i], d, c + i * stride + lanes);
  }
}

// The tiles of `rows` rows of a, a multiple of kTileRows, with one panel of b, which stays in the first cache.
template <bool kSums, typename T, typename A>
HWY_NOINLINE void multiply_panel(const A& a, int64_t rows, const T* HWY_RESTRICT b, int64_t depth,
                                 const Terms<T>& terms, T* c, int64_t stride, double* sums, Ahead& ahead) {
  for (int64_t i = 0; i < rows; i += kTileRows, c += kTileRows * stride)
    multiply_tile<kSums>(a.tile(i), b, depth, terms.at(i, 0), c, stride, kSums ? sums + i : nullptr, ahead);
}

// The same for a tile at the edge, of which only `rows` x `columns` elements are there.
template <bool kSums, typename T, typename A>
HWY_NOINLINE void multiply_edge(const A a, const T* HWY_RESTRICT b, int64_t depth, const Terms<T>& terms,
                                T* c, int64_t stride, int64_t rows, int64_t columns, double* sums) {
  constexpr int64_t tile_n = tile_columns<T>();
  HWY_ALIGN T tile[kTileRows * tile_n];
  double all_sums[kTileRows] = {};
  Ahead none(0);
  multiply_tile<kSums>(a, b, depth, Terms<T>{}, tile, tile_n, all_sums, none);
  for (int64_t i = 0; i < rows; ++i) {
    if (kSums) sums[i] += all_sums[i];
    for (int64_t j = 0; j < columns; ++j) {
      T sum = tile[i * tile_n + j];
      if (terms.bias != nullptr) sum += terms.bias[j];
      if (terms.tile != nullptr) sum += terms.tile[i * terms.stride + j];
      c[i * stride + j] = sum;
    }
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
          x, n, [](auto d, auto v) { return gelu_of_product_at(d, v).value; }, x);
    case Activation::GeluTanh:
      return map_vectors(
          x, n, [](auto d, auto v) { return gelu_tanh_at(d, v).value; }, x);
    case Activation::Silu:
      return map_vectors(
          x, n, [](auto d, auto v) { return silu_at(d, v).value; }, x);
  }
}

// One row of what follows the product: c holds a row of sums, and is scratch afterwards unless it is out's own.
template <typename T>
void finish_row(const GemmTask& task, int64_t i, int64_t j, int64_t n, const T* HWY_RESTRICT bias, T* c,
                T* HWY_RESTRICT line) {
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

// Whether x's rows are runs of T; whether its columns are.
template <typename T>
bool has_runs(const Matrix& x) {
  return is_own<T>(x.dtype) && x.column == 1;
}
template <typename T>
bool has_column_runs(const Matrix& x) {
  return is_own<T>(x.dtype) && x.row == 1;
}

// Whether the tiles read x's rows where they are. Rows whole pages apart fall on each other in the first cache.
template <typename T>
bool reads_rows(const Matrix& x) {
  constexpr int64_t kPage = 4096 / sizeof(T);
  return has_runs<T>(x) && (x.rows == 1 || x.row % kPage != 0);
}

// The rows of x one after the other, and rows of zeros up to a tile's.
template <typename T>
void copy_rows(const Matrix& x, T* to) {
  const T* from = reinterpret_cast<const T*>(x.data);
  for (int64_t i = 0; i < x.rows; ++i) std::copy_n(from + i * x.row, x.columns, to + i * x.columns);
  std::fill(to + x.rows * x.columns, to + kTileRows * x.columns, T{0});
}

// Whether sums can grow where they belong: out holds them exactly, and what it held is not wanted after the product.
template <typename T>
bool grows_in_place(const GemmTask& task) {
  if (!has_runs<T>(task.out)) return false;
  if (task.activation != Activation::None) return !task.accumulate && task.residual.data != task.out.data;
  return task.residual.data == nullptr || (!task.accumulate && has_runs<T>(task.residual));
}

// What a block's sums get besides its products over the first block of K.
template <typename T>
Terms<T> first_terms(const GemmTask& task, int64_t i, int64_t j, const T* bias) {
  const auto tile_of = [&](const Matrix& x) {
    return Terms<T>{bias, reinterpret_cast<const T*>(x.block(i, j, 1, 1).data), x.row};
  };
  if (task.accumulate) return tile_of(task.out);
  if (task.residual.data != nullptr && task.activation == Activation::None) return tile_of(task.residual);
  return {bias, nullptr, 0};
}

// c[m, n] = a b + terms, tile by tile; b is packed. a_sums, unless null, gets what the rows of a sum to.
template <typename T, typename A>
void multiply_tiles(const A& a, const T* b, int64_t depth, const Terms<T>& terms, T* c, int64_t stride,
                    int64_t m, int64_t n, double* a_sums, Ahead& ahead) {
  constexpr int64_t tile_n = tile_columns<T>();
  for (int64_t j = 0; j < n; j += tile_n) {
    const int64_t columns = std::min(tile_n, n - j), whole = columns < tile_n ? 0 : m / kTileRows * kTileRows;
    const auto multiply = [&]<bool kSums>(std::bool_constant<kSums>) {
      multiply_panel<kSums>(a, whole, b + j * depth, depth, terms.at(0, j), c + j, stride, a_sums, ahead);
      for (int64_t i = whole; i < m; i += kTileRows) {
        multiply_edge<kSums>(a.edge(i), b + j * depth, depth, terms.at(i, j), c + i * stride + j, stride,
                             std::min(kTileRows, m - i), columns, kSums ? a_sums + i : nullptr);
      }
    };
    if (A::kHasSums && a_sums != nullptr && j == 0) {
      multiply(std::bool_constant<A::kHasSums>());
    } else {
      multiply(std::false_type());
    }
  }
}

// The same for a block of a as it lies; `panels` is scratch for what has to be packed of it.
template <typename T>
void multiply_block(const Matrix& a, T* panels, const T* b, const Terms<T>& terms, T* c, int64_t stride,
                    int64_t n, double* a_sums, Ahead& ahead) {
  const int64_t m = a.rows, depth = a.columns, whole = m / kTileRows * kTileRows;
  const Matrix rest = a.block(whole, 0, m - whole, depth);
  const T* const from = reinterpret_cast<const T*>(a.data);
  if (reads_rows<T>(a)) {
    if (rest.rows > 0) copy_rows(rest, panels);
    multiply_tiles(Rows<T>{from, a.row, m, panels, depth}, b, depth, terms, c, stride, m, n, a_sums, ahead);
  } else if (has_column_runs<T>(a)) {
    if (rest.rows > 0) pack<kTileRows>(rest, panels);
    multiply_tiles(Columns<T>{from, a.column, m, panels}, b, depth, terms, c, stride, m, n, a_sums, ahead);
  } else {
    pack<kTileRows>(a, panels);
    multiply_tiles(Panels<T>{panels, depth}, b, depth, terms, c, stride, m, n, a_sums, ahead);
  }
}

template <typename T>
void multiply(const GemmTask& task, GemmScratch& scratch) {
  constexpr int64_t tile_n = tile_columns<T>();
  const int64_t M = task.out.rows, N = task.out.columns, K = task.a.columns;
  const int64_t widest = round_up(std::min(N, kBlockColumns), tile_n), deepest = block_depth(K);
  const bool in_place = grows_in_place<T>(task);
  const bool finishes = !in_place || task.activation != Activation::None;
  const int64_t most_rows = in_place ? M : std::min(M, kScratchRows);
  T* const a_panels = scratch.a.reserve<T>(kBlockRows * deepest);
  T* const b_panels = scratch.b.reserve<T>(widest * deepest);
  T* const c = in_place ? nullptr : scratch.c.reserve<T>(most_rows * widest);
  T* const line = scratch.line.reserve<T>(2 * widest);
  T* const bias_line = line + widest;

  for (int64_t top = 0; top < M; top += most_rows) {
    for (int64_t j0 = 0; j0 < N; j0 += kBlockColumns) {
      const int64_t n = std::min(kBlockColumns, N - j0), bottom = std::min(M, top + most_rows);
      const T* bias = nullptr;
      if (task.bias.data != nullptr) {
        read_line(task.bias.dtype, task.bias.block(0, j0, 1, n).data, task.bias.column, n, bias_line);
        bias = bias_line;
      }
      int64_t k0 = 0;
      do {  // once even when K is 0: it makes sums of nothing
        const int64_t depth = std::min(deepest, K - k0);
        const Matrix b = task.b.block(k0, j0, depth, n);
        pack<tile_n>(Matrix{b.data, b.dtype, n, depth, b.column, b.row}, b_panels);
        for (int64_t i0 = top; i0 < bottom; i0 += kBlockRows) {
          const int64_t m = std::min(kBlockRows, bottom - i0);
          const Matrix a = task.a.block(i0, k0, m, depth), out = task.out.block(i0, j0, m, n);
          T* const sums = in_place ? reinterpret_cast<T*>(out.data) : c + (i0 - top) * widest;
          const int64_t stride = in_place ? out.row : widest;
          Terms<T> terms;
          if (k0 > 0) {
            terms = {nullptr, sums, stride};
          } else if (in_place) {
            terms = first_terms(task, i0, j0, bias);
          }
          Ahead ahead(m / kTileRows * (n / tile_n) * ceil_div(depth, kChunk));
          if (i0 + m < bottom) {
            ahead.add(task.a.block(i0 + m, k0, std::min(kBlockRows, bottom - i0 - m), depth));
          } else if (k0 + depth < K) {
            const int64_t next = k0 + depth, next_depth = std::min(deepest, K - next);
            ahead.add(task.a.block(top, next, std::min(kBlockRows, bottom - top), next_depth));
            if (n * next_depth * static_cast<int64_t>(sizeof(T)) <= kAskedBytes)
              ahead.add(task.b.block(next, j0, next_depth, n));
          }
          double* const a_sums = task.a_sums == nullptr || j0 > 0 ? nullptr : task.a_sums + i0;
          multiply_block(a, a_panels, b_panels, terms, sums, stride, n, a_sums, ahead);
          if (k0 + depth < K) continue;
          for (int64_t i = 0; i < m && finishes; ++i) {
            finish_row(task, i0 + i, j0, n, in_place ? nullptr : bias, sums + i * stride, line);
          }
          for (int64_t i = 0; i < m && task.finish != nullptr; ++i)
            (*task.finish)(task.row + i0 + i, task.column + j0, n);
        }
        k0 += depth;
      } while (k0 < K);
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

// Into how many row and column ranges the threads split one product. Besides its sums, a rectangle costs its rows of a,
// which are read, and twice as much its columns of b, which are packed.
struct Grid {
  int64_t rows = 1, columns = 1;
};

// Rectangles are whole register tiles, or two: multiples of every target's.
constexpr int64_t kGridRows = 24, kGridColumns = kWidestPanel;

Grid split(int64_t m, int64_t n, int64_t threads) {
  const int64_t tiles_m = ceil_div(m, kGridRows), tiles_n = ceil_div(n, kGridColumns);
  Grid best;
  double best_cost = INFINITY;
  for (int64_t rows = 1; rows <= std::min(threads, tiles_m); ++rows) {
    const int64_t columns = std::min(threads / rows, tiles_n);
    const int64_t tall = ceil_div(tiles_m, rows), wide = ceil_div(tiles_n, columns);
    const double cost = static_cast<double>(tall * wide) + 0.1 * static_cast<double>(tall + 2 * wide);
    if (cost < best_cost) {
      best_cost = cost;
      best = {rows, columns};
    }
  }
  return best;
}

// Where the part `index` of `parts` begins, of n rows or columns in whole tiles.
int64_t place(int64_t n, int64_t tile, int64_t index, int64_t parts) {
  return std::min(n, ceil_div(n, tile) * index / parts * tile);
}

}  // namespace

void gemm(const MatmulArgs& args, const FinishRow& finish) {
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
  static thread_local ScratchBuffer sums_memory;
  double* const a_sums = args.a_sums ? sums_memory.reserve<double>(m) : nullptr;
  if (a_sums != nullptr) std::fill_n(a_sums, m, 0.0);
  parallel_for(tasks, grain, [&](int64_t begin, int64_t end) {
    static thread_local GemmScratch scratch;
    for (int64_t t = begin; t < end; ++t) {
      const int64_t column = t % grid.columns, row = t / grid.columns % grid.rows;
      const int64_t index = t / (grid.columns * grid.rows);
      const int64_t i = place(m, kGridRows, row, grid.rows);
      const int64_t rows = place(m, kGridRows, row + 1, grid.rows) - i;
      const int64_t j = place(n, kGridColumns, column, grid.columns);
      const int64_t columns = place(n, kGridColumns, column + 1, grid.columns) - j;
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
      task.row = i;
      task.column = j;
      if (finish) task.finish = &finish;
      if (a_sums != nullptr && column == 0) task.a_sums = a_sums + i;
      if (wide) {
        HWY_DYNAMIC_DISPATCH(multiply_double)(task, scratch);
      } else {
        HWY_DYNAMIC_DISPATCH(multiply_float)(task, scratch);
      }
    }
  });
  if (a_sums == nullptr) return;
  with_float_type(args.a_sums.dtype, [&]<typename S>(S) {
    for (int64_t i = 0; i < m; ++i) args.a_sums.as<S>()[i * args.a_sums.stride(0)] = convert<S>(a_sums[i]);
  });
}

}  // namespace tenon::cpu
#endif
