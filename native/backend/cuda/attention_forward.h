// Attention without the matrix of scores (Dao, "FlashAttention-2", arXiv:2307.08691, algorithm 1): a block takes some
// queries of a head through all keys, a tile at a time, and keeps the softmax's running maximum m, denominator l and the
// unnormalised output in registers:
//   m' = max(m, max_j s_j),  l' = exp(m - m') l + sum_j exp(s_j - m'),  o' = exp(m - m') o + sum_j exp(s_j - m') v_j.
//
// 16-bit types run on tensor cores, 4 warps of 16 queries. Scores stay in the registers of the product that made them, in
// the layout that the next one takes. There are two kernels, whose arithmetic is in docs/adr/0007-attention-tiling.md:
//   one pass  up to 256 tokens without bias, mask or dropout: a block holds k and v of a head whole, and a warp all scores
//             of 16 queries, so their maximum is known at once. Tokens are rounded up to few tiles of 16.
//   online    as above. The next tiles of k and v come in while the present ones are worked on, so the memory traffic is
//             q, out and, for each 64 queries, k and v, which the cache holds.
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
  int d;
  int query_blocks = 0;  // of a head; set by `start`
};

// ---- tensor cores --------------------------------------------------------------------------------------------------

constexpr int kWarps = 4, kThreads = kWarps * kWarpSize, kQueries = 16 * kWarps;

// Softmax over the scores of a warp's rows lane / 4 and lane / 4 + 8, some columns at a time.
struct RunningSoftmax {
  float most[2] = {kMinusInfinity<float>, kMinusInfinity<float>}, total[2] = {0, 0};
  float factor[2];  // what sums of earlier columns are to be multiplied by

  // Products of queries first_query .. and keys first_key .. become scores, and these probabilities times the total.
  template <int kColumns, typename Terms>
  __device__ __forceinline__ void add(Sums<kColumns>& scores, const Terms& terms, int first_query,
                                      int first_key) {
#pragma unroll
    for (int n = 0; n < kColumns / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        float& s = scores.at[n][e];
        s = terms.score(s, first_query + scores.row(e), first_key + scores.column(n, e));
      }
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float largest = most[r];
#pragma unroll
      for (auto& four : scores.at) largest = fmaxf(largest, fmaxf(four[2 * r], four[2 * r + 1]));
      largest = max_over_lanes<4>(largest);
      const float shift = shift_of(largest);
      factor[r] = exp_score(most[r] - shift);
      most[r] = largest;
      total[r] *= factor[r];
#pragma unroll
      for (auto& four : scores.at) {
#pragma unroll
        for (int e = 2 * r; e < 2 * r + 2; ++e) total[r] += four[e] = exp_score(four[e] - shift);
      }
    }
    if (terms.drop_below == 0) return;
    const Terms drops = terms.dropping();
#pragma unroll
    for (int n = 0; n < kColumns / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        scores.at[n][e] *= drops.keep(first_query + scores.row(e), first_key + scores.column(n, e));
      }
    }
  }
};

// Divides a warp's sums by their totals and writes them, by way of 16 rows of a tile so that rows are written whole, and
// the log-sum-exps.
template <typename Kind, typename S, int kD>
__device__ __forceinline__ void write_rows(const Operands<Kind, S>& a, int b, int h, int first_query,
                                           RunningSoftmax& softmax, Sums<kD>& out, S* tile) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const float total = sum_over_lanes<4>(softmax.total[r]), inverse = total == 0 ? 0.0f : 1 / total;
#pragma unroll
    for (auto& four : out.at) {
      four[2 * r] *= inverse;
      four[2 * r + 1] *= inverse;
    }
    const int i = first_query + out.row(2 * r);
    if (threadIdx.x % 4 == 0 && i < a.terms.queries) {
      if (float* const to = a.lse.of(b, h).at(i)) *to = softmax.most[r] + logf(total);
    }
  }
  out.store(tile, kPaddedRow(kD));
  __syncwarp();
  store_rows<kD>(tile, kPaddedRow(kD), a.out.of(b, h), first_query, a.terms.queries, a.d);
}

// ---- one pass ------------------------------------------------------------------------------------------------------

template <int kD, int kColumns>
constexpr size_t kOnePassBytes = size_t{2 * kColumns + kQueries} * kPaddedRow(kD) * 2;

