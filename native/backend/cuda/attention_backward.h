// Gradients of attention. The probabilities are computed again, tile by tile, from the log-sum-exp:
//   P = exp(scale q k^T + bias - lse),  D = P with dropout (elements times keep)
//   dv = D^T dout,  dP = (dout v^T) keep,  dS = P (dP - delta) with delta = rowsum(dout out)
//   dq = scale dS k,  dk = scale dS^T q,  dbias = dS summed over the broadcast heads.
//
// Nobody shares a sum, so there are no atomics and the order is fixed: one kernel takes some keys through all queries
// for dk and dv, the same kernel with the roles exchanged takes some queries through all keys for dq, and a third takes a
// tile of scores through the heads that share its dbias. The price is that scores are computed two or three times. With
// X the rows that a block owns and Y those it goes through, both compute X1 Y1^T (scores) and X2 Y2^T (dP), and sum dS Y1:
//   of keys:    X = k, v     Y = q, dout   dk = dS^T q, dv = D^T dout
//   of queries: X = q, dout  Y = k, v      dq = dS k
// Short sequences have a kernel of their own (attention_backward_one_pass.h), which computes them once.
// 16-bit types run on tensor cores, 4 warps of 16 rows of X; the others on the ordinary units, 8 lanes to each of 16 rows.
#pragma once

#include "backend/cuda/attention_backward_one_pass.h"

namespace tenon::cuda::backward {

// The heads that share one [Nq, Nk] of dbias are a group; they are dealt to chunks, each with a sum of its own.
struct Groups {
  int batches = 1, heads = 1;               // dbias is [batches, heads, Nq, Nk]
  int batch_members = 1, head_members = 1;  // of a group
  int chunks = 1;
};

// d rounded up is cut into slices of dk, dv and dq that fit the registers; a block computes one.
template <int kD>
constexpr int kSlice = kD > 128 ? 128 : kD;

// ---- tensor cores --------------------------------------------------------------------------------------------------

constexpr int kWarps = 4, kThreads = kWarps * kWarpSize, kOwn = 16 * kWarps;

constexpr int kOthers = 32;  // more do not fit the registers of the bias kernel
template <int kD>
constexpr size_t kTileBytes = size_t{2 * (kOwn + kOthers)} * kPaddedRow(kD) * 2;

template <typename S, int kD>
struct Tiles {
  S *x1, *x2, *y1, *y2;

  __device__ __forceinline__ Tiles() {
    x1 = shared_memory<S>();
    x2 = x1 + kOwn * kPaddedRow(kD);
    y1 = x2 + kOwn * kPaddedRow(kD);
    y2 = y1 + kOthers * kPaddedRow(kD);
  }
};

// D and dS of the warp's 16 rows of X, of which the block's first is `first_x`, and all rows of Y from `first_y` on.
template <bool kOfKeys, int kD, typename S, typename Terms>
__device__ __forceinline__ void score_gradients(const Tiles<S, kD>& tiles, const Terms& terms,
                                                const float* lse, const float* delta, int first_x,
                                                int first_y, Sums<kOthers>& d, Sums<kOthers>& ds) {
  const int warp_row = static_cast<int>(threadIdx.x) / kWarpSize * 16;
  multiply_rows<kD>(d, tiles.x1 + warp_row * kPaddedRow(kD), tiles.y1);
  multiply_rows<kD>(ds, tiles.x2 + warp_row * kPaddedRow(kD), tiles.y2);
#pragma unroll
  for (int n = 0; n < kOthers / 8; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int x = first_x + warp_row + d.row(e), y = first_y + d.column(n, e);
      const auto g =
          score_gradient(terms, lse, delta, d.at[n][e], ds.at[n][e], kOfKeys ? y : x, kOfKeys ? x : y);
      d.at[n][e] = g.d;
      ds.at[n][e] = g.ds;
    }
  }
}

