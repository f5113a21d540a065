// What happens to a row of scores between the products, per instruction set: bias, mask, exponentials, dropout.
// Included after attention_tiles-inl.h.
#if defined(TENON_ATTENTION_SCORES_H) == defined(HWY_TARGET_TOGGLE)
#ifdef TENON_ATTENTION_SCORES_H
#undef TENON_ATTENTION_SCORES_H
#else
#define TENON_ATTENTION_SCORES_H
#endif

#include <limits>
#include <type_traits>

#include "core/random.h"

HWY_BEFORE_NAMESPACE();
namespace tenon::cpu::HWY_NAMESPACE {

template <typename T>
constexpr T kMinusInfinity = -std::numeric_limits<T>::infinity();

// exp(x) of a score less its row's maximum or log-sum-exp, so x <= 0 up to rounding: within 2 ulp, exactly 0 below
// -87 (and at minus infinity), NaN stays NaN. Leaner than simd.h's exp, as attention spends a tenth of its time here.
template <class D, class V>
HWY_INLINE V exp_score(D d, V x) {
  if constexpr (kIsDouble<D>) {
    return exp(d, x);
  } else {
    const hn::RebindToSigned<D> di;
    const V magic =
        hn::Set(d, 12583039.0f);  // 1.5 * 2^23 + 127: rounds, and leaves 2^n's exponent in the low bits
    const V shifted = hn::MulAdd(x, hn::Set(d, 1.44269504088896341f), magic);
    const V n = hn::Sub(shifted, magic);
    V r = hn::NegMulAdd(n, hn::Set(d, 0.693359375f), x);
    r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4f), r);
    V p = hn::MulAdd(hn::Set(d, 1.9875691500e-4f), r, hn::Set(d, 1.3981999507e-3f));
    p = hn::MulAdd(p, r, hn::Set(d, 8.3334519073e-3f));
    p = hn::MulAdd(p, r, hn::Set(d, 4.1665795894e-2f));
    p = hn::MulAdd(p, r, hn::Set(d, 1.6666665459e-1f));
    p = hn::MulAdd(p, r, hn::Set(d, 5.0000001201e-1f));
    p = hn::MulAdd(hn::Mul(r, r), p, hn::Add(r, hn::Set(d, 1.0f)));
    const V power = hn::BitCast(d, hn::ShiftLeft<23>(hn::BitCast(di, shifted)));
    return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -87.0f)), hn::Mul(p, power));
  }
}

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

// keep[j] = 0 with probability p, else 1 / (1 - p), for the elements index .. index + n of the random stream.
template <typename T>
void dropout_row(const ScoreTerms& terms, uint64_t index, int64_t n, T* HWY_RESTRICT keep) {
  constexpr int64_t kWords = 4;
  const auto p = static_cast<float>(terms.dropout);
  const T scale = T(1 / (1 - terms.dropout));
  int64_t j = 0;
  while (j < n) {
    const uint64_t at = index + static_cast<uint64_t>(j);
    const Philox::Block words = Philox::block(terms.seed, at / kWords);
    for (auto w = static_cast<int64_t>(at % kWords); w < kWords && j < n; ++w, ++j) {
      keep[j] = Philox::uniform(words[static_cast<size_t>(w)]) >= p ? scale : T{0};
    }
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
        const auto p = exp_score(d, hn::Sub(hn::Load(d, group + r * stride + j), shifts[r]));
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

}  // namespace tenon::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // TENON_ATTENTION_SCORES_H
