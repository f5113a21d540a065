// Attention's gradients by Hopper's own instructions (docs/adr/0008-attention-on-hopper.md). As in attention_backward.h, nobody
// shares a sum, so that there are no atomics and the order is fixed, and scores are computed twice:
//   of keys:     a warpgroup has 64 keys and goes through all queries; S^T = k q^T and dP^T = v dout^T are made in registers,
//                where P^T and dS^T are the left operands of dv += P^T dout and dk += dS^T q;
//   of queries:  it has 64 queries and goes through all keys; S = q k^T, dP = dout v^T, dq += dS k.
// With X the rows that a warpgroup owns and Y those it goes through, both are S = X1 Y1^T, dP = X2 Y2^T, dX1 += dS Y1, and of
// keys dX2 += P Y2. Nothing passes through shared memory but the operands, which the copy engine writes. There are
//   short  up to 208 tokens of up to 64 features: a block is one warpgroup, which has q, k, v and dout of a head in shared
//          memory and does all of its work; two blocks share a multiprocessor, so that one loads or exponentiates while the
//          other multiplies;
//   long   a kernel of keys and one of queries: a thread brings tiles of Y to a ring, two warpgroups take them.
#include "backend/cuda/attention_hopper.h"
#include "backend/cuda/attention_warpgroup.h"

namespace tenon::cuda {
namespace {

constexpr const char* kOp = "attentionBackward";

constexpr int kTermRows = 64;

template <typename S>
struct Backward {
  Heads<const S> out, dout;
  Heads<S> dx1, dx2;  // of keys: dk, dv; of queries: dq
  const float* lse;   // [B, H, Nq]
  float* row_terms;   // [B * H, term_tiles, 2, kTermRows]
  int heads, queries, keys, d;
  float scale;
  int term_tiles;  // of a head
  int blocks;      // of a head

  __device__ __forceinline__ float* tile_terms(int head, int tile) const {
    return row_terms + (static_cast<int64_t>(head) * term_tiles + tile) * 2 * kTermRows;
  }
};

// ---- what a score's gradient takes from its query ------------------------------------------------------------------

// For each 64 queries of a head, 64 log-sum-exps, as powers of two, and 64 deltas (rowsum(dout out)): a piece that one copy
// brings. Queries that are not there have an infinite log-sum-exp, so that their probabilities are 0.
constexpr int kTermLanes = 8, kTermThreads = 256;  // 8 lanes to a row, each 8 of its features at a time

template <typename S>
__global__ void __launch_bounds__(kTermThreads) row_terms(const Backward<S> a, int64_t rows) {
  constexpr int kWidth = kFullWidth<S>;
  const int64_t row =
      (static_cast<int64_t>(blockIdx.x) * kTermThreads + static_cast<int>(threadIdx.x)) / kTermLanes;
  if (row >= rows) return;  // a whole warp: rows are a multiple of 64
  const int head_rows = a.term_tiles * kTermRows;
  const auto head = static_cast<int>(row / head_rows), i = static_cast<int>(row % head_rows);
  const int lane = static_cast<int>(threadIdx.x) % kTermLanes;
  float delta = 0;
  if (i < a.queries) {
    const S* const out = a.out.of(head / a.heads, head % a.heads).at(i);
    const S* const dout = a.dout.of(head / a.heads, head % a.heads).at(i);
    for (int c = lane * kWidth; c < a.d; c += kTermLanes * kWidth) {
      const auto x = *reinterpret_cast<const Pack<S, kWidth>*>(out + c);
      const auto y = *reinterpret_cast<const Pack<S, kWidth>*>(dout + c);
#pragma unroll
      for (int e = 0; e < kWidth; ++e) delta += widen(x.elements[e]) * widen(y.elements[e]);
    }
  }
  delta = sum_over_lanes<kTermLanes>(delta);
  if (lane != 0) return;
  float* const to = a.tile_terms(head, i / kTermRows) + i % kTermRows;
  to[0] = i < a.queries ? a.lse[static_cast<int64_t>(head) * a.queries + i] * kLog2E : -kMinusInfinity<float>;
  to[kTermRows] = delta;
}

// ---- a tile of scores ----------------------------------------------------------------------------------------------

// Starts sums = a b^T of 64 rows of a and kRows of b, from these on, and closes the group.
template <typename S, int kRows, int kRowsA, int kRowsB, int kD>
__device__ __forceinline__ void start_product(Sums<kRows>& sums, const Tile<kRowsA, kD>& a, int first_a,
                                              const Tile<kRowsB, kD>& b, int first_b) {
#pragma unroll
  for (int i = 0; i < kD / 16; ++i) multiply_tiles<S>(sums.at, a.rows(first_a, i), b.rows(first_b, i), i > 0);
  commit_products();
}

// Starts sums += a b, of the 16 kSteps rows of b from `first` on, which 16 divides.
template <typename S, int kSteps, int kRowsB, int kD>
__device__ __forceinline__ void start_sum(Sums<kD>& sums, const uint32_t (&a)[kSteps][4],
                                          const Tile<kRowsB, kD>& b, int first) {
#pragma unroll
  for (int i = 0; i < kSteps; ++i) multiply_registers<S>(sums.at, a[i], b.columns(first / 16 + i), true);
}

// Of a thread's elements of S, or of S^T of keys, the probabilities; of a tile of which there are so many rows of Y.
template <bool kOfKeys, int kRows, typename Lse>
__device__ __forceinline__ void to_probabilities(Sums<kRows>& scores, float scale, int rows, const Lse& lse) {
#pragma unroll
  for (int n = 0; n < kRows / 8; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      float& s = scores.at[n][e];
      s = power_of_two(s * scale - lse(n, e));
    }
  }
  if (!kOfKeys &&
      rows < kRows) {  // the score of a key that is not there is 0, which may have any probability
#pragma unroll
    for (int n = 0; n < kRows / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        if (scores.column(n, e) >= rows) scores.at[n][e] = 0;
      }
    }
  }
}

