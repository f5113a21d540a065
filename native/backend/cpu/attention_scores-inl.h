// What happens to a row of scores between the products, per instruction set: bias, mask, exponentials, dropout.
// Included after attention_tiles-inl.h.
#if defined(TENON_ATTENTION_SCORES_H) == defined(HWY_TARGET_TOGGLE)
#ifdef TENON_ATTENTION_SCORES_H
#undef TENON_ATTENTION_SCORES_H
#else
#define TENON_ATTENTION_SCORES_H
#endif

#include <cmath>
#include <limits>
#include <type_traits>

#include "core/random.h"

HWY_BEFORE_NAMESPACE();
namespace tenon::cpu::HWY_NAMESPACE {

template <typename T>
constexpr T kMinusInfinity = -std::numeric_limits<T>::infinity();

template <typename T, typename S>
HWY_INLINE void add_row(const S* HWY_RESTRICT from, int64_t stride, int64_t n, T* HWY_RESTRICT scores) {
  const hn::ScalableTag<T> d;
  constexpr int64_t lanes = HWY_LANES(T);
  int64_t j = 0;
  if (stride == 1) {
    for (; j + lanes <= n; j += lanes) {
      hn::Store(hn::Add(hn::Load(d, scores + j), load_f32(d, from + j)), d, scores + j);
    }
  }
  for (; j < n; ++j) scores[j] += static_cast<T>(from[j * stride]);
}

// Adds the bias and removes what the mask forbids from scores [i, j0 .. j0 + n) of head (b, h).
template <typename T>
HWY_INLINE void add_terms(const ScoreTerms& terms, int64_t b, int64_t h, int64_t i, int64_t j0, int64_t n,
                          T* HWY_RESTRICT scores) {
  if (terms.bias) {
    with_storage_type<T>(terms.bias.dtype, [&]<typename S>(S*) {
      add_row(score_at<S>(terms.bias, b, h, i, j0), terms.bias.stride(3), n, scores);
    });
  }
  if (terms.mask) {
    const uint8_t* mask = score_at<uint8_t>(terms.mask, b, h, i, j0);
    const int64_t stride = terms.mask.stride(3);
    if (stride == 1) {
      for (int64_t j = 0; j < n; ++j) scores[j] = mask[j] != 0 ? scores[j] : kMinusInfinity<T>;
    } else {
      for (int64_t j = 0; j < n; ++j) scores[j] = mask[j * stride] != 0 ? scores[j] : kMinusInfinity<T>;
    }
  }
}

#if HWY_TARGET == HWY_SCALAR

constexpr int64_t kPhiloxBlocks = 1;

HWY_INLINE void philox_words(uint64_t seed, uint64_t counter, uint32_t* HWY_RESTRICT words) {
  const Philox::Block block = Philox::block(seed, counter);
  std::copy(block.begin(), block.end(), words);
}

#else

constexpr int64_t kPhiloxVectors = 2;  // advance together, as a round is a chain of dependent operations
constexpr int64_t kPhiloxBlocks = kPhiloxVectors * HWY_LANES(uint64_t);

// The words of kPhiloxBlocks counters. Each 32-bit word of the state sits in the lower half of a 64-bit lane; what
// collects in the upper halves is ignored by MulEven and removed at the end.
HWY_INLINE void philox_words(uint64_t seed, uint64_t counter, uint32_t* HWY_RESTRICT words) {
  const hn::ScalableTag<uint64_t> d;
  const hn::Repartition<uint32_t, decltype(d)> d32;
  using V = hn::Vec<decltype(d)>;
  constexpr int64_t lanes = HWY_LANES(uint64_t);
  const auto multiply = [&](V x, uint32_t factor)
                            HWY_ATTR { return hn::MulEven(hn::BitCast(d32, x), hn::Set(d32, factor)); };
  // Even lanes hold the first half of a vector's counters: interleaving then leaves the words in order.
  HWY_ALIGN uint64_t order[lanes];
  for (int64_t i = 0; i < lanes; ++i) order[i] = static_cast<uint64_t>(i % 2 * (lanes / 2) + i / 2);
  V c0[kPhiloxVectors], c1[kPhiloxVectors], c2[kPhiloxVectors], c3[kPhiloxVectors];
#pragma GCC unroll 4
  for (int64_t v = 0; v < kPhiloxVectors; ++v) {
    c0[v] = hn::Add(hn::Load(d, order), hn::Set(d, counter + static_cast<uint64_t>(v * lanes)));
    c1[v] = hn::ShiftRight<32>(c0[v]);
    c2[v] = c3[v] = hn::Zero(d);
  }
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
#pragma GCC unroll 4
    for (int64_t v = 0; v < kPhiloxVectors; ++v) {
      const V p0 = multiply(c0[v], 0xD2511F53u), p1 = multiply(c2[v], 0xCD9E8D57u);
      c0[v] = hn::Xor(hn::Xor(hn::ShiftRight<32>(p1), c1[v]), hn::Set(d, k0));
      c1[v] = p1;
      c2[v] = hn::Xor(hn::Xor(hn::ShiftRight<32>(p0), c3[v]), hn::Set(d, k1));
      c3[v] = p0;
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  const V lower_half = hn::Set(d, 0xffffffffu);
  auto* to = reinterpret_cast<uint64_t*>(words);
#pragma GCC unroll 4
  for (int64_t v = 0; v < kPhiloxVectors; ++v, to += 2 * lanes) {
    const V first = hn::Or(hn::And(c0[v], lower_half), hn::ShiftLeft<32>(c1[v]));
    const V second = hn::Or(hn::And(c2[v], lower_half), hn::ShiftLeft<32>(c3[v]));
    hn::Store(hn::InterleaveLower(d, first, second), d, to);
    hn::Store(hn::InterleaveUpper(d, first, second), d, to + lanes);
  }
}

#endif

// keep[j] = 0 with probability p, else 1 / (1 - p), for the elements index .. index + n of the random stream: kept
// where the word is at least p 2^32, as in dropout.
template <typename T>
HWY_NOINLINE void dropout_row(const ScoreTerms& terms, uint64_t index, int64_t n, T* HWY_RESTRICT keep) {
  constexpr int64_t kWords = 4 * kPhiloxBlocks;
  HWY_ALIGN uint32_t words[kWords];
  const auto threshold = static_cast<uint32_t>(Philox::threshold(terms.dropout));
  const T scale = T(1 / (1 - terms.dropout));
  auto skip = static_cast<int64_t>(index % 4);
  for (uint64_t counter = index / 4; n > 0; counter += kPhiloxBlocks) {
    philox_words(terms.seed, counter, words);
    const int64_t some = std::min(n, kWords - skip);
    for (int64_t j = 0; j < some; ++j) keep[j] = words[skip + j] >= threshold ? scale : T{0};
    keep += some;
    n -= some;
    skip = 0;
  }
}

// The stream's index of element (b, h, i, j) of scores [B, H, Nq, Nk].
inline uint64_t dropout_index(const ScoreTerms& terms, const View& q, const View& k, int64_t b, int64_t h,
                              int64_t i, int64_t j) {
  return terms.offset + static_cast<uint64_t>(((b * q.size(1) + h) * q.size(2) + i) * k.size(2) + j);
}

// Calls f(std::integral_constant<int, R>, i) for groups of R rows from i: four at a time, as one row's chain of
// dependent operations leaves the vector units idle.
template <typename F>
HWY_INLINE void for_row_groups(int64_t rows, F&& f) {
  int64_t i = 0;
  for (; i + 4 <= rows; i += 4) f(std::integral_constant<int, 4>(), i);
  for (; i < rows; ++i) f(std::integral_constant<int, 1>(), i);
}

// most[i] = the largest of the n scores of row i; what pads the row's last vector becomes minus infinity.
template <typename T>
HWY_NOINLINE void row_maxima(T* HWY_RESTRICT scores, int64_t stride, int64_t rows, int64_t n,
                             T* HWY_RESTRICT most) {
  const hn::ScalableTag<T> d;
  constexpr int64_t lanes = HWY_LANES(T);
  const int64_t whole = n / lanes * lanes;
  const auto inside = hn::FirstN(d, static_cast<size_t>(n - whole));
  const auto lowest = hn::Set(d, kMinusInfinity<T>);
  for_row_groups(rows, [&]<int kRows>(std::integral_constant<int, kRows>, int64_t i) {
    hn::Vec<decltype(d)> largest[kRows];
    T* group = scores + i * stride;
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) largest[r] = lowest;
    for (int64_t j = 0; j < whole; j += lanes) {
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) largest[r] = hn::Max(largest[r], hn::Load(d, group + r * stride + j));
    }
    if (whole < n) {
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const auto last = hn::IfThenElse(inside, hn::Load(d, group + r * stride + whole), lowest);
        hn::Store(last, d, group + r * stride + whole);
        largest[r] = hn::Max(largest[r], last);
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) most[i + r] = hn::GetLane(hn::MaxOfLanes(d, largest[r]));
  });
}

