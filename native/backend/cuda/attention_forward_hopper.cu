// Attention's forward pass by Hopper's own instructions (docs/adr/0008-attention-on-hopper.md): products of warpgroups, 64
// queries each, whose operands the copy engine brings. Two kernels:
//   short  up to 256 keys of up to 64 features: a block is one warpgroup, which has all scores of 64 queries in registers
//          and needs no running maximum. k and v of the head stay in shared memory. Blocks on a multiprocessor take turns:
//          one loads or exponentiates while another multiplies.
//   long   a thread brings tiles of keys and values to a ring of two stages; two or three warpgroups take them. The product
//          of the next scores and that of the present probabilities with the values run while exponentials are computed
//          (Shah et al., "FlashAttention-3", arXiv:2407.08608, algorithm 2).
#include "backend/cuda/attention_hopper.h"
#include "backend/cuda/attention_warpgroup.h"

namespace tenon::cuda {
namespace {

constexpr const char* kOp = "attention";

template <typename S>
struct Forward {
  Heads<S> out;
  float* lse;  // [B, H, Nq]
  int heads, queries, keys, d;
  float scale;
  int query_blocks;  // of a head
};

// Softmax over the scores of a thread's two rows, some columns at a time. Maxima are those of the products, before they are
// scaled: an exponential takes one multiplication and addition.
struct WarpgroupSoftmax {
  float scale;  // to powers of two
  float most[2] = {kMinusInfinity<float>, kMinusInfinity<float>}, total[2] = {0, 0};
  float factor[2] = {0, 0};  // what sums of earlier columns are to be multiplied by

  // Products of `keys` keys become probabilities times the total, and 0 beyond. There are at least kLeast keys.
  template <int kLeast, int kColumns>
  __device__ __forceinline__ void add(Sums<kColumns>& scores, int keys) {
    if (keys < kColumns) {
#ifdef __CUDA_ARCH__
      asm volatile("" : "+r"(keys));  // else comparisons that a loop around this repeats stay in registers
#endif
#pragma unroll
      for (int n = kLeast / 8; n < kColumns / 8; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          if (scores.column(n, e) >= keys) scores.at[n][e] = kMinusInfinity<float>;
        }
      }
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float largest[2] = {most[r], most[r]};  // two chains, neither waits for the other
#pragma unroll
      for (int n = 0; n < kColumns / 8; ++n) {
#pragma unroll
        for (int e = 0; e < 2; ++e) largest[e] = fmaxf(largest[e], scores.at[n][2 * r + e]);
      }
      const float now = max_over_lanes<4>(fmaxf(largest[0], largest[1]));
      const float reference = shift_of(now), shift = reference * scale;
      // The difference first: most * scale - shift would be fused, and of an unchanged maximum leave shift's rounding error.
      factor[r] = power_of_two((most[r] - reference) * scale);
      most[r] = now;
      float sum[2] = {total[r] * factor[r], 0};
#pragma unroll
      for (int n = 0; n < kColumns / 8; ++n) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float& s = scores.at[n][2 * r + e];
          sum[e] += s = power_of_two(s * scale - shift);
        }
      }
      total[r] = sum[0] + sum[1];
    }
  }
};

// Divides a warpgroup's sums by their totals and writes them, and the log-sum-exps.
template <typename S, int kD>
__device__ __forceinline__ void write_output(const Forward<S>& a, int head, int first_query,
                                             const WarpgroupSoftmax& softmax, const Sums<kD>& out) {
  float inverse[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const float total = sum_over_lanes<4>(softmax.total[r]);
    inverse[r] = total == 0 ? 0.0f : 1 / total;
    const int i = first_query + first_row_of_thread() + 8 * r;
    if (threadIdx.x % 4 == 0 && i < a.queries) {
      a.lse[static_cast<int64_t>(head) * a.queries + i] = softmax.most[r] * a.scale + logf(total);
    }
  }
  write_rows(out, inverse, a.out.of(head / a.heads, head % a.heads), first_query, a.queries, a.d);
}

// ---- short ---------------------------------------------------------------------------------------------------------

constexpr int kShortD = 64;
// With the scores in registers, as many blocks as the registers allow. The sizes between are those for which the assembler
// finds registers for three: at 160 it does not.
template <int kKeys>
constexpr int kShortBlocks = kKeys > 208 ? 2 : 3;
template <int kKeys>
constexpr size_t kShortBytes = 2 * Tile<kKeys, kShortD>::kBytes + Tile<kGroupRows, kShortD>::kBytes +
                               3 * sizeof(Mbarrier);