// dS from dP.
template <int kRows, typename Delta>
__device__ __forceinline__ void to_score_gradients(Sums<kRows>& ds, const Sums<kRows>& p,
                                                   const Delta& delta) {
#pragma unroll
  for (int n = 0; n < kRows / 8; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) ds.at[n][e] = p.at[n][e] * (ds.at[n][e] - delta(n, e));
  }
}

// ---- short ---------------------------------------------------------------------------------------------------------

constexpr int kShortD = 64, kShortBlocks = 2;
constexpr int kFewTokens = 80, kManyTokens = 208;  // what is compiled: 64 + 1, and 196 + 2, by tiles of 16
using ShortSums = Sums<kShortD>;

// A block's memory: k, v, q and dout of a head. The last 64 rows of X reach beyond a tile: into the next one, and beyond dout
// into the rest, which has the rows' terms. What comes of those rows is not written.
template <int kTokens>
struct ShortMemory {
  using All = Tile<kTokens, kShortD>;
  static constexpr int kTiles = (kTokens + kGroupRows - 1) / kGroupRows;
  static constexpr int kRest = 4 * All::kBytes, kBarrier = kRest + 2 * kTokens * 4;
  static constexpr size_t kBytes = 3 * All::kBytes + kTiles * kGroupRows * kBoxColumns * 2;
  static_assert(kBarrier + sizeof(Mbarrier) <= kBytes &&
                kRest + (kTokens + kTiles * kGroupRows) * 4 <= kBytes);
  unsigned char* data;

