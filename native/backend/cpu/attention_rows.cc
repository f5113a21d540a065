// The softmax rows of chosen queries, for explanations: the scores of a few queries at a time against all keys.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/attention_rows.cc"
#include "backend/cpu/simd.h"
//
#include "backend/cpu/attention_tiles-inl.h"
//
#include "backend/cpu/attention_scores-inl.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace tenon::cpu::HWY_NAMESPACE {
namespace {

// Rows [first, first + count) of head (b, h); count <= kQueryBlock.
template <typename T>
void probabilities(const AttentionRowsArgs& args, int64_t b, int64_t h, int64_t first, int64_t count) {
  constexpr int64_t lanes = HWY_LANES(T);
  const int64_t keys = args.k.size(2), d = args.q.size(3), chosen = args.rows.size(0);
  const int64_t row = packed_stride<T>(d), score_row = packed_stride<T>(keys);
  const ScoreTerms terms{.bias = args.bias, .mask = args.mask};
  const HeadRows q(args.q, b, h), k(args.k, b, h);

  AttentionScratch& scratch = attention_scratch();
  T* queries = scratch.q.reserve<T>(count * row);
  T* some_keys = scratch.k.reserve<T>(lanes * row);
  T* keys_transposed = scratch.k_transposed.reserve<T>(round_up(d, lanes) * lanes);
  T* scores = scratch.scores.reserve<T>(count * score_row);

  const auto query = [&](int64_t r) {
    return args.rows.as<const int64_t>()[(first + r) * args.rows.stride(0)];
  };
  for (int64_t r = 0; r < count; ++r) {
    pack_rows(q, query(r), 1, 1, d, static_cast<T>(args.scale), queries + r * row, row);
  }
  for (int64_t j = 0; j < keys; j += lanes) {
    pack_rows(k, j, std::min(lanes, keys - j), lanes, d, T{1}, some_keys, row);
    transpose(some_keys, row, lanes, d, keys_transposed, lanes);
    multiply<Left::Plain, T>(Sum::Set, {queries, row, keys_transposed, lanes, scores + j, score_row, d},
                             count, lanes);
  }
  with_storage_type<T>(args.out.dtype, [&]<typename S>(S*) {
    for (int64_t r = 0; r < count; ++r) {
      T* line = scores + r * score_row;
      add_terms(terms, b, h, query(r), 0, keys, line);
      T most, total;
      row_maxima(line, score_row, 1, keys, &most);
      if (most == kMinusInfinity<T>) most = 0;
      exp_rows(line, score_row, 1, keys, &most, &total);
      const T inverse = total == 0 ? T{0} : 1 / total;
      S* to = args.out.as<S>() + ((b * args.q.size(1) + h) * chosen + first + r) * keys;
      for (int64_t j = 0; j < keys; ++j) to[j] = static_cast<S>(line[j] * inverse);
    }
  });
}

// HWY_EXPORT takes no templates.
void probabilities_float(const AttentionRowsArgs& args, int64_t b, int64_t h, int64_t first, int64_t count) {
  probabilities<float>(args, b, h, first, count);
}
void probabilities_double(const AttentionRowsArgs& args, int64_t b, int64_t h, int64_t first, int64_t count) {
  probabilities<double>(args, b, h, first, count);
}

}  // namespace
}  // namespace tenon::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tenon::cpu {

namespace {
HWY_EXPORT(probabilities_float);
HWY_EXPORT(probabilities_double);
}  // namespace

void attention_rows(const AttentionRowsArgs& args) {
  const int64_t heads = args.q.size(1), queries = args.q.size(2), chosen = args.rows.size(0);
  for (int64_t r = 0; r < chosen; ++r) {
    const int64_t index = args.rows.as<const int64_t>()[r * args.rows.stride(0)];
    if (index < 0 || index >= queries) {
      throw TensorError(
          "attention_rows", code::kIndex,
          "expected rows from 0 to " + std::to_string(queries - 1) + ", got " + std::to_string(index));
    }
  }
  if (args.out.numel() == 0) return;
  const int64_t ranges = ceil_div(chosen, kQueryBlock);
  const auto run = args.q.dtype == DType::Float64 ? HWY_DYNAMIC_DISPATCH(probabilities_double)
                                                  : HWY_DYNAMIC_DISPATCH(probabilities_float);
  const int64_t grain = attention_grain(std::min(chosen, kQueryBlock), args.k.size(2), args.q.size(3));
  parallel_for(args.q.size(0) * heads * ranges, grain, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t head = item / ranges, first = item % ranges * kQueryBlock;
      run(args, head / heads, head % heads, first, std::min(kQueryBlock, chosen - first));
    }
  });
}

}  // namespace tenon::cpu
#endif
