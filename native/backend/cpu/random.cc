// Random numbers (backend.h says which Philox words an element uses), permutations and dropout.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/random.cc"
#include "backend/cpu/block.h"
//
#include <algorithm>
#include <array>
#include <vector>

#include "backend/cpu/kernels.h"
#include "backend/cpu/parallel.h"
#include "core/random.h"

HWY_BEFORE_NAMESPACE();
namespace tenon::cpu::HWY_NAMESPACE {
namespace {

constexpr int64_t kGrain = 4096;

// Words [first, first + kBlock) of a plane; `first` is a multiple of 4. Counters are advanced side by side in plain
// arrays, which compilers turn into vectors.
HWY_NOINLINE void philox_words(uint64_t seed, uint64_t first, uint32_t plane, uint32_t* HWY_RESTRICT words) {
  constexpr int kLanes = 32;
  for (int64_t at = 0; at < kBlock; at += 4 * kLanes) {
    uint32_t c0[kLanes], c1[kLanes], c2[kLanes], c3[kLanes];
    const uint64_t counter = first / 4 + static_cast<uint64_t>(at) / 4;
    for (int i = 0; i < kLanes; ++i) {
      c0[i] = static_cast<uint32_t>(counter + static_cast<uint64_t>(i));
      c1[i] = static_cast<uint32_t>((counter + static_cast<uint64_t>(i)) >> 32);
      c2[i] = plane;
      c3[i] = 0;
    }
    uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
    for (int round = 0; round < 10; ++round) {
      for (int i = 0; i < kLanes; ++i) {
        const uint64_t p0 = uint64_t{0xD2511F53u} * c0[i];
        const uint64_t p1 = uint64_t{0xCD9E8D57u} * c2[i];
        c0[i] = static_cast<uint32_t>(p1 >> 32) ^ c1[i] ^ k0;
        c1[i] = static_cast<uint32_t>(p1);
        c2[i] = static_cast<uint32_t>(p0 >> 32) ^ c3[i] ^ k1;
        c3[i] = static_cast<uint32_t>(p0);
      }
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    for (int i = 0; i < kLanes; ++i) {
      words[at + 4 * i] = c0[i];
      words[at + 4 * i + 1] = c1[i];
      words[at + 4 * i + 2] = c2[i];
      words[at + 4 * i + 3] = c3[i];
    }
  }
}

// Calls body(first, n, w, v) for blocks of elements [first, first + n): w[i] and, if `both`, v[i] are the words of
// planes 0 and 1 of element first + i. w[i ^ 1] of the same pair is there as well: blocks start at multiples of 4.
template <typename Body>
void for_each_block(int64_t n, uint64_t seed, uint64_t offset, bool both, Body&& body) {
  const uint64_t start = offset & ~uint64_t{3};
  const auto skip = static_cast<int64_t>(offset - start);
  const int64_t blocks = (n + skip + kBlock - 1) / kBlock;
  parallel_for(n > 0 ? blocks : 0, kGrain / kBlock, [&](int64_t begin, int64_t end) {
    HWY_ALIGN uint32_t w[kBlock];
    HWY_ALIGN uint32_t v[kBlock];
    for (int64_t b = begin; b < end; ++b) {
      philox_words(seed, start + static_cast<uint64_t>(b * kBlock), 0, w);
      if (both) philox_words(seed, start + static_cast<uint64_t>(b * kBlock), 1, v);
      const int64_t lead = b == 0 ? skip : 0;
      const int64_t first = b * kBlock + lead - skip;
      body(first, std::min(kBlock - lead, n - first), w + lead, v + lead);
    }
  });
}

// The inverse of the standard normal distribution function: P. J. Acklam's rational approximation, relative error
// 1.2e-9, on vectors of double.
template <typename D, typename V>
HWY_INLINE V normal_quantile(D d, V p) {
  const auto c = [&](double value) { return hn::Set(d, value); };
  const V one = c(1);
  const auto polynomial = [&](V x, V p0, auto... rest) {
    V sum = p0;
    ((sum = hn::MulAdd(sum, x, rest)), ...);
    return sum;
  };
  const V q = hn::Sub(p, c(0.5));
  const V r = hn::Mul(q, q);
  const V middle = hn::Div(
      hn::Mul(q, polynomial(r, c(-3.969683028665376e+01), c(2.209460984245205e+02), c(-2.759285104469687e+02),
                            c(1.383577518672690e+02), c(-3.066479806614716e+01), c(2.506628277459239e+00))),
      polynomial(r, c(-5.447609879822406e+01), c(1.615858368580409e+02), c(-1.556989798598866e+02),
                 c(6.680131188771972e+01), c(-1.328068155288572e+01), one));
  const V outside = hn::Min(p, hn::Sub(one, p));
  if (hn::AllTrue(d, hn::Ge(outside, c(0.02425)))) return middle;
  const V s = hn::Sqrt(hn::Mul(c(-2), hn::Log(d, hn::Max(outside, c(1e-300)))));
  const V tail =
      hn::Div(polynomial(s, c(-7.784894002430293e-03), c(-3.223964580411365e-01), c(-2.400758277161838e+00),
                         c(-2.549732539343734e+00), c(4.374664141464968e+00), c(2.938163982698783e+00)),
              polynomial(s, c(7.784695709041462e-03), c(3.224671290700398e-01), c(2.445134137142996e+00),
                         c(3.754408661907416e+00), one));
  return hn::IfThenElse(hn::Ge(outside, c(0.02425)), middle,
                        hn::IfThenElse(hn::Lt(q, hn::Zero(d)), tail, hn::Neg(tail)));
}

// T is the computing type: double for float64, else float.
template <typename T>
struct Uniform {
  double low, width;
  void operator()(int64_t, int64_t n, const uint32_t* w, const uint32_t* v, T* out) const {
    const T a = static_cast<T>(low), span = static_cast<T>(width);
    if constexpr (std::is_same_v<T, double>) {
      for (int64_t i = 0; i < n; ++i) {
        const uint64_t bits = (uint64_t{w[i]} << 21) | (v[i] >> 11);
        out[i] = std::fma(span, static_cast<double>(static_cast<int64_t>(bits)) * 0x1p-53, a);
      }
    } else {
      for (int64_t i = 0; i < n; ++i)
        out[i] = std::fma(span, static_cast<float>(static_cast<int32_t>(w[i] >> 8)) * 0x1p-24f, a);
    }
  }
};

template <typename T>
struct Normal {
  double mean, deviation;
  uint64_t offset;
  void operator()(int64_t first, int64_t n, const uint32_t* w, const uint32_t*, T* out) const {
    const bool odd =
        ((offset + static_cast<uint64_t>(first)) & 1) != 0;  // whether w[0] is the second of its pair
    int64_t i = odd ? -1 : 0;
    for (; i < n; i += 2) {
      const double radius = std::sqrt(-2 * std::log((static_cast<double>(w[i]) + 1) * 0x1p-32));
      const double angle = static_cast<double>(w[i + 1]) * (0x1p-32 * 6.283185307179586);
      if (i >= 0) out[i] = static_cast<T>(mean + deviation * (radius * std::cos(angle)));
      if (i + 1 < n) out[i + 1] = static_cast<T>(mean + deviation * (radius * std::sin(angle)));
    }
  }
};

template <typename T>
struct TruncatedNormal {
  double mean, deviation, low, high;
  void operator()(int64_t, int64_t n, const uint32_t* w, const uint32_t*, T* out) const {
    const double from = standard_normal_cdf((low - mean) / deviation),
                 to = standard_normal_cdf((high - mean) / deviation);
    HWY_ALIGN double z[kBlock];
    for (int64_t i = 0; i < n; ++i) z[i] = from + (to - from) * ((static_cast<double>(w[i]) + 0.5) * 0x1p-32);
    map_vectors(
        z, n, [](auto dd, auto p) { return normal_quantile(dd, p); }, z);
    for (int64_t i = 0; i < n; ++i) {
      out[i] = static_cast<T>(std::clamp(mean + deviation * z[i], low, high));
    }
  }
};

template <typename T>
struct Bernoulli {
  double probability;
  void operator()(int64_t, int64_t n, const uint32_t* w, const uint32_t*, T* out) const {
    const auto threshold = Philox::threshold(probability);
    for (int64_t i = 0; i < n; ++i) out[i] = static_cast<T>(w[i] < threshold ? 1 : 0);
  }
};

template <typename T>
struct RandInt {
  double low, high;
  void operator()(int64_t, int64_t n, const uint32_t* w, const uint32_t* v, T* out) const {
    const auto first = static_cast<int64_t>(low);
    const uint64_t range = static_cast<uint64_t>(static_cast<int64_t>(high)) - static_cast<uint64_t>(first);
    if (range <= uint64_t{1} << 32) {
      for (int64_t i = 0; i < n; ++i)
        out[i] = static_cast<T>(first + static_cast<int64_t>((w[i] * range) >> 32));
    } else {
      for (int64_t i = 0; i < n; ++i) {
        // The upper 64 bits of a 64 x 64 product, from two products with the halves of the random number.
        const uint64_t range_low = range & 0xffffffffu, range_high = range >> 32;
        const uint64_t ll = range_low * v[i], lh = range_low * w[i], hl = range_high * v[i],
                       hh = range_high * w[i];
        const uint64_t carry = (ll >> 32) + (lh & 0xffffffffu) + (hl & 0xffffffffu);
        const uint64_t upper = hh + (lh >> 32) + (hl >> 32) + (carry >> 32);
        out[i] = static_cast<T>(static_cast<uint64_t>(first) + upper);
      }
    }
  }
};

// Blocks from and to the dtype of a tensor, compiled once for all distributions.
template <typename T>
HWY_NOINLINE void load_elements(const View& v, int64_t first, int64_t n, T* block) {
  with_type(v.dtype, [&](auto zero) { convert_run(v.as<const decltype(zero)>() + first, 1, block, 1, n); });
}
template <typename T>
HWY_NOINLINE void store_elements(const T* block, const View& v, int64_t first, int64_t n) {
  with_type(v.dtype, [&](auto zero) { convert_run(block, 1, v.as<decltype(zero)>() + first, 1, n); });
}

template <typename T, typename Draw>
void draw_all(const RandomArgs& args, bool both, Draw draw) {
  for_each_block(args.out.numel(), args.seed, args.offset, both,
                 [&](int64_t first, int64_t n, const uint32_t* w, const uint32_t* v) {
                   HWY_ALIGN T block[kBlock];
                   draw(first, n, w, v, block);
                   store_elements(block, args.out, first, n);
                 });
}

template <typename T>
void random_as(const RandomArgs& args) {
  switch (args.kind) {
    case RandomKind::Uniform:
      return draw_all<T>(args, std::is_same_v<T, double>, Uniform<T>{args.a, args.b - args.a});
    case RandomKind::Normal:
      return draw_all<T>(args, false, Normal<T>{args.a, args.b, args.offset});
    case RandomKind::TruncatedNormal:
      return draw_all<T>(args, false, TruncatedNormal<T>{args.a, args.b, args.c, args.d});
    case RandomKind::Bernoulli:
      return draw_all<T>(args, false, Bernoulli<T>{args.a});
    case RandomKind::RandInt:
      return draw_all<int64_t>(args, args.b - args.a > 0x1p32, RandInt<int64_t>{args.a, args.b});
  }
}

void random_dispatch(const RandomArgs& args) {
  if (args.out.dtype == DType::Float64) return random_as<double>(args);
  random_as<float>(args);
}

// Least-significant-digit radix sort: stable, and its cost does not depend on the keys.
void permutation_dispatch(const PermutationArgs& args) {
  const int64_t n = args.out.numel();
  struct Entry {
    uint64_t key;
    int64_t index;
  };
  std::vector<Entry> entries(static_cast<size_t>(n)), sorted(static_cast<size_t>(n));
  for_each_block(n, args.seed, args.offset, true,
                 [&](int64_t first, int64_t count, const uint32_t* w, const uint32_t* v) {
                   for (int64_t i = 0; i < count; ++i) {
                     entries[static_cast<size_t>(first + i)] = {uint64_t{w[i]} << 32 | v[i], first + i};
                   }
                 });
  if (n < 4096) {
    std::stable_sort(entries.begin(), entries.end(),
                     [](const Entry& a, const Entry& b) { return a.key < b.key; });
  } else {
    constexpr int kBits = 8;
    for (int shift = 0; shift < 64; shift += kBits) {
      std::array<size_t, 1 << kBits> place{};
      for (const Entry& e : entries) ++place[(e.key >> shift) & (place.size() - 1)];
      size_t sum = 0;
      for (size_t& p : place) sum += std::exchange(p, sum);
      for (const Entry& e : entries) sorted[place[(e.key >> shift) & (place.size() - 1)]++] = e;
      entries.swap(sorted);
    }
  }
  for (int64_t i = 0; i < n; ++i)
    args.out.as<int64_t>()[i * args.out.stride(0)] = entries[static_cast<size_t>(i)].index;
}

template <typename T>
void dropout_as(const DropoutArgs& args) {
  const auto threshold = Philox::threshold(args.p);
  const T scale = static_cast<T>(1 / (1 - args.p));
  for_each_block(args.out.numel(), args.seed, args.offset, false,
                 [&](int64_t first, int64_t n, const uint32_t* w, const uint32_t*) {
                   HWY_ALIGN T block[kBlock];
                   load_elements(args.x, first, n, block);
                   for (int64_t i = 0; i < n; ++i) block[i] = w[i] >= threshold ? block[i] * scale : T(0);
                   store_elements(block, args.out, first, n);
                 });
}

void dropout_dispatch(const DropoutArgs& args) {
  if (args.out.dtype == DType::Float64) return dropout_as<double>(args);
  dropout_as<float>(args);
}

}  // namespace
}  // namespace tenon::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tenon::cpu {

HWY_EXPORT(random_dispatch);
HWY_EXPORT(permutation_dispatch);
HWY_EXPORT(dropout_dispatch);

void random(const RandomArgs& args) { HWY_DYNAMIC_DISPATCH(random_dispatch)(args); }
void permutation(const PermutationArgs& args) { HWY_DYNAMIC_DISPATCH(permutation_dispatch)(args); }
void dropout(const DropoutArgs& args) { HWY_DYNAMIC_DISPATCH(dropout_dispatch)(args); }

}  // namespace tenon::cpu
#endif
