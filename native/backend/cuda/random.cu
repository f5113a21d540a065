// Random numbers (backend.h says which Philox words an element uses) and dropout.
//
// A block of Philox holds the words of four elements, so a thread draws for the four whose words share a block, and
// writes them in accesses of up to 16 bytes where element 0 begins a block; it reads nothing, or x in the same way.
#include <algorithm>

#include "backend/cuda/elementwise.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/random.h"

namespace tenon::cuda {
namespace {

constexpr int kGroup = 4;

// Elements 4 g - skip + 0, 1, 2, 3 use the words of block first + g.
struct Groups {
  RandomPlace place;
  int skip;
  int64_t count;  // elements

  Groups(Queue& queue, uint64_t seed, uint64_t offset, int64_t count_)
      : place{seed, offset, queue.random()}, skip(static_cast<int>(offset % kGroup)), count(count_) {}
  // With the seed and the offset of this run: a kernel begins with it. A graph's replays all have the same skip.
  __device__ __forceinline__ Groups now() const {
    Groups groups = *this;
    groups.place = place.now();
    return groups;
  }
  __host__ __device__ __forceinline__ int64_t size() const { return (count + skip + kGroup - 1) / kGroup; }
  __device__ __forceinline__ int64_t element(int64_t group) const { return group * kGroup - skip; }
  __device__ __forceinline__ Philox::Block words(int64_t group, uint32_t plane = 0) const {
    return Philox::block(place.seed, place.offset / kGroup + static_cast<uint64_t>(group), plane);
  }
};

template <typename S>
constexpr int kGroupWidth = std::min(kGroup, kFullWidth<S>);

template <typename S>
bool takes_group_packs(const Groups& groups, const void* data) {
  return groups.skip == 0 && reinterpret_cast<uintptr_t>(data) % (kGroupWidth<S> * sizeof(S)) == 0;
}

template <typename S>
__device__ __forceinline__ void load_group(S (&x)[kGroup], const S* from, int64_t at, int64_t count,
                                           bool packs) {
  if (packs && at + kGroup <= count) {
#pragma unroll
    for (int i = 0; i < kGroup; i += kGroupWidth<S>) {
      const auto pack = *reinterpret_cast<const Pack<S, kGroupWidth<S>>*>(from + at + i);
      for (int k = 0; k < kGroupWidth<S>; ++k) x[i + k] = pack.elements[k];
    }
  } else {
#pragma unroll
    for (int i = 0; i < kGroup; ++i) x[i] = at + i >= 0 && at + i < count ? from[at + i] : S();
  }
}

template <typename S>
__device__ __forceinline__ void store_group(const S (&x)[kGroup], S* to, int64_t at, int64_t count,
                                            bool packs) {
  if (packs && at + kGroup <= count) {
#pragma unroll
    for (int i = 0; i < kGroup; i += kGroupWidth<S>) {
      Pack<S, kGroupWidth<S>> pack;
      for (int k = 0; k < kGroupWidth<S>; ++k) pack.elements[k] = x[i + k];
      *reinterpret_cast<Pack<S, kGroupWidth<S>>*>(to + at + i) = pack;
    }
  } else {
#pragma unroll
    for (int i = 0; i < kGroup; ++i) {
      if (at + i >= 0 && at + i < count) to[at + i] = x[i];
    }
  }
}

// ---- distributions: draw(x, groups, g) gives the elements of group g -------------------------------------------------

template <typename T>
struct Uniform {
  using Number = T;
  T low, width;
  __device__ __forceinline__ void operator()(T (&x)[kGroup], const Groups& groups, int64_t group) const {
    const Philox::Block w = groups.words(group);
    if constexpr (std::is_same_v<T, double>) {
      const Philox::Block v = groups.words(group, 1);
      for (int i = 0; i < kGroup; ++i) {
        const uint64_t bits = (uint64_t{w[i]} << 21) | (v[i] >> 11);
        x[i] = std::fma(width, static_cast<double>(bits) * 0x1p-53, low);
      }
    } else {
      for (int i = 0; i < kGroup; ++i) x[i] = std::fma(width, Philox::uniform(w[i]), low);
    }
  }
};

template <typename T>
struct Normal {
  using Number = T;
  double mean, deviation;
  __device__ __forceinline__ void operator()(T (&x)[kGroup], const Groups& groups, int64_t group) const {
    const Philox::Block w = groups.words(group);
#pragma unroll
    for (int i = 0; i < kGroup; i += 2) {
      const double radius = sqrt(-2 * log((static_cast<double>(w[i]) + 1) * 0x1p-32));
      const double half_turns =
          static_cast<double>(w[i + 1]) * 0x1p-31;  // cos and sin would need a stack frame
      x[i] = static_cast<T>(mean + deviation * (radius * cospi(half_turns)));
      x[i + 1] = static_cast<T>(mean + deviation * (radius * sinpi(half_turns)));
    }
  }
};

template <typename... Rest>
__device__ __forceinline__ double polynomial(double x, double highest, Rest... rest) {
  double sum = highest;
  ((sum = sum * x + rest), ...);
  return sum;
}

// As the CPU's: P. J. Acklam's rational approximation, relative error 1.2e-9.
__device__ __forceinline__ double normal_quantile(double p) {
  const double q = p - 0.5, outside = std::fmin(p, 1 - p);
  if (outside >= 0.02425) {
    const double r = q * q;
    return q *
           polynomial(r, -3.969683028665376e+01, 2.209460984245205e+02, -2.759285104469687e+02,
                      1.383577518672690e+02, -3.066479806614716e+01, 2.506628277459239e+00) /
           polynomial(r, -5.447609879822406e+01, 1.615858368580409e+02, -1.556989798598866e+02,
                      6.680131188771972e+01, -1.328068155288572e+01, 1.0);
  }
  const double s = sqrt(-2 * log(std::fmax(outside, 1e-300)));
  const double tail = polynomial(s, -7.784894002430293e-03, -3.223964580411365e-01, -2.400758277161838e+00,
                                 -2.549732539343734e+00, 4.374664141464968e+00, 2.938163982698783e+00) /
                      polynomial(s, 7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996e+00,
                                 3.754408661907416e+00, 1.0);
  return q < 0 ? tail : -tail;
}

template <typename T>
struct TruncatedNormal {
  using Number = T;
  double mean, deviation, low, high;
  double from, to;  // the distribution function at the bounds
  __device__ __forceinline__ void operator()(T (&x)[kGroup], const Groups& groups, int64_t group) const {
    const Philox::Block w = groups.words(group);
    for (int i = 0; i < kGroup; ++i) {
      const double p = from + (to - from) * ((static_cast<double>(w[i]) + 0.5) * 0x1p-32);
      x[i] = static_cast<T>(std::fmin(std::fmax(mean + deviation * normal_quantile(p), low), high));
    }
  }
};

struct Bernoulli {
  using Number = float;
  uint64_t threshold;
  __device__ __forceinline__ void operator()(float (&x)[kGroup], const Groups& groups, int64_t group) const {
    const Philox::Block w = groups.words(group);
    for (int i = 0; i < kGroup; ++i) x[i] = w[i] < threshold ? 1.0f : 0.0f;
  }
};

struct RandInt {
  using Number = int64_t;
  int64_t low;
  uint64_t range;
  __device__ __forceinline__ void operator()(int64_t (&x)[kGroup], const Groups& groups,
                                             int64_t group) const {
    const Philox::Block w = groups.words(group);
    if (range <= uint64_t{1} << 32) {
      for (int i = 0; i < kGroup; ++i) x[i] = low + static_cast<int64_t>((w[i] * range) >> 32);
      return;
    }
    const Philox::Block v = groups.words(group, 1);
    for (int i = 0; i < kGroup; ++i) {
      // The upper 64 bits of a 64 x 64 product, from products of halves.
      const uint64_t range_low = range & 0xffffffffu, range_high = range >> 32;
      const uint64_t ll = range_low * v[i], lh = range_low * w[i], hl = range_high * v[i],
                     hh = range_high * w[i];
      const uint64_t carry = (ll >> 32) + (lh & 0xffffffffu) + (hl & 0xffffffffu);
      x[i] = static_cast<int64_t>(static_cast<uint64_t>(low) + hh + (lh >> 32) + (hl >> 32) + (carry >> 32));
    }
  }
};

template <typename S, typename Draw>
__global__ void __launch_bounds__(kThreads)
    random_kernel(S* out, const Groups recorded, const bool packs, const Draw draw) {
  const Groups groups = recorded.now();
  for (int64_t group = thread_of_grid(); group < groups.size(); group += threads_of_grid()) {
    typename Draw::Number numbers[kGroup];
    draw(numbers, groups, group);
    S x[kGroup];
    for (int i = 0; i < kGroup; ++i) x[i] = convert<S>(numbers[i]);
    store_group(x, out, groups.element(group), groups.count, packs);
  }
}

template <typename S, typename Draw>
void draw_all(const RandomArgs& args, void* stream, const Draw& draw) {
  const Groups groups(queue_of(stream), args.seed, args.offset, args.out.numel());
  S* const out = args.out.as<S>();
  launch_over(queue_of(stream), "random", &random_kernel<S, Draw>, groups.size(), out, groups,
              takes_group_packs<S>(groups, out), draw);
}

template <typename S>
void draw_continuous(const RandomArgs& args, void* stream) {
  using T = Compute<S>;
  switch (args.kind) {
    case RandomKind::Uniform:
      return draw_all<S>(args, stream, Uniform<T>{static_cast<T>(args.a), static_cast<T>(args.b - args.a)});
    case RandomKind::Normal:
      return draw_all<S>(args, stream, Normal<T>{args.a, args.b});
    default:
      return draw_all<S>(
          args, stream,
          TruncatedNormal<T>{args.a, args.b, args.c, args.d, standard_normal_cdf((args.c - args.a) / args.b),
                             standard_normal_cdf((args.d - args.a) / args.b)});
  }
}

// ---- dropout -------------------------------------------------------------------------------------------------------

template <typename S>
__global__ void __launch_bounds__(kThreads)
    dropout_kernel(const S* in, S* out, const Groups recorded, const bool packs, const uint64_t threshold,
                   const Compute<S> scale) {
  const Groups groups = recorded.now();
  for (int64_t group = thread_of_grid(); group < groups.size(); group += threads_of_grid()) {
    const Philox::Block w = groups.words(group);
    S x[kGroup];
    load_group(x, in, groups.element(group), groups.count, packs);
    for (int i = 0; i < kGroup; ++i) {
      x[i] = narrow<S>(w[i] >= threshold ? widen(x[i]) * scale : Compute<S>(0));
    }
    store_group(x, out, groups.element(group), groups.count, packs);
  }
}

}  // namespace

void random(const RandomArgs& args, void* stream) {
  if (args.out.numel() == 0) return;
  switch (args.kind) {
    case RandomKind::Bernoulli:
      return with_type(args.out.dtype, [&]<typename S>(S) {
        draw_all<S>(args, stream, Bernoulli{Philox::threshold(args.a)});
      });
    case RandomKind::RandInt:
      return with_type(args.out.dtype, [&]<typename S>(S) {
        const auto low = static_cast<int64_t>(args.a), high = static_cast<int64_t>(args.b);
        draw_all<S>(args, stream, RandInt{low, static_cast<uint64_t>(high) - static_cast<uint64_t>(low)});
      });
    default:
      return with_float_type(args.out.dtype, [&]<typename S>(S) { draw_continuous<S>(args, stream); });
  }
}

void dropout(const DropoutArgs& args, void* stream) {
  const Groups groups(queue_of(stream), args.seed, args.offset, args.out.numel());
  if (groups.count == 0) return;
  with_float_type(args.out.dtype, [&]<typename S>(S) {
    const S* const x = args.x.as<const S>();
    S* const out = args.out.as<S>();
    launch_over(queue_of(stream), "dropout", &dropout_kernel<S>, groups.size(), x, out, groups,
                takes_group_packs<S>(groups, x) && takes_group_packs<S>(groups, out),
                Philox::threshold(args.p), static_cast<Compute<S>>(1 / (1 - args.p)));
  });
}

}  // namespace tenon::cuda
