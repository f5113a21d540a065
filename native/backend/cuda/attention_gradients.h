// What the kernels of attention's gradients share: operands, the gradient of a score, and the rows' sums that it takes.
#pragma once

#include "backend/cuda/attention.h"

namespace tenon::cuda::backward {

template <typename Kind, typename S>
struct Operands {
  using T = Compute<S>;
  using Rows = typename Kind::template Heads<const S>;
  using Terms = typename Kind::template Terms<S>;
  Rows q, k, v, out, dout;
  typename Kind::template Heads<S> dq, dk, dv;
  typename Kind::template Heads<const T> all_lse;  // rows of one
  Terms terms;
  int d;
  // Set by `start`:
  T* lse = nullptr;      // [B, H, Nq]
  T* delta = nullptr;    // [B, H, Nq]
  T* partial = nullptr;  // [chunks, groups, Nq, Nk]: sums of dbias
};

// One element of the scores: D and dS.
template <typename T>
struct Gradient {
  T d, ds;
};

// Of query i and key j of a head, whose lse and delta are given.
template <typename Terms, typename T>
__device__ __forceinline__ Gradient<T> score_gradient(const Terms& terms, const T* lse, const T* delta,
                                                      T product, T dproduct, int i, int j) {
  const T score = terms.score(product, i, j);
  if (score == kMinusInfinity<T>) return {T(0), T(0)};
  const T p = exp_score(score - lse[i]), keep = terms.keep(i, j);
  return {p * keep, p * (dproduct * keep - delta[i])};
}

// delta = rowsum(dout out), and lse, in the order of heads: a warp to a row. A query that is absent has an infinite lse:
// its probabilities are 0.
constexpr int kDeltaWarps = 4;

template <typename Kind, typename S>
__global__ void __launch_bounds__(kDeltaWarps* kWarpSize)
    row_products(const Operands<Kind, S> a, int64_t rows) {
  const int64_t row =
      static_cast<int64_t>(blockIdx.x) * kDeltaWarps + static_cast<int>(threadIdx.x) / kWarpSize;
  if (row >= rows) return;  // a whole warp
  const int head = static_cast<int>(row / a.terms.queries), i = static_cast<int>(row % a.terms.queries);
  const int b = head / a.terms.heads, h = head % a.terms.heads;
  const S* const out = a.out.of(b, h).at(i);
  const S* const dout = a.dout.of(b, h).at(i);
  const Compute<S>* const lse = a.all_lse.of(b, h).at(i);
  Compute<S> sum = 0;
  for (int c = static_cast<int>(threadIdx.x) % kWarpSize; c < a.d && lse != nullptr; c += kWarpSize) {
    sum += widen(out[c]) * widen(dout[c]);
  }
  sum = sum_over_warp(sum);
  if (threadIdx.x % kWarpSize != 0) return;
  a.delta[row] = sum;
  a.lse[row] = lse != nullptr ? *lse : -kMinusInfinity<Compute<S>>;
}

}  // namespace tenon::cuda::backward
