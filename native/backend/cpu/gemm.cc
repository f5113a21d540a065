// A blocked GEMM after Goto and van de Geijn ("Anatomy of high-performance matrix multiplication", TOMS 2008): a block of b
// is packed into panels that the innermost loop reads in order, and a tile of out stays in registers over a block of K.
// Rows and columns of a are read where they are; what is strided, or of another type than the sums, is packed too.
//
// Threads share the packed block of b, and take pieces of rows of out as they come free. Each element's sum runs over k in
// one fixed order, whoever makes it. Where out is small and K long, as for a weight's gradient, they take parts of K instead.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/gemm.cc"
#include "backend/cpu/activation.h"
//
#include "backend/cpu/rows.h"
//
#include "backend/cpu/gemm_pack-inl.h"
//
#include "backend/cpu/gemm_tiles-inl.h"
//
#include <omp.h>

#include <algorithm>
#include <cmath>

#include "backend/cpu/gemm.h"
#include "backend/cpu/iterate.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/scratch.h"
#include "backend/divide.h"

#ifndef TENON_GEMM_ONCE
#define TENON_GEMM_ONCE
namespace tenon::cpu {

// One product of the batch.
struct GemmTask {
  Matrix a, b, out;
  Matrix bias;      // [1, N] or absent
  Matrix residual;  // or absent
  Activation activation = Activation::None;
  bool accumulate = false;
  const FinishRow* finish = nullptr;
  double* a_sums = nullptr;  // of a's rows, added to; or null
};

struct GemmScratch {
  ScratchBuffer b, bias, sums, a_sums;  // of the thread that shares out a product
  ScratchBuffer a, c, line;             // of each that takes a part in it
};

inline GemmScratch& gemm_scratch() {
  static thread_local GemmScratch scratch;
  return scratch;
}

}  // namespace tenon::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace tenon::cpu::HWY_NAMESPACE {
namespace {

// Of b, what is packed at a time, for all threads: it should stay in a cache that they share. A thread that is alone packs a
// block of K.
constexpr int64_t kPacked = 768 * kBlockDepth;

// Of a block of b, what the second cache has room for beside those of a.
constexpr int64_t kAskedBytes = 160 << 10;

// The depth of K's blocks, which are even: a shallow last one would go through out for little.
int64_t block_depth(int64_t k) {
  const int64_t blocks = std::max<int64_t>(1, ceil_div(k, kBlockDepth));
  return std::max<int64_t>(1, ceil_div(k, blocks));
}

template <typename T>
void activate(Activation activation, T* x, int64_t n) {
  switch (activation) {
    case Activation::None:
      return;
    case Activation::Relu:
      return map_vectors(
          x, n, [](auto d, auto v) { return relu_at(d, v).value; }, x);
    case Activation::Gelu:
      return map_vectors(
          x, n, [](auto d, auto v) { return gelu_at(d, v).value; }, x);
    case Activation::GeluTanh:
      return map_vectors(
          x, n, [](auto d, auto v) { return gelu_tanh_at(d, v).value; }, x);
    case Activation::Silu:
      return map_vectors(
          x, n, [](auto d, auto v) { return silu_at(d, v).value; }, x);
  }
}

// One row of what follows the product: c holds a row of sums, and is scratch afterwards unless it is out's own.
template <typename T>
void finish_row(const GemmTask& task, int64_t i, int64_t j, int64_t n, const T* HWY_RESTRICT bias, T* c,
                T* HWY_RESTRICT line) {
  if (bias != nullptr) {
    for (int64_t l = 0; l < n; ++l) c[l] += bias[l];
  }
  activate(task.activation, c, n);
  const auto add = [&](const Matrix& x) {
    read_line(x.dtype, x.block(i, j, 1, n).data, x.column, n, line);
    for (int64_t l = 0; l < n; ++l) c[l] += line[l];
  };
  if (task.residual.data != nullptr) add(task.residual);
  if (task.accumulate) add(task.out);
  write_line(task.out.dtype, c, n, task.out.block(i, j, 1, n).data, 1);
}

// Whether sums can grow where they belong: out holds them exactly, and what it held is not wanted after the product.
template <typename T>
bool grows_in_place(const GemmTask& task) {
  if (!has_runs<T>(task.out)) return false;
  if (task.activation != Activation::None) return !task.accumulate && task.residual.data != task.out.data;
  return task.residual.data == nullptr || (!task.accumulate && has_runs<T>(task.residual));
}

// What a block's sums get besides its products over the first block of K.
template <typename T>
Terms<T> first_terms(const GemmTask& task, int64_t i, int64_t j, const T* bias) {
  const auto tile_of = [&](const Matrix& x) {
    return Terms<T>{bias, reinterpret_cast<const T*>(x.block(i, j, 1, 1).data), x.row};
  };
  if (task.accumulate) return tile_of(task.out);
  if (task.residual.data != nullptr && task.activation == Activation::None) return tile_of(task.residual);
  return {bias, nullptr, 0};
}

// Into how many rows and columns of pieces a product's tiles are cut. A piece has at most kBlockRows rows, and where there are
// rows enough at least half of that. Where rows alone are cut, each of so many threads has the same number.
struct Pieces {
  int64_t rows = 1, columns = 1;