// More than kLeast keys, up to kKeys. One block to a head where there are many heads, else several that share its queries.
template <typename S, int kLeast, int kKeys>
__global__ void __launch_bounds__(kWarpgroup, kShortBlocks<kKeys>)
    forward_short(const __grid_constant__ TensorMap q_map, const __grid_constant__ TensorMap k_map,
                  const __grid_constant__ TensorMap v_map, const Forward<S> a) {
  const Tile<kKeys, kShortD> k{swizzled_shared_memory()}, v{k.data + k.kBytes};
  const Tile<kGroupRows, kShortD> q{v.data + v.kBytes};
  auto* const barriers = reinterpret_cast<Mbarrier*>(q.data + q.kBytes);
  Mbarrier &q_full = barriers[0], &k_full = barriers[1], &v_full = barriers[2];
  const int head = static_cast<int>(blockIdx.x) / a.query_blocks, b = head / a.heads, h = head % a.heads;
  const int tiles = (a.queries + kGroupRows - 1) / kGroupRows;
  int tile = static_cast<int>(blockIdx.x) % a.query_blocks;
  const auto load_queries = [&] {
    q_full.arrive_and_expect(q.kBytes);
    q.load(q_map, tile * kGroupRows, h, b, q_full);
  };
  if (threadIdx.x == 0) {
    q_full.init(1);
    k_full.init(1);
    v_full.init(1);
    fence_async_proxy();
    load_queries();
    k_full.arrive_and_expect(k.kBytes);
    k.load(k_map, 0, h, b, k_full);
    v_full.arrive_and_expect(v.kBytes);
    v.load(v_map, 0, h, b, v_full);
  }
  __syncthreads();
  k_full.wait(0);
#pragma unroll 1
  for (int turn = 0; tile < tiles; ++turn) {
    Sums<kKeys> scores;
    q_full.wait(turn % 2);
    fence_products();
#pragma unroll
    for (int i = 0; i < kShortD / 16; ++i) multiply_tiles<S>(scores.at, q.rows(0, i), k.rows(0, i), i > 0);
    commit_products();
    wait_for_products<0>();
    pin(scores.at);
    const int first_query = tile * kGroupRows;
    tile += a.query_blocks;
    __syncthreads();  // all warps are done with q
    if (threadIdx.x == 0 && tile < tiles) load_queries();

    WarpgroupSoftmax softmax{a.scale * kLog2E};
    softmax.template add<kLeast>(scores, a.keys);
    uint32_t p[kKeys / 16][4];
    Sums<kShortD> out;
    pack_left<S>(p, scores);
    v_full.wait(0);
    fence_products();
#pragma unroll
    for (int i = 0; i < kKeys / 16; ++i) multiply_registers<S>(out.at, p[i], v.columns(i), i > 0);
    commit_products();
    wait_for_products<0>();
    pin(out.at);
    write_output(a, head, first_query, softmax, out);
  }
}

// ---- long ----------------------------------------------------------------------------------------------------------

constexpr int kStages = 2, kLongKeys = 128;
template <int kD>
constexpr int kGroups = kD > 64 ? 2 : 3;
template <int kD>
constexpr int kLongQueries = kGroups<kD>* kGroupRows;
template <int kD>
constexpr size_t kLongBytes = kGroups<kD>* Tile<kGroupRows, kD>::kBytes +
                              2 * kStages* Tile<kLongKeys, kD>::kBytes + (1 + 4 * kStages) * sizeof(Mbarrier);

// Starts scores = q k^T, and closes the group.
template <typename S, int kD>
__device__ __forceinline__ void start_scores(Sums<kLongKeys>& scores, const Tile<kGroupRows, kD>& q,
                                             const Tile<kLongKeys, kD>& k) {
  fence_products();
#pragma unroll
  for (int i = 0; i < kD / 16; ++i) multiply_tiles<S>(scores.at, q.rows(0, i), k.rows(0, i), i > 0);
  commit_products();
}

