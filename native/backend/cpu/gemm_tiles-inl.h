// The GEMM's innermost loops, per instruction set: a block of out from a block of a and the packed b, tile by tile. Included after
// gemm_pack-inl.h, by gemm.cc alone.
#if defined(TENON_GEMM_TILES_H) == defined(HWY_TARGET_TOGGLE)
#ifdef TENON_GEMM_TILES_H
#undef TENON_GEMM_TILES_H
#else
#define TENON_GEMM_TILES_H
#endif

#include <algorithm>

#include "backend/cpu/prefetch.h"
#include "backend/divide.h"

HWY_BEFORE_NAMESPACE();
namespace tenon::cpu::HWY_NAMESPACE {
namespace {

// A tile asks for what comes next, and keeps the sums of its rows, in chunks of K.
constexpr int64_t kChunk = 384 / kTileRows;

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

// The rows of x one after the other, and rows of zeros up to a whole tile.
template <typename T>
void copy_rows(const Matrix& x, T* to) {
  for (int64_t i = 0; i < x.rows; ++i)
    read_line(x.dtype, x.block(i, 0, 1, x.columns).data, x.column, x.columns, to + i * x.columns);
  std::fill(to + x.rows * x.columns, to + round_up(x.rows, kTileRows) * x.columns, T{0});
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
  const bool in_rows = a_sums == nullptr;  // sums are made of columns
  if (in_rows && reads_rows<T>(a)) {
    if (rest.rows > 0) copy_rows(rest, panels);
    multiply_tiles(Rows<T>{from, a.row, m, panels, depth}, b, depth, terms, c, stride, m, n, a_sums, ahead);
  } else if (has_column_runs<T>(a)) {
    if (rest.rows > 0) pack<kTileRows>(rest, panels);
    multiply_tiles(Columns<T>{from, a.column, m, panels}, b, depth, terms, c, stride, m, n, a_sums, ahead);
  } else if (in_rows && a.column == 1 && !is_own<T>(a.dtype)) {
    copy_rows(a, panels);
    multiply_tiles(Rows<T>{panels, depth, round_up(m, kTileRows), nullptr, depth}, b, depth, terms, c, stride,
                   m, n, a_sums, ahead);
  } else {
    pack<kTileRows>(a, panels);
    multiply_tiles(Panels<T>{panels, depth}, b, depth, terms, c, stride, m, n, a_sums, ahead);
  }
}

}  // namespace
}  // namespace tenon::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // TENON_GEMM_TILES_H
