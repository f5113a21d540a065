// Packing and products of attention's blocks, per instruction set. Included after simd.h.
#if defined(TENON_ATTENTION_TILES_H) == defined(HWY_TARGET_TOGGLE)
#ifdef TENON_ATTENTION_TILES_H
#undef TENON_ATTENTION_TILES_H
#else
#define TENON_ATTENTION_TILES_H
#endif

#include "backend/cpu/attention.h"

HWY_BEFORE_NAMESPACE();
namespace tenon::cpu::HWY_NAMESPACE {

// ---- packing -----------------------------------------------------------------------------------------------------

template <class D>
HWY_INLINE hn::Vec<D> load_f32(D d, const double* p) {
  return hn::LoadU(d, p);
}

template <class D, class V>
HWY_INLINE void store_f32(D d, V v, double* p) {
  hn::StoreU(v, d, p);
}

// Calls f with a null pointer of the type that holds `dtype`; T is the type we compute in.
template <typename T, typename F>
HWY_INLINE void with_storage_type(DType dtype, F&& f) {
  if constexpr (sizeof(T) == sizeof(double)) {
    f(static_cast<double*>(nullptr));
  } else if (dtype == DType::BFloat16) {
    f(static_cast<bfloat16*>(nullptr));
  } else if (dtype == DType::Float16) {
    f(static_cast<float16*>(nullptr));
  } else {
    f(static_cast<float*>(nullptr));
  }
}

// to[i] = scale * x[first + i], rows padded with zeros to whole vectors, and zero rows up to `padded`. Rows: HeadRows, or
// another that says where row i is.
template <typename T, typename Rows>
void pack_rows(const Rows& x, int64_t first, int64_t count, int64_t padded, int64_t columns, T scale,
               T* HWY_RESTRICT to, int64_t stride) {
  const hn::ScalableTag<T> d;
  constexpr int64_t lanes = HWY_LANES(T);
  with_storage_type<T>(x.dtype, [&]<typename S>(S*) {
    const auto factor = hn::Set(d, scale);
    for (int64_t i = 0; i < count; ++i) {
      const S* from = x.template row<const S>(first + i);
      T* row = to + i * stride;
      int64_t j = 0;
      for (; j + lanes <= columns; j += lanes) hn::Store(hn::Mul(load_f32(d, from + j), factor), d, row + j);
      for (; j < columns; ++j) row[j] = static_cast<T>(from[j]) * scale;
      for (; j < round_up(columns, lanes); ++j) row[j] = T{0};
    }
  });
  std::fill(to + count * stride, to + padded * stride, T{0});
}

// x[first + i] = factor * from[i]; factor may differ from row to row.
template <typename T, typename Rows, typename Factor>
void unpack_rows(const Rows& x, int64_t first, int64_t count, int64_t columns, Factor&& factor,
                 const T* HWY_RESTRICT from, int64_t stride) {
  const hn::ScalableTag<T> d;
  constexpr int64_t lanes = HWY_LANES(T);
  with_storage_type<T>(x.dtype, [&]<typename S>(S*) {
    for (int64_t i = 0; i < count; ++i) {
      const T* row = from + i * stride;
      S* to = x.template row<S>(first + i);
      const T scale = factor(i);
      const auto scales = hn::Set(d, scale);
      int64_t j = 0;
      for (; j + lanes <= columns; j += lanes) store_f32(d, hn::Mul(hn::Load(d, row + j), scales), to + j);
      for (; j < columns; ++j) to[j] = static_cast<S>(row[j] * scale);
    }
  });
}

#if HWY_TARGET == HWY_SCALAR  // a vector has one lane

template <typename T>
HWY_INLINE void transpose_square(const T* HWY_RESTRICT from, int64_t, T* HWY_RESTRICT to, int64_t) {
  *to = *from;
}

#else

// The 128-bit blocks of the vectors v[0], v[step], v[2 step], ... as a square matrix, transposed.
template <class D, class V>
HWY_INLINE void transpose_blocks(D d, V* v, int64_t step) {
  constexpr int64_t blocks = HWY_LANES(hn::TFromD<D>) * sizeof(hn::TFromD<D>) / 16;
  if constexpr (blocks == 2) {
    const V a = v[0], b = v[step];
    v[0] = hn::ConcatLowerLower(d, b, a);
    v[step] = hn::ConcatUpperUpper(d, b, a);
  } else if constexpr (blocks == 4) {
    const V ac0 = hn::ConcatLowerLower(d, v[2 * step], v[0]);
    const V ac1 = hn::ConcatUpperUpper(d, v[2 * step], v[0]);
    const V bd0 = hn::ConcatLowerLower(d, v[3 * step], v[step]);
    const V bd1 = hn::ConcatUpperUpper(d, v[3 * step], v[step]);
    v[0] = hn::OddEvenBlocks(hn::SwapAdjacentBlocks(bd0), ac0);
    v[step] = hn::OddEvenBlocks(bd0, hn::SwapAdjacentBlocks(ac0));
    v[2 * step] = hn::OddEvenBlocks(hn::SwapAdjacentBlocks(bd1), ac1);
    v[3 * step] = hn::OddEvenBlocks(bd1, hn::SwapAdjacentBlocks(ac1));
  }
}

// One square of as many rows as a vector has lanes.
template <typename T>
HWY_INLINE void transpose_square(const T* HWY_RESTRICT from, int64_t from_stride, T* HWY_RESTRICT to,
                                 int64_t to_stride) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  constexpr int64_t lanes = HWY_LANES(T);
  constexpr int64_t side = 16 / sizeof(T);  // of the squares inside 128-bit blocks
  V v[lanes];
#pragma GCC unroll 16
  for (int64_t i = 0; i < lanes; ++i) v[i] = hn::Load(d, from + i * from_stride);
    // First each block against its neighbours in `side` rows, then whole blocks.
#pragma GCC unroll 4
  for (int64_t i = 0; i < lanes; i += side) {
    if constexpr (side == 2) {
      const V a = v[i], b = v[i + 1];
      v[i] = hn::InterleaveLower(d, a, b);
      v[i + 1] = hn::InterleaveUpper(d, a, b);
    } else {
      const hn::Repartition<uint64_t, decltype(d)> d64;
      const auto a = hn::BitCast(d64, hn::InterleaveLower(d, v[i], v[i + 1]));
      const auto b = hn::BitCast(d64, hn::InterleaveLower(d, v[i + 2], v[i + 3]));
      const auto c = hn::BitCast(d64, hn::InterleaveUpper(d, v[i], v[i + 1]));
      const auto e = hn::BitCast(d64, hn::InterleaveUpper(d, v[i + 2], v[i + 3]));
      v[i] = hn::BitCast(d, hn::InterleaveLower(d64, a, b));
      v[i + 1] = hn::BitCast(d, hn::InterleaveUpper(d64, a, b));
      v[i + 2] = hn::BitCast(d, hn::InterleaveLower(d64, c, e));
      v[i + 3] = hn::BitCast(d, hn::InterleaveUpper(d64, c, e));
    }
  }
#pragma GCC unroll 4
  for (int64_t i = 0; i < side; ++i) transpose_blocks(d, v + i, side);
    // v[i + side * m] is now column (i + side * m).
#pragma GCC unroll 16
  for (int64_t i = 0; i < lanes; ++i) hn::Store(v[i], d, to + i * to_stride);
}