  __device__ __forceinline__ All tile(int which) const { return {data + which * All::kBytes}; }
  __device__ __forceinline__ All k() const { return tile(0); }
  __device__ __forceinline__ All v() const { return tile(1); }
  __device__ __forceinline__ All q() const { return tile(2); }
  __device__ __forceinline__ All dout() const { return tile(3); }
  __device__ __forceinline__ float* lse() const { return reinterpret_cast<float*>(data + kRest); }
  __device__ __forceinline__ float* delta() const { return lse() + kTokens; }
  __device__ __forceinline__ Mbarrier& full() const { return *reinterpret_cast<Mbarrier*>(data + kBarrier); }
};

// Adds to the sums of the 64 rows of X from first_x on what comes of the kRows rows of Y from first_y on. The sums' last
// products may still run at its end.
template <typename S, bool kOfKeys, int kRows, int kTokens>
__device__ __forceinline__ void add_rows(ShortSums& dx1, ShortSums& dx2, const ShortMemory<kTokens>& memory,
                                         float scale, int first_x, int first_y, int keys) {
  const auto x1 = kOfKeys ? memory.k() : memory.q(), x2 = kOfKeys ? memory.v() : memory.dout();
  const auto y1 = kOfKeys ? memory.q() : memory.k(), y2 = kOfKeys ? memory.dout() : memory.v();
  Sums<kRows> p, ds;
  uint32_t p_left[kRows / 16][4], ds_left[kRows / 16][4];
  fence_products();
  start_product<S>(p, x1, first_x, y1, first_y);
  start_product<S>(ds, x2, first_x, y2, first_y);
  wait_for_products<1>();
  pin(p.at);
  const auto term = [&](const float* of) {
    return [&p, first_x, first_y, of](int n, int e) {
      return of[kOfKeys ? first_y + p.column(n, e) : first_x + first_row_of_thread() + e / 2 * 8];
    };
  };
  to_probabilities<kOfKeys>(p, scale, keys - first_y, term(memory.lse()));
  wait_for_products<0>();
  pin(ds.at);
  to_score_gradients(ds, p, term(memory.delta()));
  if constexpr (kOfKeys) pack_left<S>(p_left, p);
  pack_left<S>(ds_left, ds);
  fence_products();
  if constexpr (kOfKeys) start_sum<S>(dx2, p_left, y2, first_y);
  start_sum<S>(dx1, ds_left, y1, first_y);
  commit_products();
}

template <typename S, bool kOfKeys, int kTokens>
__device__ __forceinline__ void differentiate_short(const Backward<S>& a, const ShortMemory<kTokens>& memory,
                                                    int b, int h, int first_x) {
  const int count_x = kOfKeys ? a.keys : a.queries, count_y = kOfKeys ? a.queries : a.keys;
  const float scale = a.scale * kLog2E;
  ShortSums dx1, dx2;
  dx1.clear();
  if constexpr (kOfKeys) dx2.clear();
  pin(dx1.at);
  if constexpr (kOfKeys) pin(dx2.at);
  if constexpr (kTokens == kFewTokens) {
    add_rows<S, kOfKeys, kFewTokens>(dx1, dx2, memory, scale, first_x, 0, a.keys);
  } else {
    static_assert(kTokens == kManyTokens);
    add_rows<S, kOfKeys, 64>(dx1, dx2, memory, scale, first_x, 0, a.keys);
    add_rows<S, kOfKeys, 64>(dx1, dx2, memory, scale, first_x, 64, a.keys);
    if (count_y > 128) add_rows<S, kOfKeys, kManyTokens - 128>(dx1, dx2, memory, scale, first_x, 128, a.keys);
  }
  wait_for_products<0>();
  pin(dx1.at);
  const float by_scale[2] = {a.scale, a.scale}, by_one[2] = {1, 1};
  write_rows(dx1, by_scale, a.dx1.of(b, h), first_x, count_x, a.d);
  if constexpr (kOfKeys) {
    pin(dx2.at);
    write_rows(dx2, by_one, a.dx2.of(b, h), first_x, count_x, a.d);
  }
}