// One block to a head where there are many heads, else several that share its queries.
template <typename Kind, typename S, int kD, int kColumns>
__global__ void __launch_bounds__(kThreads) forward_in_one_pass(const Operands<Kind, S> a) {
  if constexpr (!kCanStart<kOnePassBytes<kD, kColumns>>) return trap();
  constexpr int kTile = kColumns * kPaddedRow(kD);
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  S* const k_tile = shared_memory<S>();
  S* const v_tile = k_tile + kTile;
  S* const q_tile = v_tile + kTile + warp * 16 * kPaddedRow(kD);  // the warp's own
  const int head = static_cast<int>(blockIdx.x) / a.query_blocks;
  const int b = head / a.terms.heads, h = head % a.terms.heads;
  const auto terms = a.terms.of(b, h);
  load_tile<kColumns, kD, kThreads>(k_tile, a.k.of(b, h), 0, terms.keys, a.d);
  load_tile<kColumns, kD, kThreads>(v_tile, a.v.of(b, h), 0, terms.keys, a.d);
  commit_copies();
  wait_copies<0>();
  __syncthreads();
  int first_query = (static_cast<int>(blockIdx.x) % a.query_blocks * kWarps + warp) * 16;
  for (; first_query < terms.queries; first_query += a.query_blocks * kQueries) {
    load_tile<16, kD, kWarpSize>(q_tile, a.q.of(b, h), first_query, terms.queries, a.d);
    commit_copies();
    wait_copies<0>();
    __syncwarp();
    Sums<kColumns> scores;
    multiply_rows<kD>(scores, q_tile, k_tile);
    RunningSoftmax softmax;
    softmax.add(scores, OnlyScale{terms.scale, terms.keys}, first_query, 0);
    Sums<kD> out;
    out.clear();
    add_product(out, scores, v_tile, kPaddedRow(kD));
    write_rows(a, b, h, first_query, softmax, out, q_tile);
    __syncwarp();  // the next turn overwrites the tile
  }
}

// ---- online --------------------------------------------------------------------------------------------------------

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
  RunningSoftmax softmax;
  for (int first = 0, stage = 0; first < keys; first += kKeys<kD>, stage ^= 1) {
    if (first + kKeys<kD> < keys) load_keys(first + kKeys<kD>, stage ^ 1);
    commit_copies();
    wait_copies<1>();
    __syncthreads();
    Sums<kKeys<kD>> scores;
    multiply_rows<kD>(scores, q_tile + warp_row * kPaddedRow(kD), k_tiles + stage * kTile);
    softmax.add(scores, terms, first_query, first);
#pragma unroll
    for (auto& four : out.at) {
#pragma unroll
      for (int e = 0; e < 4; ++e) four[e] *= softmax.factor[e / 2];
    }
    add_product(out, scores, v_tiles + stage * kTile, kPaddedRow(kD));
    __syncthreads();  // the next turn overwrites these tiles
  }

  if (keys == 0) {
    wait_copies<0>();
    __syncthreads();
  }
  write_rows(a, b, h, first_query, softmax, out, q_tile + warp_row * kPaddedRow(kD));  // its own rows of q
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

// Calls f with the one-pass kernel's number of columns, where it is the better one: the other would need more than one
// tile, and two blocks fit a multiprocessor, so that one loads while the other works.
template <int kD, typename Terms, typename F>
bool in_one_pass(const char* op, const Terms& terms, F&& f) {
  const int keys = terms.keys;
  if (!terms.only_scales() || std::max(terms.queries, keys) > kMostTokens || keys <= kKeys<kD>) return false;
  bool fits = false;
  with_tokens(keys, [&]<int kColumns>(std::integral_constant<int, kColumns> columns) {
    constexpr size_t kBytes = kOnePassBytes<kD, kColumns>;
    if constexpr (fits_multiprocessor(2, kBytes, kMostShared)) {
      fits = fits_multiprocessor(2, kBytes, shared_of_multiprocessor(op));
      if (fits) f(columns);
    }
  });
  return fits;
}

// Over `heads` heads, all batches counted.
template <typename Kind, typename S>
void start(Queue& queue, const char* op, Operands<Kind, S> a, int64_t heads) {
  const int queries = a.terms.queries;
  if (heads * queries == 0) return;
  const auto run = [&](auto kernel, int64_t query_blocks, int threads, size_t bytes) {
    a.query_blocks = static_cast<int>(query_blocks);
    launch(queue, op, kernel, heads * query_blocks, threads, bytes, a);
  };
  Kind::with_head_dim(a.d, [&]<int kD>(std::integral_constant<int, kD>) {
    if constexpr (kOnTensorCores<S>) {
      const int64_t query_blocks = blocks_for(queries, kQueries);
      if constexpr (Kind::kOnePass) {
        const int64_t blocks = heads < 2 * queue.multiprocessors() ? query_blocks : 1;
        if (in_one_pass<kD>(op, a.terms, [&]<int kColumns>(std::integral_constant<int, kColumns>) {
              run(&forward_in_one_pass<Kind, S, kD, kColumns>, blocks, kThreads, kOnePassBytes<kD, kColumns>);
            })) {
          return;
        }
      }
      run(&forward_on_tensor_cores<Kind, S, kD>, query_blocks, kThreads, kTileBytes<kD>);
    } else {
      run(&forward_plain<Kind, S, kD>, blocks_for(queries, kPlainRows), kPlainThreads,
          kPlainBytes<Compute<S>, kD>);
    }
  });
}

}  // namespace tenon::cuda::forward
