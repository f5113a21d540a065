// What the attention kernels share: their operands, the terms of a score, tiles in shared memory and the products of a
// warp on tensor cores.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/cuda/mma.h"
#include "backend/cuda/random.h"
#include "core/view.h"

namespace tenon::cuda {

template <typename T>
constexpr T kMinusInfinity = -std::numeric_limits<T>::infinity();

template <typename S>
constexpr bool kOnTensorCores = sizeof(S) == 2;

// ---- operands ------------------------------------------------------------------------------------------------------

// [B, H, N, d] with any strides but the last, which is 1.
template <typename S>
struct Heads {
  S* data = nullptr;
  int64_t batch = 0, head = 0, row = 0;
  bool packs = false;  // rows can be read 16 bytes at a time

  Heads() = default;
  explicit Heads(const View& x) : Heads(x.as<S>(), x.stride(0), x.stride(1), x.stride(2)) {
    packs = takes_packs<S>(data, x.size(3)) && takes_packs<S>(data, batch) && takes_packs<S>(data, head) &&
            takes_packs<S>(data, row);
  }
  Heads(S* first, int64_t between_batches, int64_t between_heads, int64_t between_rows)
      : data(first), batch(between_batches), head(between_heads), row(between_rows) {}
  __device__ __forceinline__ Heads of(int b, int h) const {
    Heads x = *this;
    x.data += b * batch + h * head;
    return x;
  }
  __device__ __forceinline__ S* at(int i) const { return data + i * row; }
  __device__ __forceinline__ Heads from(int column) const {
    Heads x = *this;
    x.data += column;
    return x;
  }
};

// How the score of query i and key j comes from q_i k_j, and whether dropout keeps it.
template <typename S>
struct Terms {
  using T = Compute<S>;
  const S* bias = nullptr;
  const uint8_t* mask = nullptr;
  int64_t bias_strides[4] = {}, mask_strides[4] = {};
  int heads = 0, queries = 0, keys = 0;
  T scale = 1, keep_scale = 1;
  uint32_t drop_below = 0;  // 0: no dropout
  RandomPlace place;

  Terms() = default;
  // Args: AttentionArgs and its kin
  template <typename Args>
  Terms(const char* op, const Args& args, Queue& queue)
      : bias(args.bias.template as<S>()),
        mask(args.mask.template as<uint8_t>()),
        heads(to_int(op, "heads", args.q.size(1))),
        queries(to_int(op, "queries", args.q.size(2))),
        keys(to_int(op, "keys", args.k.size(2))),
        scale(static_cast<T>(args.scale)) {
    for (int i = 0; i < 4; ++i) {
      if (args.bias) bias_strides[i] = args.bias.stride(i);
      if (args.mask) mask_strides[i] = args.mask.stride(i);
    }
    if constexpr (requires { args.dropout; }) {
      drop_below = static_cast<uint32_t>(Philox::threshold(args.dropout));
      keep_scale = static_cast<T>(1 / (1 - args.dropout));
      place = {args.seed, args.offset, queue.random()};
    }
  }

  __device__ __forceinline__ Terms of(int b, int h) const {
    Terms x = *this;
    if (bias != nullptr) x.bias += b * bias_strides[0] + h * bias_strides[1];
    if (mask != nullptr) x.mask += b * mask_strides[0] + h * mask_strides[1];
    x.place.offset += (static_cast<uint64_t>(b) * heads + h) * queries * keys;
    return x;
  }

  // Minus infinity where the query does not attend to the key, or either is not there.
  __device__ __forceinline__ T score(T product, int i, int j) const {
    if (i >= queries || j >= keys) return kMinusInfinity<T>;
    if (mask != nullptr && mask[i * mask_strides[2] + j * mask_strides[3]] == 0) return kMinusInfinity<T>;
    T s = product * scale;
    if (bias != nullptr) s += widen(bias[i * bias_strides[2] + j * bias_strides[3]]);
    return s;
  }

  bool only_scales() const { return bias == nullptr && mask == nullptr && drop_below == 0; }