// scores = exp(scores - shift[i]) and total[i] = their sum, for rows padded as row_maxima leaves them.
template <typename T>
HWY_NOINLINE void exp_rows(T* HWY_RESTRICT scores, int64_t stride, int64_t rows, int64_t n,
                           const T* HWY_RESTRICT shift, T* HWY_RESTRICT total) {
  const hn::ScalableTag<T> d;
  constexpr int64_t lanes = HWY_LANES(T);
  for_row_groups(rows, [&]<int kRows>(std::integral_constant<int, kRows>, int64_t i) {
    hn::Vec<decltype(d)> shifts[kRows], sums[kRows];
    T* group = scores + i * stride;
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      shifts[r] = hn::Set(d, shift[i + r]);
      sums[r] = hn::Zero(d);
    }
    for (int64_t j = 0; j < n; j += lanes) {
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const auto p = exp_negative(d, hn::Sub(hn::Load(d, group + r * stride + j), shifts[r]));
        hn::Store(p, d, group + r * stride + j);
        sums[r] = hn::Add(sums[r], p);
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) total[i + r] = hn::GetLane(hn::SumOfLanes(d, sums[r]));
  });
}

template <typename T>
HWY_INLINE void scale_row(T* HWY_RESTRICT row, int64_t n, T factor) {
  for (int64_t j = 0; j < n; ++j) row[j] *= factor;
}