// One block to a head where there are many heads, else several that share its rows of keys and of queries.
template <typename S, int kTokens>
__global__ void __launch_bounds__(kWarpgroup, kShortBlocks)
    gradients_short(const __grid_constant__ TensorMap q_map, const __grid_constant__ TensorMap k_map,
                    const __grid_constant__ TensorMap v_map, const __grid_constant__ TensorMap dout_map,
                    const Backward<S> of_keys, const Heads<S> dq) {
  const ShortMemory<kTokens> memory{swizzled_shared_memory()};
  const int head = static_cast<int>(blockIdx.x) / of_keys.blocks, b = head / of_keys.heads,
            h = head % of_keys.heads;
  Mbarrier& full = memory.full();
  if (threadIdx.x == 0) {
    full.init(1);
    fence_async_proxy();
    full.arrive_and_expect(4 * memory.q().kBytes + 2 * kTokens * 4);
    memory.k().load(k_map, 0, h, b, full);
    memory.q().load(q_map, 0, h, b, full);
    memory.v().load(v_map, 0, h, b, full);
    memory.dout().load(dout_map, 0, h, b, full);
#pragma unroll
    for (int tile = 0; tile < memory.kTiles; ++tile) {
      const float* const from = of_keys.tile_terms(head, tile);
      const int rows = min_of(kTermRows, kTokens - tile * kTermRows);
      load_bytes(memory.lse() + tile * kTermRows, from, rows * 4, full);
      load_bytes(memory.delta() + tile * kTermRows, from + kTermRows, rows * 4, full);
    }
  }
  __syncthreads();
  full.wait(0);
  const int key_tiles = (of_keys.keys + kGroupRows - 1) / kGroupRows;
  const int units = key_tiles + (of_keys.queries + kGroupRows - 1) / kGroupRows;
#pragma unroll 1
  for (int unit = static_cast<int>(blockIdx.x) % of_keys.blocks; unit < units; unit += of_keys.blocks) {
    if (unit < key_tiles) {
      differentiate_short<S, true>(of_keys, memory, b, h, unit * kGroupRows);
    } else {
      Backward<S> of_queries = of_keys;
      of_queries.dx1 = dq;
      differentiate_short<S, false>(of_queries, memory, b, h, (unit - key_tiles) * kGroupRows);
    }
  }
}

// ---- long ----------------------------------------------------------------------------------------------------------

constexpr int kGroups = 2, kOwn = kGroups * kGroupRows, kStages = 3;
// Rows of Y at once: as many as the registers hold beside the sums of dX.
template <int kD, bool kOfKeys>
constexpr int kOthers = kD > 64 ? (kOfKeys ? 32 : 64) : (kOfKeys ? 64 : 128);

// A block's memory: X1 and X2 of each warpgroup; a ring of tiles of Y1 and Y2, and of keys what a score's gradient takes from
// its query, which are full when their bytes have come, and empty when all warps have read them.
template <int kD, int kRows>
struct Memory {
  using Own = Tile<kGroupRows, kD>;
  using Other = Tile<kRows, kD>;
  static constexpr int kRing = 2 * kGroups * Own::kBytes, kTerms = kRing + 2 * kStages * Other::kBytes;
  static constexpr int kTileTerms = 2 * kRows * 4, kBarriers = kTerms + kStages * kTileTerms;
  static constexpr size_t kBytes = kBarriers + (1 + 2 * kStages) * sizeof(Mbarrier);
  unsigned char* data;

  __device__ __forceinline__ Own x1(int group) const { return {data + 2 * group * Own::kBytes}; }
  __device__ __forceinline__ Own x2(int group) const { return {data + (2 * group + 1) * Own::kBytes}; }
  __device__ __forceinline__ Other y1(int stage) const { return {data + kRing + 2 * stage * Other::kBytes}; }
  __device__ __forceinline__ Other y2(int stage) const {
    return {data + kRing + (2 * stage + 1) * Other::kBytes};
  }
  __device__ __forceinline__ float* lse(int stage) const {
    return reinterpret_cast<float*>(data + kTerms + stage * kTileTerms);
  }
  __device__ __forceinline__ float* delta(int stage) const { return lse(stage) + kRows; }
  __device__ __forceinline__ Mbarrier* barriers() const {
    return reinterpret_cast<Mbarrier*>(data + kBarriers);
  }
  __device__ __forceinline__ Mbarrier& x_full() const { return barriers()[0]; }
  __device__ __forceinline__ Mbarrier& full(int stage) const { return barriers()[1 + stage]; }
  __device__ __forceinline__ Mbarrier& empty(int stage) const { return barriers()[1 + kStages + stage]; }
};