  // For a loop over keep: what it needs of a captured graph's random numbers is read once.
  __device__ __forceinline__ Terms dropping() const {
    Terms x = *this;
    x.place = place.now();
    return x;
  }
  // What dropout multiplies the probability by.
  __device__ __forceinline__ T keep(int i, int j) const {
    if (drop_below == 0) return T(1);
    const RandomPlace now = place.now();  // not before: it would stay in registers where nothing is dropped
    return random_word(now.seed, now.offset + static_cast<uint64_t>(i) * keys + j) >= drop_below ? keep_scale
                                                                                                 : T(0);
  }
};

// The terms where there is no bias, mask or dropout.
struct OnlyScale {
  float scale;
  int keys;
  static constexpr uint32_t drop_below = 0;

  __device__ __forceinline__ float score(float product, int, int j) const {
    return j < keys ? product * scale : kMinusInfinity<float>;
  }
  __device__ __forceinline__ OnlyScale dropping() const { return *this; }
  __device__ __forceinline__ static float keep(int, int) { return 1; }
};

constexpr float kLog2E = 1.44269504088896341f;

// 2 to the x.
__device__ __forceinline__ float power_of_two(float x) {
#ifdef __CUDA_ARCH__
  float result;  // exp2f would keep what is smaller than the normal numbers, in four more instructions
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
#else
  return exp2f(x);
#endif
}

// exp of a score less its row's maximum or log-sum-exp.
__device__ __forceinline__ double exp_score(double x) { return exp(x); }
__device__ __forceinline__ float exp_score(float x) { return power_of_two(x * kLog2E); }

// A maximum or log-sum-exp as exp_score's shift: the row that attends to nothing gets exp(-inf - 0) = 0.
template <typename T>
__device__ __forceinline__ T shift_of(T x) {
  return x == kMinusInfinity<T> ? T(0) : x;
}

// Over the kLanes neighbours of a lane.
template <int kLanes, typename T>
__device__ __forceinline__ T max_over_lanes(T x) {
#pragma unroll
  for (int lanes = 1; lanes < kLanes; lanes *= 2) {
    const T other = __shfl_xor_sync(kFullWarp, x, lanes);
    x = other > x ? other : x;
  }
  return x;
}

template <int kLanes, typename T>
__device__ __forceinline__ T sum_over_lanes(T x) {
#pragma unroll
  for (int lanes = 1; lanes < kLanes; lanes *= 2) x += __shfl_xor_sync(kFullWarp, x, lanes);
  return x;
}

// ---- tiles in shared memory ----------------------------------------------------------------------------------------

// Between the rows of a tile for tensor cores: 8 more elements put the 8 rows that ldmatrix reads at once in different
// banks.
constexpr int kPaddedRow(int d) { return d + 8; }

// Starts to copy the rows first .. first + kRows of a head, kD elements each, of which what lies beyond `rows` and d
// becomes zeros, by kThreads neighbouring threads. The caller commits and waits.
template <int kRows, int kD, int kThreads, typename S, typename Rows>
__device__ __forceinline__ void load_tile(S* tile, const Rows& x, int first, int rows, int d) {
  constexpr int kWidth = 8, kPacks = kD / kWidth;
  for (int p = static_cast<int>(threadIdx.x) % kThreads; p < kRows * kPacks; p += kThreads) {
    const int row = p / kPacks, column = p % kPacks * kWidth;
    S* const to = tile + row * kPaddedRow(kD) + column;
    const S* const from = first + row < rows ? x.at(first + row) : nullptr;
    if (x.packs) {
      const bool inside = from != nullptr && column < d;
      copy_async(to, inside ? from + column : x.data, inside);
    } else {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) to[i] = from != nullptr && column + i < d ? from[column + i] : S{};
    }
  }
}