template <typename T>
void scale_rows(T* HWY_RESTRICT scores, int64_t stride, int64_t rows, int64_t n, T factor) {
  for (int64_t i = 0; i < rows; ++i) scale_row(scores + i * stride, n, factor);
}

// ---- gradients ---------------------------------------------------------------------------------------------------

// delta[i] = dout[i] out[i]
template <typename T, typename Rows>
void row_products(const Rows& x, const Rows& y, int64_t rows, int64_t columns, T* HWY_RESTRICT delta) {
  const hn::ScalableTag<T> d;
  constexpr int64_t lanes = HWY_LANES(T);
  with_storage_type<T>(x.dtype, [&]<typename S>(S*) {
    for (int64_t i = 0; i < rows; ++i) {
      const S* a = x.template row<const S>(i);
      const S* b = y.template row<const S>(i);
      auto sums = hn::Zero(d);
      int64_t j = 0;
      for (; j + lanes <= columns; j += lanes)
        sums = hn::MulAdd(load_f32(d, a + j), load_f32(d, b + j), sums);
      T sum = hn::GetLane(hn::SumOfLanes(d, sums));
      for (; j < columns; ++j) sum += static_cast<T>(a[j]) * static_cast<T>(b[j]);
      delta[i] = sum;
    }
  });
}

// From rows of scores and of dout v^T: scores becomes D, dscores becomes dS. keep is null without dropout.
template <typename T>
HWY_NOINLINE void score_gradients(const T* HWY_RESTRICT lse, const T* HWY_RESTRICT delta,
                                  const T* HWY_RESTRICT keep, int64_t stride, int64_t rows, int64_t n,
                                  T* HWY_RESTRICT scores, T* HWY_RESTRICT dscores) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  constexpr int64_t lanes = HWY_LANES(T);
  for_row_groups(rows, [&]<int kRows>(std::integral_constant<int, kRows>, int64_t i) {
    V shifts[kRows], deltas[kRows];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      // Nothing attended to: exp(score - infinity) = 0.
      shifts[r] = hn::Set(d, lse[i + r] == kMinusInfinity<T> ? -kMinusInfinity<T> : lse[i + r]);
      deltas[r] = hn::Set(d, delta[i + r]);
    }
    for (int64_t j = 0; j < n; j += lanes) {
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const int64_t at = (i + r) * stride + j;
        const V p = exp_negative(d, hn::Sub(hn::Load(d, scores + at), shifts[r]));
        const V dp = hn::Load(d, dscores + at);
        if (keep == nullptr) {
          hn::Store(p, d, scores + at);
          hn::Store(hn::Mul(p, hn::Sub(dp, deltas[r])), d, dscores + at);
        } else {
          const V factor = hn::Load(d, keep + at);
          hn::Store(hn::Mul(p, factor), d, scores + at);
          hn::Store(hn::Mul(p, hn::MulSub(dp, factor, deltas[r])), d, dscores + at);
        }
      }
    }
  });
}

}  // namespace tenon::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // TENON_ATTENTION_SCORES_H
