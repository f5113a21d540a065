// Attention without the matrix of scores (Dao, "FlashAttention-2", arXiv:2307.08691, algorithm 1): a block takes some
// queries of a head through all keys, a tile at a time, and keeps the softmax's running maximum m, denominator l and the
// unnormalised output in registers:
//   m' = max(m, max_j s_j),  l' = exp(m - m') l + sum_j exp(s_j - m'),  o' = exp(m - m') o + sum_j exp(s_j - m') v_j.
//
// 16-bit types run on tensor cores: 4 warps of 16 queries. The next tiles of k and v come in while the present ones are
// worked on, so the memory traffic is q, out and, for each 64 queries, k and v, which the cache holds. Scores stay in the
// registers of the product that made them, in the layout that the next one takes.
//
// float32 and float64 run on the ordinary units, 16 queries to a block, 8 lanes to a query.
#pragma once

#include "backend/cuda/attention.h"

namespace tenon::cuda::forward {

template <typename Kind, typename S>
struct Operands {
  using Rows = typename Kind::template Heads<const S>;
  using Terms = typename Kind::template Terms<S>;
  Rows q, k, v;
  typename Kind::template Heads<S> out;
  typename Kind::template Heads<Compute<S>> lse;  // rows of one
  Terms terms;
  int d, query_blocks;
};

// ---- tensor cores --------------------------------------------------------------------------------------------------

constexpr int kWarps = 4, kThreads = kWarps * kWarpSize, kQueries = 16 * kWarps;

// Two tiles of k and of v beside q stay within the 64 KiB of sm_75, and for the largest heads within the 99 of sm_86.
template <int kD>
constexpr int kKeys = kD > 64 ? 32 : 64;
template <int kD>
constexpr size_t kTileBytes = size_t{kQueries + 4 * kKeys<kD>} * kPaddedRow(kD) * 2;

template <typename Kind, typename S, int kD>
__global__ void __launch_bounds__(kThreads, Kind::kMinBlocks)
    forward_on_tensor_cores(const Operands<Kind, S> a) {
  if constexpr (!kCanStart<kTileBytes<kD>>) return trap();
  constexpr int kTile = kKeys<kD> * kPaddedRow(kD);
  S* const q_tile = shared_memory<S>();
  S* const k_tiles = q_tile + kQueries * kPaddedRow(kD);
  S* const v_tiles = k_tiles + 2 * kTile;
  const int head = static_cast<int>(blockIdx.x) / a.query_blocks;
  const int b = head / a.terms.heads, h = head % a.terms.heads;
  const int block_query = static_cast<int>(blockIdx.x) % a.query_blocks * kQueries;
  const int warp_row = static_cast<int>(threadIdx.x) / kWarpSize * 16, first_query = block_query + warp_row;
  const auto terms = a.terms.of(b, h);
  const int queries = terms.queries, keys = terms.keys;
  const auto k = a.k.of(b, h), v = a.v.of(b, h);

  load_tile<kQueries, kD, kThreads>(q_tile, a.q.of(b, h), block_query, queries, a.d);
  const auto load_keys = [&](int first, int stage) {
    load_tile<kKeys<kD>, kD, kThreads>(k_tiles + stage * kTile, k, first, keys, a.d);
    load_tile<kKeys<kD>, kD, kThreads>(v_tiles + stage * kTile, v, first, keys, a.d);
  };
  load_keys(0, 0);
  commit_copies();

  Sums<kD> out;
  out.clear();
  float most[2] = {kMinusInfinity<float>, kMinusInfinity<float>}, total[2] = {0, 0};  // of rows g and g + 8
  for (int first = 0, stage = 0; first < keys; first += kKeys<kD>, stage ^= 1) {
    if (first + kKeys<kD> < keys) load_keys(first + kKeys<kD>, stage ^ 1);
    commit_copies();
    wait_copies<1>();
    __syncthreads();
    Sums<kKeys<kD>> scores;
    multiply_rows<kD>(scores, q_tile + warp_row * kPaddedRow(kD), k_tiles + stage * kTile);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float largest = most[r];
#pragma unroll
      for (int n = 0; n < kKeys<kD> / 8; ++n) {
#pragma unroll
        for (int e = 2 * r; e < 2 * r + 2; ++e) {
          float& s = scores.at[n][e];
          s = terms.score(s, first_query + scores.row(e), first + scores.column(n, e));
          largest = fmaxf(largest, s);
        }
      }
      largest = max_over_lanes<4>(largest);
      const float shift = shift_of(largest), factor = exp_score(most[r] - shift);
      most[r] = largest;
      total[r] *= factor;
#pragma unroll
      for (int n = 0; n < kD / 8; ++n) {
        out.at[n][2 * r] *= factor;
        out.at[n][2 * r + 1] *= factor;
      }
#pragma unroll
      for (int n = 0; n < kKeys<kD> / 8; ++n) {
#pragma unroll
        for (int e = 2 * r; e < 2 * r + 2; ++e) {
          float& p = scores.at[n][e];
          p = exp_score(p - shift);
          total[r] += p;
          p *= terms.keep(first_query + scores.row(e), first + scores.column(n, e));
        }
      }
    }
    add_product(out, scores, v_tiles + stage * kTile, kPaddedRow(kD));
    __syncthreads();  // the next turn overwrites these tiles
  }

