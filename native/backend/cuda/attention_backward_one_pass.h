// dq, dk and dv of short sequences without bias, mask or dropout, by one block to a head that holds q, k, v and dout whole
// in shared memory (docs/adr/0007-attention-tiling.md). First each warp takes 16 keys through all queries: dk and dv stay
// in its registers, dS goes to shared memory, keys by queries. Then each takes 16 queries, and sums dq = scale dS k over
// all keys: every product is computed once, and no sum is shared.
#pragma once

#include "backend/cuda/attention_gradients.h"

namespace tenon::cuda::backward {

template <int kD, int kTokens>
constexpr size_t kOnePassBytes = size_t{4 * kTokens} * kPaddedRow(kD) * 2 +
                                 size_t{kTokens} * kPaddedRow(kTokens) * 2 + size_t{2 * kTokens} * 4;

template <typename S, int kD, int kTokens>
__global__ void __launch_bounds__(2 * kTokens, 1)  // a warp to 16 tokens; else sm_80 spills to hold one more
    gradients_in_one_pass(const Operands<Strided, S> a) {
  if constexpr (!kCanStart<kOnePassBytes<kD, kTokens>>) return trap();
  constexpr int kThreads = 2 * kTokens, kRow = kPaddedRow(kD), kTile = kTokens * kRow;
  constexpr int kScoreRow = kPaddedRow(kTokens);
  S* const q = shared_memory<S>();
  S* const k = q + kTile;
  S* const v = k + kTile;
  S* const dout = v + kTile;
  S* const all_ds = dout + kTile;
  float* const lse = reinterpret_cast<float*>(all_ds + kTokens * kScoreRow);
  float* const delta = lse + kTokens;
  const int head = static_cast<int>(blockIdx.x);
  const int b = head / a.terms.heads, h = head % a.terms.heads;
  const int queries = a.terms.queries, keys = a.terms.keys;
  const OnlyScale terms{a.terms.scale, keys};
  load_tile<kTokens, kD, kThreads>(q, a.q.of(b, h), 0, queries, a.d);
  load_tile<kTokens, kD, kThreads>(k, a.k.of(b, h), 0, keys, a.d);
  load_tile<kTokens, kD, kThreads>(v, a.v.of(b, h), 0, keys, a.d);
  load_tile<kTokens, kD, kThreads>(dout, a.dout.of(b, h), 0, queries, a.d);
  commit_copies();
  for (int i = static_cast<int>(threadIdx.x); i < kTokens; i += kThreads) {
    const int64_t row = static_cast<int64_t>(head) * queries + i;
    lse[i] = i < queries ? a.lse[row] : -kMinusInfinity<float>;  // its probabilities are 0
    delta[i] = i < queries ? a.delta[row] : 0.0f;
  }
  wait_copies<0>();
  __syncthreads();

  const int own = static_cast<int>(threadIdx.x) / kWarpSize * 16;  // the warp's first key, later query
  const auto scale = [&](Sums<kD>& sums) {
#pragma unroll
    for (auto& four : sums.at) {
#pragma unroll
      for (float& x : four) x *= terms.scale;
    }
  };
  // By way of the warp's own rows of a tile that nobody reads any more, so that rows are written whole.
  const auto store = [&](const Sums<kD>& sums, S* tile, const auto& to, int rows) {
    sums.store(tile + own * kRow, kRow);
    __syncwarp();
    store_rows<kD>(tile + own * kRow, kRow, to, own, rows, a.d);
    __syncwarp();
  };
  if (own < keys) {
    Sums<kD> dk, dv;
    dk.clear();
    dv.clear();
    for (int i = 0; i < queries; i += 16) {
      Sums<16> d, ds;
      multiply_rows<kD>(d, k + own * kRow, q + i * kRow);
      multiply_rows<kD>(ds, v + own * kRow, dout + i * kRow);
#pragma unroll
      for (int n = 0; n < 2; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const auto g =
              score_gradient(terms, lse, delta, d.at[n][e], ds.at[n][e], i + d.column(n, e), own + d.row(e));
          d.at[n][e] = g.d;
          ds.at[n][e] = g.ds;
        }
      }
      add_product(dv, d, dout + i * kRow, kRow);
      add_product(dk, ds, q + i * kRow, kRow);
      ds.store(all_ds + own * kScoreRow + i, kScoreRow);
    }
    scale(dk);
    store(dv, v, a.dv.of(b, h), keys);
    store(dk, v, a.dk.of(b, h), keys);
  }
  __syncthreads();
  if (own < queries) {
    Sums<kD> dq;
    dq.clear();
    for (int j = 0; j < keys; j += 16) {
      add_transposed_product(dq, all_ds + j * kScoreRow + own, kScoreRow, k + j * kRow, kRow);
    }
    scale(dq);
    store(dq, q, a.dq.of(b, h), queries);
  }
}

// Starts it where it is the better kernel: there is more than one tile of 64 for the others, and a block fits a multiprocessor.
template <int kD, typename S>
bool start_in_one_pass(Queue& queue, const char* op, const Operands<Strided, S>& a, int64_t heads) {
  const int tokens = std::max(a.terms.queries, a.terms.keys);
  if (heads == 0 || !a.terms.only_scales() || tokens <= 64 || tokens > kMostTokens) return false;
  bool fits = false;
  with_tokens(tokens, [&]<int kTokens>(std::integral_constant<int, kTokens>) {
    constexpr size_t kBytes = kOnePassBytes<kD, kTokens>;
    if constexpr (kD <= 64 && fits_multiprocessor(1, kBytes, kMostShared)) {
      fits = fits_multiprocessor(1, kBytes, shared_of_multiprocessor(op));
      if (fits) {
        launch(queue, op, &gradients_in_one_pass<S, kD, kTokens>, heads, 2 * kTokens, kBytes, a);
      }
    }
  });
  return fits;
}

}  // namespace tenon::cuda::backward