template <typename Kind, typename S, int kD, bool kOfKeys>
__global__ void __launch_bounds__(kThreads) gradients_on_tensor_cores(const Operands<Kind, S> a, int blocks) {
  if constexpr (!kCanStart<kTileBytes<kD>>) return trap();
  constexpr int kSlices = kD / kSlice<kD>;
  const int block = static_cast<int>(blockIdx.x) / kSlices % blocks;
  const int head = static_cast<int>(blockIdx.x) / kSlices / blocks;
  const int slice = static_cast<int>(blockIdx.x) % kSlices * kSlice<kD>;
  const int b = head / a.terms.heads, h = head % a.terms.heads;
  const auto terms = a.terms.of(b, h);
  const int count_x = kOfKeys ? terms.keys : terms.queries, count_y = kOfKeys ? terms.queries : terms.keys;
  const float* const lse = a.lse + static_cast<int64_t>(head) * terms.queries;
  const float* const delta = a.delta + static_cast<int64_t>(head) * terms.queries;
  const auto y1 = (kOfKeys ? a.q : a.k).of(b, h), y2 = (kOfKeys ? a.dout : a.v).of(b, h);
  const Tiles<S, kD> tiles;
  const int first_x = block * kOwn;
  load_tile<kOwn, kD, kThreads>(tiles.x1, (kOfKeys ? a.k : a.q).of(b, h), first_x, count_x, a.d);
  load_tile<kOwn, kD, kThreads>(tiles.x2, (kOfKeys ? a.v : a.dout).of(b, h), first_x, count_x, a.d);
  Sums<kSlice<kD>> dx1, dx2;
  dx1.clear();
  if constexpr (kOfKeys) dx2.clear();
  for (int first_y = 0; first_y < count_y; first_y += kOthers) {
    load_tile<kOthers, kD, kThreads>(tiles.y1, y1, first_y, count_y, a.d);
    load_tile<kOthers, kD, kThreads>(tiles.y2, y2, first_y, count_y, a.d);
    commit_copies();
    wait_copies<0>();
    __syncthreads();
    Sums<kOthers> d, ds;
    score_gradients<kOfKeys>(tiles, terms, lse, delta, first_x, first_y, d, ds);
    add_product(dx1, ds, tiles.y1 + slice, kPaddedRow(kD));
    if constexpr (kOfKeys) add_product(dx2, d, tiles.y2 + slice, kPaddedRow(kD));
    __syncthreads();  // the next turn overwrites the tiles of Y
  }
  if (count_y == 0) {  // X is on its way to where the sums are written next
    commit_copies();
    wait_copies<0>();
    __syncthreads();
  }
#pragma unroll
  for (auto& four : dx1.at) {
#pragma unroll
    for (float& x : four) x *= terms.scale;
  }
  // By way of the warp's own rows of X, so that rows are written whole.
  const int warp_row = static_cast<int>(threadIdx.x) / kWarpSize * 16;
  const auto store = [&](const Sums<kSlice<kD>>& sums, S* tile, auto to) {
    tile += warp_row * kPaddedRow(kD) + slice;
    sums.store(tile, kPaddedRow(kD));
    __syncwarp();
    store_rows<kSlice<kD>>(tile, kPaddedRow(kD), to.from(slice), first_x + warp_row, count_x, a.d - slice);
  };
  store(dx1, tiles.x1, (kOfKeys ? a.dk : a.dq).of(b, h));
  if constexpr (kOfKeys) store(dx2, tiles.x2, a.dv.of(b, h));
}

// The place of a block of the bias kernels: tiles of keys fastest, then of queries, groups, chunks.
struct BiasPlace {
  int first_query, first_key, group, chunk;
  int first, last;  // members of the group