// The gradients of a warpgroup's 64 rows of X, by all of Y.
template <typename S, int kD, bool kOfKeys, int kRows>
__device__ __forceinline__ void differentiate(const Backward<S>& a, const Memory<kD, kRows>& memory,
                                              int group, int head, int first, int tiles) {
  const auto parity = [](int tile) { return tile / kStages % 2; };
  const auto x1 = memory.x1(group), x2 = memory.x2(group);
  const float scale = a.scale * kLog2E;
  float row_lse[2] = {}, row_delta[2] = {};  // of queries: of the thread's rows
  if constexpr (!kOfKeys) {
    const float* const from = a.tile_terms(head, first / kTermRows) + first_row_of_thread();
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      row_lse[r] = from[8 * r];
      row_delta[r] = from[kTermRows + 8 * r];
    }
  }
  Sums<kD> dx1, dx2;
  dx1.clear();
  if constexpr (kOfKeys) dx2.clear();
  Sums<kRows> p, ds;
  uint32_t p_left[kRows / 16][4], ds_left[kRows / 16][4];
  const auto lse_of = [&](int s) {
    return
        [&, from = memory.lse(s)](int n, int e) { return kOfKeys ? from[p.column(n, e)] : row_lse[e / 2]; };
  };
  const auto delta_of = [&](int s) {
    return [&, from = memory.delta(s)](int n, int e) {
      return kOfKeys ? from[p.column(n, e)] : row_delta[e / 2];
    };
  };

  memory.x_full().wait(0);
  memory.full(0).wait(0);
  fence_products();
  start_product<S>(p, x1, 0, memory.y1(0), 0);
  start_product<S>(ds, x2, 0, memory.y2(0), 0);
  wait_for_products<0>();
  pin(p.at);
  pin(ds.at);
  to_probabilities<kOfKeys>(p, scale, a.keys, lse_of(0));
  to_score_gradients(ds, p, delta_of(0));
  if constexpr (kOfKeys) pack_left<S>(p_left, p);
  pack_left<S>(ds_left, ds);
  for (int t = 1; t < tiles; ++t) {
    const int s = t % kStages, before = (t - 1) % kStages;
    pin(dx1.at);
    if constexpr (kOfKeys) pin(dx2.at);
    memory.full(s).wait(parity(t));
    fence_products();
    start_product<S>(p, x1, 0, memory.y1(s), 0);
    start_product<S>(ds, x2, 0, memory.y2(s), 0);
    if constexpr (kOfKeys) start_sum<S>(dx2, p_left, memory.y2(before), 0);
    start_sum<S>(dx1, ds_left, memory.y1(before), 0);
    commit_products();
    wait_for_products<2>();
    pin(p.at);
    to_probabilities<kOfKeys>(p, scale, a.keys - t * kRows, lse_of(s));
    wait_for_products<1>();
    pin(ds.at);
    to_score_gradients(ds, p, delta_of(s));
    wait_for_products<0>();
    pin(dx1.at);
    if constexpr (kOfKeys) pin(dx2.at);
    if constexpr (kOfKeys) {  // ordinary loads have read lse and delta, which the next copy overwrites
      fence_async_proxy();
      __syncwarp();
    }
    if (threadIdx.x % kWarpSize == 0) memory.empty(before).arrive();
    if constexpr (kOfKeys) pack_left<S>(p_left, p);
    pack_left<S>(ds_left, ds);
  }
  pin(dx1.at);
  if constexpr (kOfKeys) pin(dx2.at);
  fence_products();
  if constexpr (kOfKeys) start_sum<S>(dx2, p_left, memory.y2((tiles - 1) % kStages), 0);
  start_sum<S>(dx1, ds_left, memory.y1((tiles - 1) % kStages), 0);
  commit_products();
  wait_for_products<0>();
  pin(dx1.at);
  if constexpr (kOfKeys) pin(dx2.at);
  const int b = head / a.heads, h = head % a.heads, count = kOfKeys ? a.keys : a.queries;
  const float by_scale[2] = {a.scale, a.scale}, by_one[2] = {1, 1};
  write_rows(dx1, by_scale, a.dx1.of(b, h), first, count, a.d);
  if constexpr (kOfKeys) write_rows(dx2, by_one, a.dx2.of(b, h), first, count, a.d);
}