// Writes kColumns columns of 16 rows of a tile to the rows first .. of a head, by one warp.
template <int kColumns, typename S, typename Rows>
__device__ __forceinline__ void store_rows(const S* tile, int stride, const Rows& x, int first, int rows,
                                           int d) {
  constexpr int kWidth = 8, kPacks = kColumns / kWidth;
  for (int p = static_cast<int>(threadIdx.x) % kWarpSize; p < 16 * kPacks; p += kWarpSize) {
    const int row = p / kPacks, column = p % kPacks * kWidth;
    S* to = first + row < rows && column < d ? x.at(first + row) : nullptr;
    if (to == nullptr) continue;
    to += column;
    const S* const from = tile + row * stride + column;
    if (x.packs) {
      *reinterpret_cast<Pack<S, kWidth>*>(to) = *reinterpret_cast<const Pack<S, kWidth>*>(from);
    } else {
      for (int i = 0; i < kWidth && column + i < d; ++i) to[i] = from[i];
    }
  }
}

// ---- a warp's products on tensor cores -----------------------------------------------------------------------------

// Sums of 16 rows and kColumns columns: those of rows lane / 4 (elements 0 and 1) and lane / 4 + 8 (2 and 3), at
// columns 8 n + 2 (lane % 4) and the next.
template <int kColumns>
struct Sums {
  float at[kColumns / 8][4];

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (auto& four : at) {
#pragma unroll
      for (float& x : four) x = 0;
    }
  }
  __device__ __forceinline__ static int row(int element) {
    return static_cast<int>(threadIdx.x) % kWarpSize / 4 + element / 2 * 8;
  }
  __device__ __forceinline__ static int column(int n, int element) {
    return 8 * n + static_cast<int>(threadIdx.x) % 4 * 2 + element % 2;
  }
  // To 16 rows of a tile.
  template <typename S>
  __device__ __forceinline__ void store(S* tile, int stride) const {
#pragma unroll
    for (int n = 0; n < kColumns / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 4; e += 2) {
        *reinterpret_cast<uint32_t*>(tile + row(e) * stride + column(n, e)) =
            pack_pair<S>(at[n][e], at[n][e + 1]);
      }
    }
  }
};

// sums = a b^T of 16 rows of a and kColumns rows of b, both of kK elements in tiles of that width.
template <int kK, int kColumns, typename S>
__device__ __forceinline__ void multiply_rows(Sums<kColumns>& sums, const S* a, const S* b) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  a += lane % 16 * kPaddedRow(kK) + lane / 16 * 8;
  b += (lane % 8 + lane / 16 * 8) * kPaddedRow(kK) + lane / 8 % 2 * 8;
  sums.clear();
#pragma unroll
  for (int k = 0; k < kK; k += 16) {
    uint32_t left[4];
    load_matrices(left, a + k);
#pragma unroll
    for (int n = 0; n < kColumns / 8; n += 2) {
      uint32_t right[4];
      load_matrices(right, b + 8 * n * kPaddedRow(kK) + k);
      multiply_16x8x16<S>(sums.at[n], left, right[0], right[1]);
      multiply_16x8x16<S>(sums.at[n + 1], left, right[2], right[3]);
    }
  }
}

// Sums as the registers of a product's left operand, which has their layout: pairs of neighbours, rounded to S.
template <typename S, int kColumns>
__device__ __forceinline__ void pack_left(uint32_t (&left)[kColumns / 16][4], const Sums<kColumns>& sums) {
#pragma unroll
  for (int k = 0; k < kColumns / 16; ++k) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float* const pair = sums.at[2 * k + i / 2] + i % 2 * 2;
      left[k][i] = pack_pair<S>(pair[0], pair[1]);
    }
  }
}

// sums += a b, a rounded to S, b kK rows of a tile whose rows are `stride` apart.
template <int kK, int kColumns, typename S>
__device__ __forceinline__ void add_product(Sums<kColumns>& sums, const Sums<kK>& a, const S* b, int stride) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  b += lane % 16 * stride + lane / 16 * 8;
  uint32_t left[kK / 16][4];
  pack_left<S>(left, a);