// Starts out += p v, and closes the group.
template <typename S, int kD>
__device__ __forceinline__ void start_output(Sums<kD>& out, const uint32_t (&p)[kLongKeys / 16][4],
                                             const Tile<kLongKeys, kD>& v) {
  fence_products();
#pragma unroll
  for (int i = 0; i < kLongKeys / 16; ++i) multiply_registers<S>(out.at, p[i], v.columns(i), true);
  commit_products();
}

// A block's memory: q of each warpgroup, and a ring of tiles of k and of v, which are full when their bytes have come, and
// empty when all warps have read them.
template <int kD>
struct LongMemory {
  using Queries = Tile<kGroupRows, kD>;
  using Keys = Tile<kLongKeys, kD>;
  unsigned char* data;

  __device__ __forceinline__ Queries q(int group) const { return {data + group * Queries::kBytes}; }
  __device__ __forceinline__ Keys k(int stage) const {
    return {data + kGroups<kD> * Queries::kBytes + stage * Keys::kBytes};
  }
  __device__ __forceinline__ Keys v(int stage) const { return k(kStages + stage); }
  __device__ __forceinline__ Mbarrier* barriers() const {
    return reinterpret_cast<Mbarrier*>(k(2 * kStages).data);
  }
  __device__ __forceinline__ Mbarrier& q_full() const { return barriers()[0]; }
  __device__ __forceinline__ Mbarrier& k_full(int stage) const { return barriers()[1 + stage]; }
  __device__ __forceinline__ Mbarrier& v_full(int stage) const { return barriers()[1 + kStages + stage]; }
  __device__ __forceinline__ Mbarrier& k_empty(int stage) const {
    return barriers()[1 + 2 * kStages + stage];
  }
  __device__ __forceinline__ Mbarrier& v_empty(int stage) const {
    return barriers()[1 + 3 * kStages + stage];
  }
};

// A warpgroup's 64 queries through all keys.
template <typename S, int kD>
__device__ __forceinline__ void attend(const Forward<S>& a, const LongMemory<kD>& memory, int group, int head,
                                       int first_query, int tiles) {
  const auto parity = [](int tile) { return tile / kStages % 2; };
  const auto release = [](Mbarrier& empty) {
    if (threadIdx.x % kWarpSize == 0) empty.arrive();
  };
  const auto q = memory.q(group);
  Sums<kLongKeys> scores;
  Sums<kD> out;
  uint32_t p[kLongKeys / 16][4];
  WarpgroupSoftmax softmax{a.scale * kLog2E};
  out.clear();
  memory.q_full().wait(0);
  memory.k_full(0).wait(0);
  start_scores<S>(scores, q, memory.k(0));
  wait_for_products<0>();
  pin(scores.at);
  release(memory.k_empty(0));
  softmax.add<0>(scores, a.keys);
  pack_left<S>(p, scores);
  for (int t = 1; t < tiles; ++t) {
    const int s = t % kStages, before = (t - 1) % kStages;
    pin(out.at);
    memory.k_full(s).wait(parity(t));
    start_scores<S>(scores, q, memory.k(s));
    memory.v_full(before).wait(parity(t - 1));
    start_output<S>(out, p, memory.v(before));
    wait_for_products<1>();
    pin(scores.at);
    release(memory.k_empty(s));
    softmax.add<0>(scores, a.keys - t * kLongKeys);
    wait_for_products<0>();
    pin(out.at);
    release(memory.v_empty(before));
#pragma unroll
    for (int n = 0; n < kD / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) out.at[n][e] *= softmax.factor[e / 2];
    }
    pack_left<S>(p, scores);
  }
  pin(out.at);
  memory.v_full((tiles - 1) % kStages).wait(parity(tiles - 1));
  start_output<S>(out, p, memory.v((tiles - 1) % kStages));
  wait_for_products<0>();
  pin(out.at);
  write_output(a, head, first_query, softmax, out);
}