template <typename S, int kD, bool kOfKeys>
__global__ void __launch_bounds__(kThreadsOf<kGroups>, 1)
    gradients(const __grid_constant__ TensorMap x1_map, const __grid_constant__ TensorMap x2_map,
              const __grid_constant__ TensorMap y1_map, const __grid_constant__ TensorMap y2_map,
              const Backward<S> a) {
  constexpr int kRows = kOthers<kD, kOfKeys>;
  const Memory<kD, kRows> memory{swizzled_shared_memory()};
  const int head = static_cast<int>(blockIdx.x) / a.blocks, b = head / a.heads, h = head % a.heads;
  const int block_x = static_cast<int>(blockIdx.x) % a.blocks * kOwn;
  const int count_x = kOfKeys ? a.keys : a.queries, count_y = kOfKeys ? a.queries : a.keys;
  const int tiles = (count_y + kRows - 1) / kRows;
  const int groups = min_of((count_x - block_x + kGroupRows - 1) / kGroupRows, kGroups);  // with rows
  if (threadIdx.x == 0) {
    memory.x_full().init(1);
    for (int s = 0; s < kStages; ++s) {
      memory.full(s).init(1);
      memory.empty(s).init(4 * groups);  // a thread of each warp
    }
    fence_async_proxy();
  }
  __syncthreads();
  const int group = warpgroup_index();
  if (group == kGroups) {
    leave_registers<kLeastRegisters<kGroups>>();
    if (threadIdx.x != kGroups * kWarpgroup) return;
    memory.x_full().arrive_and_expect(2 * groups * memory.x1(0).kBytes);
    for (int g = 0; g < groups; ++g) {
      memory.x1(g).load(x1_map, block_x + g * kGroupRows, h, b, memory.x_full());
      memory.x2(g).load(x2_map, block_x + g * kGroupRows, h, b, memory.x_full());
    }
    for (int t = 0; t < tiles; ++t) {
      const int s = t % kStages, first = t * kRows;
      memory.empty(s).wait(t / kStages % 2 ^ 1);
      memory.full(s).arrive_and_expect(2 * memory.y1(s).kBytes + (kOfKeys ? memory.kTileTerms : 0));
      memory.y1(s).load(y1_map, first, h, b, memory.full(s));
      memory.y2(s).load(y2_map, first, h, b, memory.full(s));
      if constexpr (kOfKeys) {
        const float* const from = a.tile_terms(head, first / kTermRows) + first % kTermRows;
        load_bytes(memory.lse(s), from, kRows * 4, memory.full(s));
        load_bytes(memory.delta(s), from + kTermRows, kRows * 4, memory.full(s));
      }
    }
  } else {
    take_registers<kMostRegisters<kGroups>>();
    if (group < groups) {
      differentiate<S, kD, kOfKeys>(a, memory, group, head, block_x + group * kGroupRows, tiles);
    }
  }
}

// ---- host side -----------------------------------------------------------------------------------------------------

