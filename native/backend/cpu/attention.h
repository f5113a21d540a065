// What the three attention kernels share: the cut into blocks, one head's view of the tensors, and scratch memory.
//
// A head is computed in blocks of queries and keys, as in FlashAttention (Dao et al., 2022): only one block of scores
// exists at a time. Every block is packed (and converted to float32, or float64) once, so that the inner products run
// over contiguous, zero-padded memory whatever the strides and the dtype.
#pragma once

#include <algorithm>
#include <cstdint>

#include "backend/backend.h"
#include "backend/cpu/scratch.h"
#include "backend/divide.h"

namespace tenon::cpu {

// The longest blocks: keys and values of a block stay in the L2 cache, its scores nearly in L1.
constexpr int64_t kKeyBlock = 256;
constexpr int64_t kQueryBlock = 64;

// [0, n) in equal parts of at most `longest`: 289 keys are blocks of 144 and 145, not of 256 and 33.
struct Blocks {
  int64_t n;
  int64_t count;

  Blocks(int64_t length, int64_t longest) : n(length), count(ceil_div(length, longest)) {}
  int64_t begin(int64_t block) const { return n * block / count; }
  int64_t size(int64_t block) const { return begin(block + 1) - begin(block); }
};

// Elements from one packed row to the next: an odd number of cache lines, so that a column of rows spreads over all
// sets of the L1 cache.
template <typename T>
constexpr int64_t packed_stride(int64_t columns) {
  constexpr int64_t line = 64 / static_cast<int64_t>(sizeof(T));
  return (ceil_div(columns, line) | 1) * line;
}

// The rows of one head: row i begins at data + i * stride elements, its elements are adjacent.
struct HeadRows {
  char* data = nullptr;
  DType dtype = DType::Float32;
  int64_t stride = 0;

  HeadRows(const View& x, int64_t b, int64_t h)
      : data(x.as<char>() + (b * x.stride(0) + h * x.stride(1)) * static_cast<int64_t>(size_of(x.dtype))),
        dtype(x.dtype),
        stride(x.stride(2)) {}

  template <typename S>
  S* row(int64_t i) const {
    return reinterpret_cast<S*>(data) + i * stride;
  }
};

// Element (b, h, i, j) of a bias or a mask.
template <typename S>
const S* score_at(const View& x, int64_t b, int64_t h, int64_t i, int64_t j) {
  return x.as<const S>() + b * x.stride(0) + h * x.stride(1) + i * x.stride(2) + j * x.stride(3);
}

// What a score (b, h, i, j) has besides q k.
struct ScoreTerms {
  View bias;
  View mask;
  double dropout = 0;
  uint64_t seed = 0;
  uint64_t offset = 0;

  bool any() const { return bias || mask; }
};

struct AttentionScratch {
  ScratchBuffer q, k, k_transposed, v, v_transposed, dout;  // packed operands
  ScratchBuffer scores, dscores, keep, delta, state;        // one block of scores; per-row values
  ScratchBuffer pairs, q_pairs, k_pairs, dout_pairs;        // scores and rows once more, as pairs of bfloat16
  ScratchBuffer out, dq, dk, dv;                            // accumulators
};

inline AttentionScratch& attention_scratch() {
  static thread_local AttentionScratch scratch;
  return scratch;
}

// How many heads' worth of work a thread should get at least: waking one costs about as much as 64k multiplications.
inline int64_t attention_grain(int64_t queries, int64_t keys, int64_t d) {
  return (int64_t{1} << 16) / std::max<int64_t>(1, queries * keys * d) + 1;
}

}  // namespace tenon::cpu