template <typename S, int kD>
__global__ void __launch_bounds__(kThreadsOf<kGroups<kD>>, 1)
    forward_long(const __grid_constant__ TensorMap q_map, const __grid_constant__ TensorMap k_map,
                 const __grid_constant__ TensorMap v_map, const Forward<S> a) {
  constexpr int kConsumers = kGroups<kD>;
  const LongMemory<kD> memory{swizzled_shared_memory()};
  const int head = static_cast<int>(blockIdx.x) / a.query_blocks, b = head / a.heads, h = head % a.heads;
  const int block_query = static_cast<int>(blockIdx.x) % a.query_blocks * kLongQueries<kD>;
  const int tiles = (a.keys + kLongKeys - 1) / kLongKeys;
  const int groups =
      min_of((a.queries - block_query + kGroupRows - 1) / kGroupRows, kConsumers);  // with queries
  if (threadIdx.x == 0) {
    memory.q_full().init(1);
    for (int s = 0; s < kStages; ++s) {
      memory.k_full(s).init(1);
      memory.v_full(s).init(1);
      memory.k_empty(s).init(4 * groups);  // a thread of each warp
      memory.v_empty(s).init(4 * groups);
    }
    fence_async_proxy();
  }
  __syncthreads();
  const int group = warpgroup_index();
  if (group == kConsumers) {
    leave_registers<kLeastRegisters<kConsumers>>();
    if (threadIdx.x != kConsumers * kWarpgroup) return;
    memory.q_full().arrive_and_expect(groups * memory.q(0).kBytes);
    for (int g = 0; g < groups; ++g) {
      memory.q(g).load(q_map, block_query + g * kGroupRows, h, b, memory.q_full());
    }
    for (int t = 0; t < tiles; ++t) {
      const int s = t % kStages, parity = t / kStages % 2;
      memory.k_empty(s).wait(parity ^ 1);
      memory.k_full(s).arrive_and_expect(memory.k(s).kBytes);
      memory.k(s).load(k_map, t * kLongKeys, h, b, memory.k_full(s));
      memory.v_empty(s).wait(parity ^ 1);
      memory.v_full(s).arrive_and_expect(memory.v(s).kBytes);
      memory.v(s).load(v_map, t * kLongKeys, h, b, memory.v_full(s));
    }
  } else {
    take_registers<kMostRegisters<kConsumers>>();
    if (group < groups) attend(a, memory, group, head, block_query + group * kGroupRows, tiles);
  }
}

// ---- host side -----------------------------------------------------------------------------------------------------

template <typename S>
void start(const AttentionArgs& args, Queue& queue) {
  Forward<S> a{Heads<S>(args.out),
               args.lse.as<float>(),
               static_cast<int>(args.q.size(1)),
               static_cast<int>(args.q.size(2)),
               static_cast<int>(args.k.size(2)),
               static_cast<int>(args.q.size(3)),
               static_cast<float>(args.scale),
               1};
  const int64_t heads = args.q.size(0) * args.q.size(1);
  const TensorMap q = make_map(kOp, args.q, kGroupRows);
  const auto run = [&](auto kernel, int rows, int threads, size_t bytes) {
    launch(queue, kOp, kernel, heads * a.query_blocks, threads, bytes, q, make_map(kOp, args.k, rows),
           make_map(kOp, args.v, rows), a);
  };
  const auto run_short = [&]<int kLeast, int kKeys>() {
    const int64_t wanted = blocks_for(int64_t{kShortBlocks<kKeys>} * queue.multiprocessors(), heads);
    a.query_blocks = static_cast<int>(std::min(wanted, blocks_for(a.queries, kGroupRows)));
    run(&forward_short<S, kLeast, kKeys>, kKeys, kWarpgroup, kShortBytes<kKeys>);
  };
  if (a.d <= kShortD && a.keys <= kMostTokens) {
    if (a.keys <= 80) return run_short.template operator()<0, 80>();
    if (a.keys <= 176) return run_short.template operator()<80, 176>();
    if (a.keys <= 208) return run_short.template operator()<176, 208>();
    return run_short.template operator()<208, kMostTokens>();
  }
  const auto run_long = [&]<int kD>(std::integral_constant<int, kD>) {
    a.query_blocks = static_cast<int>(blocks_for(a.queries, kLongQueries<kD>));
    run(&forward_long<S, kD>, kLongKeys, kThreadsOf<kGroups<kD>>, kLongBytes<kD>);
  };
  if (a.d <= 64) return run_long(std::integral_constant<int, 64>{});
  run_long(std::integral_constant<int, 128>{});
}

}  // namespace

bool attention_on_hopper(const AttentionArgs& args, Queue& queue) {
  if (!suits_hopper(kOp, args) || !takes_writes(args.out)) return false;
  with_16_bit_type(args.q.dtype, [&]<typename S>(S) { start<S>(args, queue); });
  return true;
}

}  // namespace tenon::cuda
