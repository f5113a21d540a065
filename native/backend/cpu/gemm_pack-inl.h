// The GEMM's operands in the order in which its tiles read them, per instruction set. Included after rows.h, by gemm.cc alone.
#if defined(TENON_GEMM_PACK_H) == defined(HWY_TARGET_TOGGLE)
#ifdef TENON_GEMM_PACK_H
#undef TENON_GEMM_PACK_H
#else
#define TENON_GEMM_PACK_H
#endif

#include <algorithm>

#include "backend/backend.h"

#ifndef TENON_GEMM_PACK_ONCE
#define TENON_GEMM_PACK_ONCE
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

}  // namespace
}  // namespace tenon::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // TENON_GEMM_PACK_H