#endif

// to[j][i] = from[i][j]; rows and columns are padded to whole vectors on both sides.
template <typename T>
void transpose(const T* HWY_RESTRICT from, int64_t from_stride, int64_t rows, int64_t columns,
               T* HWY_RESTRICT to, int64_t to_stride) {
  constexpr int64_t lanes = HWY_LANES(T);
  for (int64_t i = 0; i < rows; i += lanes) {
    for (int64_t j = 0; j < columns; j += lanes) {
      transpose_square(from + i * from_stride + j, from_stride, to + j * to_stride + i, to_stride);
    }
  }
}

// ---- products ----------------------------------------------------------------------------------------------------

// c = a b over `depth`, or start + a b. The lanes run along the rows of b and c; elements of a are broadcast.
template <typename T>
struct Product {
  const T* a;
  int64_t a_stride;
  const T* b;
  int64_t b_stride;
  T* c;
  int64_t c_stride;
  int64_t depth;
  const T* start = c;  // rows as far apart as c's
};

// What is done with an element (or a pair of them) of a, one of b and a sum.
struct MultiplyAdd {
  template <class V>
  static HWY_INLINE V add(V left, V right, V sum) {
    return hn::MulAdd(left, right, sum);
  }
};

enum class Left { Plain, Transposed };  // a[i][k] or a[k][i]
enum class Sum { Set, Add };

// Accumulators that fit the registers beside a row of b and a broadcast element.
constexpr int kAccumulators =
    HWY_TARGET <= HWY_AVX3 || (HWY_ARCH_ARM_A64 && HWY_TARGET != HWY_EMU128 && HWY_TARGET != HWY_SCALAR) ? 24
                                                                                                         : 12;
constexpr int tile_rows(int vectors) { return std::min(12, kAccumulators / vectors); }