  __device__ __forceinline__ BiasPlace(const Groups& groups, int rows, int columns, int queries, int keys) {
    const int key_tiles = (keys + columns - 1) / columns, query_tiles = (queries + rows - 1) / rows;
    int at = static_cast<int>(blockIdx.x);
    first_key = at % key_tiles * columns;
    at /= key_tiles;
    first_query = at % query_tiles * rows;
    at /= query_tiles;
    group = at % (groups.batches * groups.heads);
    chunk = at / (groups.batches * groups.heads);
    const int64_t members = static_cast<int64_t>(groups.batch_members) * groups.head_members;
    first = static_cast<int>(members * chunk / groups.chunks);
    last = static_cast<int>(members * (chunk + 1) / groups.chunks);
  }
  __device__ __forceinline__ int batch(const Groups& groups, int member) const {
    return group / groups.heads * groups.batch_members + member / groups.head_members;
  }
  __device__ __forceinline__ int head(const Groups& groups, int member) const {
    return group % groups.heads * groups.head_members + member % groups.head_members;
  }
  template <typename Kind, typename S>
  __device__ __forceinline__ Compute<S>* partial(const Operands<Kind, S>& a, const Groups& groups) const {
    return a.partial + (static_cast<int64_t>(chunk) * groups.batches * groups.heads + group) *
                           a.terms.queries * a.terms.keys;
  }
};

template <typename Kind, typename S, int kD>
__global__ void __launch_bounds__(kThreads, 1)  // else sm_75 spills to hold one more
    bias_gradient_on_tensor_cores(const Operands<Kind, S> a, const Groups groups) {
  if constexpr (!kCanStart<kTileBytes<kD>>) return trap();
  const int queries = a.terms.queries, keys = a.terms.keys;
  const BiasPlace place(groups, kOwn, kOthers, queries, keys);
  const Tiles<S, kD> tiles;
  Sums<kOthers> total;
  total.clear();
  for (int member = place.first; member < place.last; ++member) {
    const int b = place.batch(groups, member), h = place.head(groups, member);
    const int64_t row = (static_cast<int64_t>(b) * a.terms.heads + h) * queries;
    load_tile<kOwn, kD, kThreads>(tiles.x1, a.q.of(b, h), place.first_query, queries, a.d);
    load_tile<kOwn, kD, kThreads>(tiles.x2, a.dout.of(b, h), place.first_query, queries, a.d);
    load_tile<kOthers, kD, kThreads>(tiles.y1, a.k.of(b, h), place.first_key, keys, a.d);
    load_tile<kOthers, kD, kThreads>(tiles.y2, a.v.of(b, h), place.first_key, keys, a.d);
    commit_copies();
    wait_copies<0>();
    __syncthreads();
    Sums<kOthers> d, ds;
    score_gradients<false>(tiles, a.terms.of(b, h), a.lse + row, a.delta + row, place.first_query,
                           place.first_key, d, ds);
#pragma unroll
    for (int n = 0; n < kOthers / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) total.at[n][e] += ds.at[n][e];
    }
    __syncthreads();  // the next turn overwrites the tiles
  }
  float* const to = place.partial(a, groups);
  const int warp_row = static_cast<int>(threadIdx.x) / kWarpSize * 16;
#pragma unroll
  for (int n = 0; n < kOthers / 8; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int i = place.first_query + warp_row + total.row(e), j = place.first_key + total.column(n, e);
      if (i < queries && j < keys) to[static_cast<int64_t>(i) * keys + j] = total.at[n][e];
    }
  }
}

// ---- ordinary units ------------------------------------------------------------------------------------------------

template <typename T>
constexpr int kPlainOthers = 64 / sizeof(T);
template <typename T, int kD>
constexpr size_t kPlainBytes = sizeof(T) * size_t{2 * (kPlainRows + kPlainOthers<T>)*kOddRow(kD) +
                                                  2 * kPlainRows * kOddRow(kPlainOthers<T>)};

template <typename T, int kD>
struct PlainTiles {
  T *x1, *x2, *y1, *y2, *d, *ds;