  if (keys == 0) {
    wait_copies<0>();
    __syncthreads();
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    total[r] = sum_over_lanes<4>(total[r]);
    const float inverse = total[r] == 0 ? 0.0f : 1 / total[r];
#pragma unroll
    for (int n = 0; n < kD / 8; ++n) {
      out.at[n][2 * r] *= inverse;
      out.at[n][2 * r + 1] *= inverse;
    }
    const int i = first_query + out.row(2 * r);
    if (threadIdx.x % 4 == 0 && i < queries) {
      if (float* const to = a.lse.of(b, h).at(i)) *to = most[r] + logf(total[r]);
    }
  }
  // By way of the warp's own rows of q, so that rows are written whole.
  out.store(q_tile + warp_row * kPaddedRow(kD), kPaddedRow(kD));
  __syncwarp();
  store_rows<kD>(q_tile + warp_row * kPaddedRow(kD), kPaddedRow(kD), a.out.of(b, h), first_query, queries,
                 a.d);
}

// ---- ordinary units ------------------------------------------------------------------------------------------------

template <typename T>
constexpr int kPlainKeys = 128 / sizeof(T);
template <typename T, int kD>
constexpr size_t kPlainBytes = sizeof(T) * size_t{(kPlainRows + kPlainKeys<T>)*kOddRow(kD) +
                                                  kPlainRows * kOddRow(kPlainKeys<T>)};

template <typename Kind, typename S, int kD>
__global__ void __launch_bounds__(kPlainThreads) forward_plain(const Operands<Kind, S> a) {
  using T = Compute<S>;
  constexpr int kTileKeys = kPlainKeys<T>, kOwn = kTileKeys / kPlainLanes;
  T* const q_tile = shared_memory<T>();
  T* const tile = q_tile + kPlainRows * kOddRow(kD);  // k and v in turn
  T* const p_tile = tile + kTileKeys * kOddRow(kD);
  const int head = static_cast<int>(blockIdx.x) / a.query_blocks;
  const int b = head / a.terms.heads, h = head % a.terms.heads;
  const int block_query = static_cast<int>(blockIdx.x) % a.query_blocks * kPlainRows;
  const int row = static_cast<int>(threadIdx.x) / kPlainLanes,
            lane = static_cast<int>(threadIdx.x) % kPlainLanes;
  const int i = block_query + row;
  const auto terms = a.terms.of(b, h);
  const auto k = a.k.of(b, h), v = a.v.of(b, h);
  T* const p_row = p_tile + row * kOddRow(kTileKeys);

  load_plain_tile<kPlainRows, kD>(q_tile, a.q.of(b, h), block_query, terms.queries, a.d);
  T out[kD / kPlainLanes] = {};
  T most = kMinusInfinity<T>, total = 0;
  for (int first = 0; first < terms.keys; first += kTileKeys) {
    load_plain_tile<kTileKeys, kD>(tile, k, first, terms.keys, a.d);
    __syncthreads();
    T scores[kOwn], largest = most;
#pragma unroll
    for (int n = 0; n < kOwn; ++n) {
      const int j = lane + n * kPlainLanes;
      scores[n] = terms.score(dot<kD>(q_tile + row * kOddRow(kD), tile + j * kOddRow(kD)), i, first + j);
      largest = scores[n] > largest ? scores[n] : largest;
    }
    largest = max_over_lanes<kPlainLanes>(largest);
    const T shift = shift_of(largest), factor = exp_score(most - shift);
    most = largest;
    total *= factor;
#pragma unroll
    for (int n = 0; n < kOwn; ++n) {
      const int j = lane + n * kPlainLanes;
      const T p = exp_score(scores[n] - shift);
      total += p;
      p_row[j] = p * terms.keep(i, first + j);
    }
    __syncthreads();  // k has been read
    load_plain_tile<kTileKeys, kD>(tile, v, first, terms.keys, a.d);
    __syncthreads();
#pragma unroll
    for (int n = 0; n < kD / kPlainLanes; ++n) {
      out[n] *= factor;
      for (int j = 0; j < kTileKeys; ++j) out[n] += p_row[j] * tile[j * kOddRow(kD) + lane + n * kPlainLanes];
    }
    __syncthreads();  // v and p have been read
  }
  total = sum_over_lanes<kPlainLanes>(total);
  if (i >= terms.queries) return;
  const T inverse = total == 0 ? T(0) : 1 / total;
  S* const to = a.out.of(b, h).at(i);
  if (to == nullptr) return;
#pragma unroll
  for (int n = 0; n < kD / kPlainLanes; ++n) {
    const int column = lane + n * kPlainLanes;
    if (column < a.d) to[column] = narrow<S>(out[n] * inverse);
  }
  if (lane == 0) *a.lse.of(b, h).at(i) = most + log(total);
}

// ---- host side -----------------------------------------------------------------------------------------------------

// Blocks of the queries of a head.
template <typename S>
int query_blocks(int64_t queries) {
  return blocks_for(queries, kOnTensorCores<S> ? kQueries : kPlainRows);
}

// Over `heads` heads, all batches counted.
template <typename Kind, typename S>
void start(Queue& queue, const char* op, const Operands<Kind, S>& a, int64_t heads) {
  if (heads * a.query_blocks == 0) return;
  const auto grid = static_cast<unsigned>(heads * a.query_blocks);
  Kind::with_head_dim(a.d, [&]<int kD>(std::integral_constant<int, kD>) {
    if constexpr (kOnTensorCores<S>) {
      launch(queue, op, &forward_on_tensor_cores<Kind, S, kD>, grid, kThreads, kTileBytes<kD>, a);
    } else {
      launch(queue, op, &forward_plain<Kind, S, kD>, grid, kPlainThreads, kPlainBytes<Compute<S>, kD>, a);
    }
  });
}

}  // namespace tenon::cuda::forward