#pragma unroll
  for (int k = 0; k < kK / 16; ++k) {
#pragma unroll
    for (int n = 0; n < kColumns / 8; n += 2) {
      uint32_t right[4];
      load_matrices_transposed(right, b + 16 * k * stride + 8 * n);
      multiply_16x8x16<S>(sums.at[n], left[k], right[0], right[1]);
      multiply_16x8x16<S>(sums.at[n + 1], left[k], right[2], right[3]);
    }
  }
}

// sums += a^T b, of 16 rows of a and of b, whose rows are so far apart, and 16 columns of a.
template <int kColumns, typename S>
__device__ __forceinline__ void add_transposed_product(Sums<kColumns>& sums, const S* a, int a_stride,
                                                       const S* b, int b_stride) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  uint32_t left[4];
  load_matrices_transposed(left, a + (lane % 8 + lane / 16 * 8) * a_stride + lane / 8 % 2 * 8);
  b += lane % 16 * b_stride + lane / 16 * 8;
#pragma unroll
  for (int n = 0; n < kColumns / 8; n += 2) {
    uint32_t right[4];
    load_matrices_transposed(right, b + 8 * n);
    multiply_16x8x16<S>(sums.at[n], left, right[0], right[1]);
    multiply_16x8x16<S>(sums.at[n + 1], left, right[2], right[3]);
  }
}

// ---- tiles for arithmetic without tensor cores ---------------------------------------------------------------------

// A block is 16 rows of 8 lanes; a lane has every eighth column. An odd distance of rows keeps them in different banks.
constexpr int kPlainRows = 16, kPlainLanes = 8, kPlainThreads = kPlainRows * kPlainLanes;
constexpr int kOddRow(int d) { return d + 1; }

template <int kRows, int kD, typename T, typename Rows>
__device__ __forceinline__ void load_plain_tile(T* tile, const Rows& x, int first, int rows, int d) {
  for (int p = static_cast<int>(threadIdx.x); p < kRows * kD; p += kPlainThreads) {
    const int row = p / kD, column = p % kD;
    const auto* const from = first + row < rows && column < d ? x.at(first + row) : nullptr;
    tile[row * kOddRow(kD) + column] = from != nullptr ? widen(from[column]) : T(0);
  }
}

template <int kD, typename T>
__device__ __forceinline__ T dot(const T* a, const T* b) {
  T sum = 0;
#pragma unroll 8
  for (int i = 0; i < kD; ++i) sum += a[i] * b[i];
  return sum;
}

// ---- host side -----------------------------------------------------------------------------------------------------

// Calls f with the tokens of a short sequence rounded up to one of the sizes that kernels of one pass are compiled for,
// which fit ViT's: 64 + 1, 144 + 1, 196 + 2, 256.
constexpr int kMostTokens = 256;
template <typename F>
void with_tokens(int tokens, F&& f) {
  if (tokens <= 80) return f(std::integral_constant<int, 80>{});
  if (tokens <= 160) return f(std::integral_constant<int, 160>{});
  if (tokens <= 208) return f(std::integral_constant<int, 208>{});
  return f(std::integral_constant<int, kMostTokens>{});
}

// The kernels take their operands and terms from a Kind: this one, or windows on a map (window_attention.h), whose rows
// may be absent: at(i) is null.
struct Strided {
  template <typename S>
  using Heads = cuda::Heads<S>;
  template <typename S>
  using Terms = cuda::Terms<S>;
  static constexpr int kMinBlocks = 0;  // on a multiprocessor, of the forward's: as the compiler likes
  static constexpr bool kOnePass = true;

  // Calls f with the head dimension rounded up to one that kernels are compiled for.
  template <typename F>
  static void with_head_dim(int64_t d, F&& f) {
    if (d <= 32) return f(std::integral_constant<int, 32>{});
    if (d <= 64) return f(std::integral_constant<int, 64>{});
    if (d <= 96) return f(std::integral_constant<int, 96>{});
    if (d <= 128) return f(std::integral_constant<int, 128>{});
    return f(std::integral_constant<int, 256>{});
  }
};

}  // namespace tenon::cuda