  __device__ __forceinline__ PlainTiles() {
    x1 = shared_memory<T>();
    x2 = x1 + kPlainRows * kOddRow(kD);
    y1 = x2 + kPlainRows * kOddRow(kD);
    y2 = y1 + kPlainOthers<T> * kOddRow(kD);
    d = y2 + kPlainOthers<T> * kOddRow(kD);
    ds = d + kPlainRows * kOddRow(kPlainOthers<T>);
  }
};

// D and dS of row x and row y of the tiles.
template <bool kOfKeys, int kD, typename Terms, typename T>
__device__ __forceinline__ Gradient<T> plain_gradient(const PlainTiles<T, kD>& tiles, const Terms& terms,
                                                      const T* lse, const T* delta, int first_x, int first_y,
                                                      int x, int y) {
  const T product = dot<kD>(tiles.x1 + x * kOddRow(kD), tiles.y1 + y * kOddRow(kD));
  const T dproduct = dot<kD>(tiles.x2 + x * kOddRow(kD), tiles.y2 + y * kOddRow(kD));
  return score_gradient(terms, lse, delta, product, dproduct, kOfKeys ? first_y + y : first_x + x,
                        kOfKeys ? first_x + x : first_y + y);
}

template <typename Kind, typename S, int kD, bool kOfKeys>
__global__ void __launch_bounds__(kPlainThreads, 1) gradients_plain(const Operands<Kind, S> a, int blocks) {
  using T = Compute<S>;
  constexpr int kSlices = kD / kSlice<kD>, kColumns = kSlice<kD> / kPlainLanes;
  constexpr int kTileOthers = kPlainOthers<T>;
  const int block = static_cast<int>(blockIdx.x) / kSlices % blocks;
  const int head = static_cast<int>(blockIdx.x) / kSlices / blocks;
  const int slice = static_cast<int>(blockIdx.x) % kSlices * kSlice<kD>;
  const int b = head / a.terms.heads, h = head % a.terms.heads;
  const auto terms = a.terms.of(b, h);
  const int count_x = kOfKeys ? terms.keys : terms.queries, count_y = kOfKeys ? terms.queries : terms.keys;
  const T* const lse = a.lse + static_cast<int64_t>(head) * terms.queries;
  const T* const delta = a.delta + static_cast<int64_t>(head) * terms.queries;
  const auto y1 = (kOfKeys ? a.q : a.k).of(b, h), y2 = (kOfKeys ? a.dout : a.v).of(b, h);
  const PlainTiles<T, kD> tiles;
  const int row = static_cast<int>(threadIdx.x) / kPlainLanes,
            lane = static_cast<int>(threadIdx.x) % kPlainLanes;
  const int first_x = block * kPlainRows;
  load_plain_tile<kPlainRows, kD>(tiles.x1, (kOfKeys ? a.k : a.q).of(b, h), first_x, count_x, a.d);
  load_plain_tile<kPlainRows, kD>(tiles.x2, (kOfKeys ? a.v : a.dout).of(b, h), first_x, count_x, a.d);
  T dx1[kColumns] = {}, dx2[kColumns] = {};
  for (int first_y = 0; first_y < count_y; first_y += kTileOthers) {
    load_plain_tile<kTileOthers, kD>(tiles.y1, y1, first_y, count_y, a.d);
    load_plain_tile<kTileOthers, kD>(tiles.y2, y2, first_y, count_y, a.d);
    __syncthreads();
    for (int y = lane; y < kTileOthers; y += kPlainLanes) {
      const auto g = plain_gradient<kOfKeys>(tiles, terms, lse, delta, first_x, first_y, row, y);
      tiles.d[row * kOddRow(kTileOthers) + y] = g.d;
      tiles.ds[row * kOddRow(kTileOthers) + y] = g.ds;
    }
    __syncwarp();  // a row's lanes are of one warp
    for (int y = 0; y < kTileOthers; ++y) {
      const T d = tiles.d[row * kOddRow(kTileOthers) + y], ds = tiles.ds[row * kOddRow(kTileOthers) + y];
      const int begin = y * kOddRow(kD) + slice + lane;
#pragma unroll
      for (int n = 0; n < kColumns; ++n) {
        dx1[n] += ds * tiles.y1[begin + n * kPlainLanes];
        if constexpr (kOfKeys) dx2[n] += d * tiles.y2[begin + n * kPlainLanes];
      }
    }
    __syncthreads();  // the next turn overwrites the tiles of Y
  }
  if (first_x + row >= count_x) return;
  S* const to1 = (kOfKeys ? a.dk : a.dq).of(b, h).at(first_x + row);
  S* const to2 = a.dv.of(b, h).at(first_x + row);
  if (to1 == nullptr) return;
#pragma unroll
  for (int n = 0; n < kColumns; ++n) {
    const int column = slice + lane + n * kPlainLanes;
    if (column >= a.d) continue;
    to1[column] = narrow<S>(dx1[n] * terms.scale);
    if constexpr (kOfKeys) to2[column] = narrow<S>(dx2[n]);
  }
}