  Pieces(int64_t tiles, int64_t panels, int64_t threads) {
    constexpr int64_t kMost = kBlockRows / kTileRows, kLeast = kMost / 2, kEach = 4;
    rows = ceil_div(tiles, kMost);
    if (threads == 1) return;
    columns = std::min(panels, ceil_div(2 * threads, tiles));
    const int64_t enough = ceil_div(threads, columns);
    rows = std::max(rows, std::min(kEach * enough, std::max(enough, tiles / kLeast)));
    if (columns == 1) rows = round_up(rows, threads);
    rows = std::min(rows, tiles);
  }
};

// What the threads have of a product for a while: `depth` of K from k0 on, `n` columns from j0 on, and that block of b in
// panels, one block of K (`block` deep) after the other.
template <typename T>
struct Share {
  const GemmTask& task;
  int64_t j0, n, k0, depth, block;
  T* b;
  const T* bias;   // of these columns, or null
  T* sums;         // of all rows, or null: in out, or a piece at a time
  int64_t stride;  // of sums that are not in out
  bool in_place;

  int64_t padded() const { return round_up(n, tile_columns<T>()); }
};

// b is packed in units of a block of K and this many columns.
constexpr int64_t kUnitColumns = 12 * kWidestPanel;

template <typename T>
Parts units_of(const Share<T>& share, int64_t threads) {
  const int64_t wide = ceil_div(share.n, kUnitColumns), blocks = ceil_div(share.depth, share.block);
  const int64_t grain = ceil_div(kElementwiseGrain, std::min(share.n, kUnitColumns) * share.block + 1);
  return Parts(wide * blocks, grain, threads);
}

// Packs units [begin, end).
template <typename T>
void pack_units(const Share<T>& share, int64_t begin, int64_t end) {
  const int64_t wide = ceil_div(share.n, kUnitColumns);
  for (int64_t i = begin; i < end; ++i) {
    const int64_t k = i / wide * share.block, j = i % wide * kUnitColumns;
    const int64_t depth = std::min(share.block, share.depth - k), n = std::min(kUnitColumns, share.n - j);
    const Matrix from = share.task.b.block(share.k0 + k, share.j0 + j, depth, n);
    pack<tile_columns<T>()>(Matrix{from.data, from.dtype, n, depth, from.column, from.row},
                            share.b + k * share.padded() + j * depth);
  }
}

// One piece over one block of K, `k` deep in the share: rows [i, i + m), columns [j, j + n) of the share. `ahead` is asked for
// meanwhile.
template <typename T>
void multiply_piece(const Share<T>& share, int64_t i, int64_t m, int64_t j, int64_t n, int64_t k,
                    Ahead& ahead) {
  const GemmTask& task = share.task;
  GemmScratch& scratch = gemm_scratch();
  const int64_t depth = std::min(share.block, share.depth - k), column = share.j0 + j;
  const Matrix out = task.out.block(i, column, m, n);
  T* const a_panels = scratch.a.reserve<T>(kBlockRows * share.block);
  T* const sums = share.in_place          ? reinterpret_cast<T*>(out.data)
                  : share.sums != nullptr ? share.sums + i * share.stride + j
                                          : scratch.c.reserve<T>(kBlockRows * share.stride);
  const int64_t stride = share.in_place ? out.row : share.stride;
  const T* const bias = share.bias == nullptr ? nullptr : share.bias + j;
  Terms<T> terms;
  if (share.k0 + k > 0) {
    terms = {nullptr, sums, stride};
  } else if (share.in_place) {
    terms = first_terms(task, i, column, bias);
  }
  double* const a_sums = task.a_sums == nullptr || column > 0 ? nullptr : task.a_sums + i;
  multiply_block(task.a.block(i, share.k0 + k, m, depth), a_panels, share.b + k * share.padded() + j * depth,
                 terms, sums, stride, n, a_sums, ahead);
  if (share.k0 + k + depth < task.a.columns) return;
  if (!share.in_place || task.activation != Activation::None) {
    T* const line = scratch.line.reserve<T>(n);
    for (int64_t r = 0; r < m; ++r)
      finish_row(task, i + r, column, n, share.in_place ? nullptr : bias, sums + r * stride, line);
  }
  if (task.finish == nullptr) return;
  for (int64_t r = 0; r < m; ++r) (*task.finish)(i + r, column, n);
}

// Pieces [begin, end) of a share. They are gone through with each block of K, so that b's stays in the cache; where sums are
// a piece's own, the blocks with each piece.
template <typename T>
void multiply_pieces(const Share<T>& share, const Pieces& pieces, int64_t begin, int64_t end, bool alone) {
  constexpr int64_t tile_n = tile_columns<T>();
  const int64_t M = share.task.out.rows, tiles = ceil_div(M, kTileRows), panels = share.padded() / tile_n;
  const auto row = [&](int64_t r) { return std::min(M, tiles * r / pieces.rows * kTileRows); };
  const auto column = [&](int64_t c) { return std::min(share.n, panels * c / pieces.columns * tile_n); };
  const auto run = [&](int64_t piece, int64_t k, int64_t next_piece, int64_t next_k) {
    const int64_t r = piece / pieces.columns, c = piece % pieces.columns;
    const int64_t i = row(r), m = row(r + 1) - i, j = column(c), n = column(c + 1) - j;
    const int64_t depth = std::min(share.block, share.depth - k);
    Ahead ahead(m / kTileRows * (n / tile_n) * ceil_div(depth, kChunk));
    const int64_t next = next_piece / pieces.columns, next_k0 = share.k0 + share.depth;
    if (next < pieces.rows) {
      if (next != r || next_k != k) {
        ahead.add(share.task.a.block(row(next), share.k0 + next_k, row(next + 1) - row(next),
                                     std::min(share.block, share.depth - next_k)));
      }
    } else if (alone && next_k0 < share.task.a.columns) {  // the next share is as deep as this one, or less
      const int64_t next_depth = std::min(share.depth, share.task.a.columns - next_k0);
      ahead.add(share.task.a.block(0, next_k0, row(1), next_depth));
      if (share.n * next_depth * static_cast<int64_t>(sizeof(T)) <= kAskedBytes)
        ahead.add(share.task.b.block(next_k0, share.j0, next_depth, share.n));
    }
    multiply_piece(share, i, m, j, n, k, ahead);
  };
  const int64_t count = end - begin;
  const int64_t blocks =
      std::max<int64_t>(1, ceil_div(share.depth, share.block));  // one of K = 0: sums of nothing
  const bool by_blocks = share.in_place || share.sums != nullptr;
  const auto piece_of = [&](int64_t step) { return begin + (by_blocks ? step % count : step / blocks); };
  const auto k_of = [&](int64_t step) { return (by_blocks ? step / count : step % blocks) * share.block; };
  const int64_t steps = count * blocks;
  for (int64_t step = 0; step + 1 < steps; ++step) {
    run(piece_of(step), k_of(step), piece_of(step + 1), k_of(step + 1));
  }
  run(piece_of(steps - 1), k_of(steps - 1), end, 0);
}

// The product, share by share: b is packed, into one of two buffers, while others may still be at the share before.
template <typename T>
void multiply(const GemmTask& task, int64_t threads) {
  constexpr int64_t tile_n = tile_columns<T>(), kNarrow = 3 * kWidestPanel;
  GemmScratch& scratch = gemm_scratch();
  const int64_t M = task.out.rows, N = task.out.columns, K = task.a.columns, block = block_depth(K);
  const bool in_place = grows_in_place<T>(task);
  int64_t width = round_up(std::min(N, kBlockColumns), tile_n);
  // Sums that are not in out should be done with a piece: rather fewer columns than less of K.
  if (!in_place) width = std::min(width, std::max(kNarrow, kPacked / (K + 1) / tile_n * tile_n));
  const int64_t blocks = threads == 1 && in_place ? 1 : std::max<int64_t>(1, kPacked / width / block);
  const int64_t deepest = std::min(blocks * block, round_up(K, block));
  const int64_t deep = std::max<int64_t>(1, ceil_div(K, blocks * block)), shares = deep * ceil_div(N, width);
  const int64_t buffer = width * deepest;
  T* const b = scratch.b.reserve<T>((threads > 1 && shares > 1 ? 2 : 1) * buffer);
  T* const sums = in_place || deep == 1 ? nullptr : scratch.sums.reserve<T>(M * width);
  T* bias = nullptr;
  if (task.bias.data != nullptr) {
    bias = scratch.bias.reserve<T>(N);
    read_line(task.bias.dtype, task.bias.data, task.bias.column, N, bias);
  }
  const auto share_of = [&](int64_t i) {
    const int64_t j0 = i / deep * width, k0 = i % deep * deepest;
    return Share<T>{.task = task,
                    .j0 = j0,
                    .n = std::min(width, N - j0),
                    .k0 = k0,
                    .depth = std::min(deepest, K - k0),
                    .block = block,
                    .b = threads > 1 ? b + i % 2 * buffer : b,
                    .bias = bias == nullptr ? nullptr : bias + j0,
                    .sums = sums,
                    .stride = width,
                    .in_place = in_place};
  };
  const auto pieces_of = [&](const Share<T>& share) {
    return Pieces(ceil_div(M, kTileRows), share.padded() / tile_n, threads);
  };
  parallel_loops(
      2 * shares,
      [&](int64_t loop) {
        const Share<T> share = share_of(loop / 2);
        if (loop % 2 == 0) return units_of(share, threads);
        const Pieces pieces = pieces_of(share);
        return Parts(pieces.rows * pieces.columns, 1, threads);
      },
      [](int64_t loop) { return loop % 2 == 0; },
      [&](int64_t loop, int64_t begin, int64_t end, int64_t) {
        const Share<T> share = share_of(loop / 2);
        if (loop % 2 == 0) return pack_units(share, begin, end);
        multiply_pieces(share, pieces_of(share), begin, end, threads == 1);
      });
}

// The product in parts of K, each by one thread into sums of its own, and their sum.
template <typename T>
void multiply_parts(const GemmTask& task, int64_t k_parts, int64_t threads) {
  constexpr int64_t kNarrow = 3 * kWidestPanel, kEach = 4;
  constexpr DType kType = std::is_same_v<T, float> ? DType::Float32 : DType::Float64;
  GemmScratch& scratch = gemm_scratch();
  const int64_t M = task.out.rows, N = task.out.columns, K = task.a.columns;
  const bool in_place = has_runs<T>(task.out) && !task.accumulate;  // the first part's sums are in out
  const int64_t apart = in_place ? k_parts - 1 : k_parts;
  T* const all = scratch.sums.reserve<T>(apart * M * N);
  double* const all_a_sums = task.a_sums == nullptr ? nullptr : scratch.a_sums.reserve<double>(k_parts * M);
  if (all_a_sums != nullptr) std::fill_n(all_a_sums, k_parts * M, 0.0);
  const auto sums_of = [&](int64_t part) {
    if (in_place && part == 0) return task.out;
    T* const sums = all + (part - (in_place ? 1 : 0)) * M * N;
    return Matrix{reinterpret_cast<char*>(sums), kType, M, N, N, 1};
  };
  // Where there are too few for the threads, columns apart too.
  const int64_t narrow = ceil_div(N, kNarrow), wide = std::min(narrow, ceil_div(kEach * threads, k_parts));
  const Parts products(k_parts * wide, 1, threads);
  const Parts rows(M, kElementwiseGrain / (k_parts * N) + 1, threads);
  const auto multiply_some = [&](int64_t i) {
    const int64_t part = i / wide, k = K * part / k_parts, depth = K * (part + 1) / k_parts - k;
    const int64_t j = std::min(N, narrow * (i % wide) / wide * kNarrow);
    const int64_t n = std::min(N, narrow * (i % wide + 1) / wide * kNarrow) - j;
    GemmTask some;
    some.a = task.a.block(0, k, M, depth);
    some.b = task.b.block(k, j, depth, n);
    some.out = sums_of(part).block(0, j, M, n);
    if (all_a_sums != nullptr && j == 0) some.a_sums = all_a_sums + part * M;
    multiply<T>(some, 1);
  };
  const auto add_row = [&](int64_t i) {
    const hn::ScalableTag<T> d;
    T* const sum = reinterpret_cast<T*>(sums_of(0).block(i, 0, 1, N).data);
    const T* const terms = reinterpret_cast<const T*>(sums_of(1).block(i, 0, 1, N).data);
    for_vectors(d, N, [&](auto part, int64_t j) {
      auto v = part.get(d, sum + j);
      for (int64_t p = 1; p < k_parts; ++p) v = hn::Add(v, part.get(d, terms + (p - 1) * M * N + j));
      part.put(d, v, sum + j);
    });
    if (!in_place) finish_row<T>(task, i, 0, N, nullptr, sum, gemm_scratch().line.reserve<T>(N));
  };
  parallel_loops(
      2, [&](int64_t loop) -> const Parts& { return loop == 0 ? products : rows; },
      [](int64_t) { return false; },
      [&](int64_t loop, int64_t begin, int64_t end, int64_t) {
        for (int64_t i = begin; i < end; ++i) loop == 0 ? multiply_some(i) : add_row(i);
      });
  for (int64_t i = 0; i < k_parts * M && all_a_sums != nullptr; ++i) task.a_sums[i % M] += all_a_sums[i];
}

// HWY_EXPORT takes no templates.
template <typename T>
void multiply_any(const GemmTask& task, int64_t k_parts, int64_t threads) {
  if (k_parts > 1) return multiply_parts<T>(task, k_parts, threads);
  multiply<T>(task, threads);
}
void multiply_float(const GemmTask& task, int64_t k_parts, int64_t threads) {
  multiply_any<float>(task, k_parts, threads);
}
void multiply_double(const GemmTask& task, int64_t k_parts, int64_t threads) {
  multiply_any<double>(task, k_parts, threads);
}

}  // namespace
}  // namespace tenon::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tenon::cpu {