template <typename S>
void start(const AttentionBackwardArgs& args, Queue& queue) {
  const int64_t heads = args.q.size(0) * args.q.size(1), queries = args.q.size(2), keys = args.k.size(2);
  const int tokens = static_cast<int>(std::max(queries, keys));
  const bool is_short = args.q.size(3) <= kShortD && tokens <= kManyTokens, is_few = tokens <= kFewTokens;
  // A short sequence's block takes the terms of all its tokens, whether they are there or not.
  const int64_t term_rows = !is_short ? queries : is_few ? kFewTokens : kManyTokens;
  const auto term_tiles = static_cast<int>(blocks_for(term_rows, kTermRows));
  const int64_t rows = heads * term_tiles * kTermRows;
  Backward<S> a{Heads<const S>(args.out),
                Heads<const S>(args.dout),
                Heads<S>(args.dk),
                Heads<S>(args.dv),
                args.lse.as<const float>(),
                static_cast<float*>(queue.scratch(static_cast<size_t>(rows) * 2 * sizeof(float))),
                static_cast<int>(args.q.size(1)),
                static_cast<int>(queries),
                static_cast<int>(keys),
                static_cast<int>(args.q.size(3)),
                static_cast<float>(args.scale),
                term_tiles,
                0};
  launch(queue, kOp, &row_terms<S>, blocks_for(rows * kTermLanes, kTermThreads), kTermThreads, 0, a, rows);
  const auto run_short = [&]<int kTokens>(std::integral_constant<int, kTokens>) {
    const int64_t units = blocks_for(keys, kGroupRows) + blocks_for(queries, kGroupRows);
    a.blocks =
        static_cast<int>(std::min(units, blocks_for(int64_t{kShortBlocks} * queue.multiprocessors(), heads)));
    const auto map = [](const View& x) { return make_map(kOp, x, kTokens); };
    launch(queue, kOp, &gradients_short<S, kTokens>, heads * a.blocks, kWarpgroup,
           ShortMemory<kTokens>::kBytes, map(args.q), map(args.k), map(args.v), map(args.dout), a,
           Heads<S>(args.dq));
  };
  if (is_short && is_few) return run_short(std::integral_constant<int, kFewTokens>{});
  if (is_short) return run_short(std::integral_constant<int, kManyTokens>{});
  const auto run = [&]<int kD>(std::integral_constant<int, kD>) {
    const auto own = [](const View& x) { return make_map(kOp, x, kGroupRows); };
    const auto start_one = [&]<bool kOfKeys>(std::bool_constant<kOfKeys>, int64_t count, const View& x1,
                                             const View& x2, const View& y1, const View& y2) {
      constexpr int kRows = kOthers<kD, kOfKeys>;
      a.blocks = static_cast<int>(blocks_for(count, kOwn));
      launch(queue, kOp, &gradients<S, kD, kOfKeys>, heads * a.blocks, kThreadsOf<kGroups>,
             Memory<kD, kRows>::kBytes, own(x1), own(x2), make_map(kOp, y1, kRows), make_map(kOp, y2, kRows),
             a);
    };
    start_one(std::true_type{}, keys, args.k, args.v, args.q, args.dout);
    a.dx1 = Heads<S>(args.dq);
    start_one(std::false_type{}, queries, args.q, args.dout, args.k, args.v);
  };
  if (a.d <= 64) return run(std::integral_constant<int, 64>{});
  run(std::integral_constant<int, 128>{});
}

}  // namespace

bool attention_backward_on_hopper(const AttentionBackwardArgs& args, Queue& queue) {
  if (!suits_hopper(kOp, args) || !takes_writes(args.out) || !takes_map(args.dout) ||
      !takes_writes(args.dq) || !takes_writes(args.dk) || !takes_writes(args.dv)) {
    return false;
  }
  with_16_bit_type(args.q.dtype, [&]<typename S>(S) { start<S>(args, queue); });
  return true;
}

}  // namespace tenon::cuda