template <typename Kind, typename S, int kD>
__global__ void __launch_bounds__(kPlainThreads)
    bias_gradient_plain(const Operands<Kind, S> a, const Groups groups) {
  using T = Compute<S>;
  constexpr int kEach = kPlainOthers<T> / kPlainLanes;
  const int queries = a.terms.queries, keys = a.terms.keys;
  const BiasPlace place(groups, kPlainRows, kPlainOthers<T>, queries, keys);
  const PlainTiles<T, kD> tiles;
  const int row = static_cast<int>(threadIdx.x) / kPlainLanes,
            lane = static_cast<int>(threadIdx.x) % kPlainLanes;
  T total[kEach] = {};
  for (int member = place.first; member < place.last; ++member) {
    const int b = place.batch(groups, member), h = place.head(groups, member);
    const int64_t first = (static_cast<int64_t>(b) * a.terms.heads + h) * queries;
    load_plain_tile<kPlainRows, kD>(tiles.x1, a.q.of(b, h), place.first_query, queries, a.d);
    load_plain_tile<kPlainRows, kD>(tiles.x2, a.dout.of(b, h), place.first_query, queries, a.d);
    load_plain_tile<kPlainOthers<T>, kD>(tiles.y1, a.k.of(b, h), place.first_key, keys, a.d);
    load_plain_tile<kPlainOthers<T>, kD>(tiles.y2, a.v.of(b, h), place.first_key, keys, a.d);
    __syncthreads();
    const auto terms = a.terms.of(b, h);
#pragma unroll
    for (int n = 0; n < kEach; ++n) {
      total[n] += plain_gradient<false>(tiles, terms, a.lse + first, a.delta + first, place.first_query,
                                        place.first_key, row, lane + n * kPlainLanes)
                      .ds;
    }
    __syncthreads();  // the next turn overwrites the tiles
  }
  T* const to = place.partial(a, groups);
#pragma unroll
  for (int n = 0; n < kEach; ++n) {
    const int i = place.first_query + row, j = place.first_key + lane + n * kPlainLanes;
    if (i < queries && j < keys) to[static_cast<int64_t>(i) * keys + j] = total[n];
  }
}

// ---- host side -----------------------------------------------------------------------------------------------------

// How the work of a call is cut, and the scratch that it takes, in elements of T.
struct Plan {
  int64_t heads = 0, queries = 0, keys = 0;  // heads of all batches
  Groups groups;
  int64_t bias_tiles = 0;  // of all groups; 0: no dbias

  int64_t rows() const { return heads * queries; }
  int64_t bias_count() const { return queries * keys * groups.batches * groups.heads; }
  int64_t chunks() const { return bias_tiles > 0 ? groups.chunks : 0; }
  int64_t scratch_count() const { return 2 * rows() + chunks() * bias_count(); }
};