HWY_EXPORT(multiply_float);
HWY_EXPORT(multiply_double);

namespace {

Matrix matrix(const View& x, int64_t batch) {
  if (!x) return {};
  const int64_t offset = x.ndim() == 3 ? batch * x.stride(0) * static_cast<int64_t>(size_of(x.dtype)) : 0;
  return {x.as<char>() + offset, x.dtype, x.size(-2), x.size(-1), x.stride(-2), x.stride(-1)};
}

// Into how many parts K is cut, whatever the number of threads. Few enough that adding them up is little beside the products.
int64_t parts_of_k(int64_t m, int64_t n, int64_t k) {
  constexpr int64_t kDeep = 1600, kMostSums = 1 << 20;
  int64_t parts = 1;
  while (2 * parts * kDeep <= k + k / 8 && 2 * parts * m * n <= kMostSums) parts *= 2;
  return parts;
}

}  // namespace

void gemm(const MatmulArgs& args, const FinishRow& finish) {
  if (args.out.numel() == 0) return;
  const int64_t m = args.out.size(-2), n = args.out.size(-1), k = args.a.size(-1);
  const int64_t batch = args.out.ndim() == 3 ? args.out.size(0) : 1;
  const int64_t threads = omp_get_max_threads();
  constexpr int64_t kSmall = 1 << 15;  // multiplications for which waking a thread does not pay
  const int64_t useful = std::clamp<int64_t>(m * n * k / kSmall, 1, threads);
  static thread_local ScratchBuffer sums_memory;
  double* const a_sums = args.a_sums ? sums_memory.reserve<double>(m) : nullptr;
  if (a_sums != nullptr) std::fill_n(a_sums, m, 0.0);
  const auto multiply = args.a.dtype == DType::Float64 ? HWY_DYNAMIC_DISPATCH(multiply_double)
                                                       : HWY_DYNAMIC_DISPATCH(multiply_float);
  const bool plain = !args.bias && !args.residual && args.activation == Activation::None && !finish;
  const int64_t k_parts = batch == 1 && plain ? parts_of_k(m, n, k) : 1;
  const auto run = [&](int64_t index, int64_t team) {
    GemmTask task;
    task.a = matrix(args.a, index);
    task.b = matrix(args.b, index);
    task.out = matrix(args.out, index);
    task.residual = matrix(args.residual, index);
    if (args.bias) task.bias = {args.bias.as<char>(), args.bias.dtype, 1, n, 0, args.bias.stride(0)};
    task.activation = args.activation;
    task.accumulate = args.accumulate;
    if (finish) task.finish = &finish;
    task.a_sums = a_sums;
    multiply(task, k_parts, team);
  };
  if (batch >= 4 * threads || useful == 1) {  // each by one thread
    parallel_for(batch, kSmall / std::max<int64_t>(1, m * n * k), [&](int64_t begin, int64_t end) {
      for (int64_t index = begin; index < end; ++index) run(index, 1);
    });
  } else {
    for (int64_t index = 0; index < batch; ++index) run(index, useful);
  }
  if (a_sums == nullptr) return;
  with_float_type(args.a_sums.dtype, [&]<typename S>(S) {
    for (int64_t i = 0; i < m; ++i) args.a_sums.as<S>()[i * args.a_sums.stride(0)] = convert<S>(a_sums[i]);
  });
}

}  // namespace tenon::cpu
#endif