// D: the tag of the tile's vectors.
template <class D, class Math, Left kLeft, Sum kSum, int kRows, int kVectors, typename T>
HWY_INLINE void multiply_tile(const Product<T>& p, int64_t i0, int64_t j0) {
  const D d;
  using V = hn::Vec<D>;
  constexpr int64_t lanes = hn::MaxLanes(D());
  const int64_t row = kLeft == Left::Plain ? p.a_stride : 1, step = kLeft == Left::Plain ? 1 : p.a_stride;
  const T* HWY_RESTRICT a = p.a + i0 * row;
  const T* HWY_RESTRICT b = p.b + j0;
  const T* start = p.start + i0 * p.c_stride + j0;
  T* c = p.c + i0 * p.c_stride + j0;
  V sum[kRows][kVectors];
#pragma GCC unroll 12
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) {
      sum[i][j] = kSum == Sum::Add ? hn::Load(d, start + i * p.c_stride + j * lanes) : hn::Zero(d);
    }
  }
  for (int64_t k = 0; k < p.depth; ++k, a += step, b += p.b_stride) {
    V right[kVectors];
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) right[j] = hn::Load(d, b + j * lanes);
#pragma GCC unroll 12
    for (int i = 0; i < kRows; ++i) {
      const V left = hn::Set(d, a[i * row]);
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) sum[i][j] = Math::add(left, right[j], sum[i][j]);
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) hn::Store(sum[i][j], d, c + i * p.c_stride + j * lanes);
  }
}

template <class D, class Math, Left kLeft, Sum kSum, int kRows, int kVectors, typename T>
HWY_INLINE void multiply_rows(const Product<T>& p, int64_t rows, int64_t i0, int64_t j0) {
  if constexpr (kRows > 0) {
    if (rows == kRows) return multiply_tile<D, Math, kLeft, kSum, kRows, kVectors>(p, i0, j0);
    multiply_rows<D, Math, kLeft, kSum, kRows - 1, kVectors>(p, rows, i0, j0);
  }
}

// What a product asks memory for with each of its larger tiles: nothing.
struct AskNothing {
  HWY_INLINE void operator()() {}
};

// Rows in equal tiles: a tile of one or two rows would wait for its few accumulators.
template <class D, class Math, Left kLeft, Sum kSum, int kVectors, typename T, typename Ask>
HWY_NOINLINE void multiply_panel(const Product<T>& p, int64_t rows, int64_t j0, Ask& ask) {
  constexpr int kRows = tile_rows(kVectors);
  const int64_t tiles = ceil_div(rows, kRows);
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t i = rows * t / tiles;
    if (kVectors > 1) ask();
    multiply_rows<D, Math, kLeft, kSum, kRows, kVectors>(p, rows * (t + 1) / tiles - i, i, j0);
  }
}

template <class D, class Math, Left kLeft, int kVectors, typename T, typename Ask>
HWY_INLINE void multiply_panel(Sum sum, const Product<T>& p, int64_t rows, int64_t j0, Ask& ask) {
  if (sum == Sum::Set) {
    multiply_panel<D, Math, kLeft, Sum::Set, kVectors>(p, rows, j0, ask);
  } else {
    multiply_panel<D, Math, kLeft, Sum::Add, kVectors>(p, rows, j0, ask);
  }
}

// `columns` is rounded up to vectors: b and c must be padded to whole ones, and what lies beyond the columns in c means
// nothing. Sums run over k in order, each in one lane, so that an element's bits do not depend on the tile it falls into.
//
// Tokens are often a multiple of 16 and one more: 49, 65, 577. The last few columns then take a vector of 128 bits.
template <Left kLeft, typename T, class Math = MultiplyAdd, typename Ask = AskNothing>
void multiply(Sum sum, const Product<T>& p, int64_t rows, int64_t columns, Ask&& ask = {}) {
  using Full = hn::ScalableTag<T>;
  using Narrow = hn::CappedTag<T, 16 / sizeof(T)>;
  constexpr int64_t lanes = HWY_LANES(T), few = hn::MaxLanes(Narrow());
  const bool narrow = few < lanes && columns % lanes > 0 && columns % lanes <= few;
  const int64_t vectors = narrow ? columns / lanes : ceil_div(columns, lanes);
  int64_t j = 0;
  for (; j + 4 <= vectors || j + 2 == vectors; j += 2)
    multiply_panel<Full, Math, kLeft, 2>(sum, p, rows, j * lanes, ask);
  if (vectors - j == 3) multiply_panel<Full, Math, kLeft, 3>(sum, p, rows, j * lanes, ask);
  if (vectors - j == 1) multiply_panel<Full, Math, kLeft, 1>(sum, p, rows, j * lanes, ask);
  if (narrow) multiply_panel<Narrow, Math, kLeft, 1>(sum, p, rows, vectors * lanes, ask);
}

}  // namespace tenon::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // TENON_ATTENTION_TILES_H