// dbias is [bias_batches, bias_heads, queries, keys], or absent where these are 0.
template <typename Kind, typename S>
Plan make_plan(Queue& queue, int64_t batch, int64_t heads, int64_t queries, int64_t keys,
               int64_t bias_batches, int64_t bias_heads) {
  Plan plan{.heads = batch * heads, .queries = queries, .keys = keys, .groups = {}};
  if (plan.heads == 0 || bias_batches * bias_heads == 0) return plan;
  Groups& groups = plan.groups;
  groups.batches = static_cast<int>(bias_batches);
  groups.heads = static_cast<int>(bias_heads);
  groups.batch_members = static_cast<int>(batch / bias_batches);
  groups.head_members = static_cast<int>(heads / bias_heads);
  constexpr int kRows = kOnTensorCores<S> ? kOwn : kPlainRows,
                kColumns = kOnTensorCores<S> ? kOthers : kPlainOthers<Compute<S>>;
  plan.bias_tiles = blocks_for(queries, kRows) * blocks_for(keys, kColumns) * bias_batches * bias_heads;
  if (plan.bias_tiles == 0) return plan;
  // As many chunks as give every multiprocessor two blocks.
  groups.chunks = static_cast<int>(std::min<int64_t>(
      plan.heads / groups.batches / groups.heads, blocks_for(2 * queue.multiprocessors(), plan.bias_tiles)));
  return plan;
}

// dq, dk, dv and the partial sums of dbias; `scratch` is as the plan says.
template <typename Kind, typename S>
void start(Queue& queue, const char* op, Operands<Kind, S>& a, const Plan& plan, Compute<S>* scratch) {
  using T = Compute<S>;
  constexpr int kRows = kOnTensorCores<S> ? kOwn : kPlainRows;
  a.lse = scratch;
  a.delta = a.lse + plan.rows();
  a.partial = a.delta + plan.rows();
  if (plan.rows() > 0) {
    launch(queue, op, &row_products<Kind, S>, blocks_for(plan.rows(), kDeltaWarps), kDeltaWarps * kWarpSize,
           0, a, plan.rows());
  }
  Kind::with_head_dim(a.d, [&]<int kD>(std::integral_constant<int, kD>) {
    const auto run = [&](auto kernel, int64_t blocks, const auto&... last) {
      if (blocks == 0) return;
      constexpr size_t kBytes = kOnTensorCores<S> ? kTileBytes<kD> : kPlainBytes<T, kD>;
      launch(queue, op, kernel, blocks, kOnTensorCores<S> ? kThreads : kPlainThreads, kBytes, a, last...);
    };
    constexpr int64_t kSlices = kD / kSlice<kD>;
    const auto key_blocks = static_cast<int>(blocks_for(plan.keys, kRows)),
               query_blocks = static_cast<int>(blocks_for(plan.queries, kRows));
    if constexpr (kOnTensorCores<S>) {
      if constexpr (Kind::kOnePass) {
        if (start_in_one_pass<kD>(queue, op, a, plan.heads)) return;
      }
      run(&gradients_on_tensor_cores<Kind, S, kD, true>, plan.heads * key_blocks * kSlices, key_blocks);
      run(&gradients_on_tensor_cores<Kind, S, kD, false>, plan.heads * query_blocks * kSlices, query_blocks);
      run(&bias_gradient_on_tensor_cores<Kind, S, kD>, plan.bias_tiles * plan.groups.chunks, plan.groups);
    } else {
      run(&gradients_plain<Kind, S, kD, true>, plan.heads * key_blocks * kSlices, key_blocks);
      run(&gradients_plain<Kind, S, kD, false>, plan.heads * query_blocks * kSlices, query_blocks);
      run(&bias_gradient_plain<Kind, S, kD>, plan.bias_tiles * plan.groups.chunks, plan.groups);
    }
  });
}

}  // namespace tenon::cuda::backward
