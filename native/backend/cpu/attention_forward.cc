// out = dropout(softmax(scale q k^T + bias, masked)) v in blocks, with the softmax of a row kept as a running maximum
// and sum (Milakov and Gimelshein, 2018): a new block with a larger maximum scales down what has been summed so far.
//
// Threads own whole heads, or ranges of queries of a head; a row's bits depend on neither.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/attention_forward.cc"
#include "backend/cpu/simd.h"
//
#include "backend/cpu/attention_tiles-inl.h"
//
#include "backend/cpu/attention_operands-inl.h"
#include "backend/cpu/attention_scores-inl.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/processor.h"

HWY_BEFORE_NAMESPACE();
namespace tenon::cpu::HWY_NAMESPACE {
namespace {

// Queries [first, first + count) of head (b, h). Form: of the products' operands.
template <typename T, class Form>
void attend(const AttentionArgs& args, int64_t b, int64_t h, int64_t first, int64_t count) {
  constexpr int64_t lanes = HWY_LANES(T);
  const int64_t keys = args.k.size(2), d = args.q.size(3);
  const int64_t row = packed_stride<T>(d), widest = round_up(std::min(keys, kKeyBlock), lanes);
  const int64_t score_row = packed_stride<T>(widest), depth = Form::depth(d),
                left_row = packed_stride<T>(depth);
  const auto scale = static_cast<T>(args.scale), row_scale = Form::scale_of_rows(scale);
  const ScoreTerms terms{args.bias, args.mask, args.dropout, args.seed, args.offset};
  const HeadRows q(args.q, b, h), k(args.k, b, h), v(args.v, b, h), out(args.out, b, h);

  AttentionScratch& scratch = attention_scratch();
  T* queries = scratch.q.reserve<T>(count * left_row);
  T* some_keys = scratch.k.reserve<T>(lanes * left_row);
  T* keys_transposed = scratch.k_transposed.reserve<T>(round_up(depth, lanes) * score_row);
  T* values = scratch.v.reserve<T>(widest * row);
  T* scores = scratch.scores.reserve<T>(kQueryBlock * score_row);
  T* keep = scratch.keep.reserve<T>(score_row);
  T* sums = scratch.out.reserve<T>(count * row);
  T* most = scratch.state.reserve<T>(2 * count + 3 * kQueryBlock);
  T* total = most + count;
  T* block_most = total + count;
  T* block_total = block_most + kQueryBlock;
  T* shift = block_total + kQueryBlock;

  Form::pack_left(q, first, count, count, d, row_scale, queries, left_row);
  std::fill(most, most + count, kMinusInfinity<T>);
  std::fill(total, total + count, T{0});
  if (keys == 0) std::fill(sums, sums + count * row, T{0});

  const Blocks key_blocks(keys, kKeyBlock), query_blocks(count, kQueryBlock);
  for (int64_t block = 0; block < key_blocks.count; ++block) {
    const int64_t j0 = key_blocks.begin(block), n = key_blocks.size(block);
    for (int64_t j = 0; j < n; j += lanes) {
      Form::pack_left(k, j0 + j, std::min(lanes, n - j), lanes, d, T{1}, some_keys, left_row);
      transpose(some_keys, left_row, lanes, depth, keys_transposed + j, score_row);
    }
    Form::pack_right(v, j0, n, d, values, row);

    for (int64_t query_block = 0; query_block < query_blocks.count; ++query_block) {
      const int64_t i0 = query_blocks.begin(query_block), rows = query_blocks.size(query_block);
      multiply<Left::Plain, T, Form>(
          Sum::Set, {queries + i0 * left_row, left_row, keys_transposed, score_row, scores, score_row, depth},
          rows, n);
      if (row_scale != scale) scale_rows(scores, score_row, rows, n, scale);
      if (terms.any()) {
        for (int64_t i = 0; i < rows; ++i)
          add_terms(terms, b, h, first + i0 + i, j0, n, scores + i * score_row);
      }
      row_maxima(scores, score_row, rows, n, block_most);
      for (int64_t i = 0; i < rows; ++i) {
        block_most[i] = std::max(most[i0 + i], block_most[i]);
        shift[i] =
            block_most[i] == kMinusInfinity<T> ? T{0} : block_most[i];  // all masked: exp(-inf - 0) = 0
      }
      exp_rows(scores, score_row, rows, n, shift, block_total);
      for (int64_t i = 0; i < rows; ++i) {
        if (block > 0 && block_most[i] != most[i0 + i]) {
          const T shrink = std::exp(most[i0 + i] - shift[i]);
          total[i0 + i] *= shrink;
          scale_row(sums + (i0 + i) * row, d, shrink);
        }
        most[i0 + i] = block_most[i];
        total[i0 + i] += block_total[i];
      }
      if (args.dropout > 0) {
        for (int64_t i = 0; i < rows; ++i) {
          dropout_row(terms, dropout_index(terms, args.q, args.k, b, h, first + i0 + i, j0), n, keep);
          for (int64_t j = 0; j < n; ++j) scores[i * score_row + j] *= keep[j];
        }
      }
      const LeftOperand<T> left = Form::left_of(scores, score_row, rows, n, scratch.pairs);
      multiply<Left::Plain, T, Form>(
          block == 0 ? Sum::Set : Sum::Add,
          {left.data, left.stride, values, row, sums + i0 * row, row, Form::depth(n)}, rows, d);
    }
  }

  const auto inverse = [&](int64_t i) { return total[i] == 0 ? T{0} : 1 / total[i]; };
  unpack_rows(out, first, count, d, inverse, sums, row);
  T* lse = args.lse.as<T>() + (b * args.q.size(1) + h) * args.q.size(2) + first;
  for (int64_t i = 0; i < count; ++i)
    lse[i] = total[i] == 0 ? kMinusInfinity<T> : most[i] + std::log(total[i]);
}

// HWY_EXPORT takes no templates.
void attend_float(const AttentionArgs& args, int64_t b, int64_t h, int64_t first, int64_t count) {
  attend<float, Rows<float>>(args, b, h, first, count);
}
void attend_pairs(const AttentionArgs& args, int64_t b, int64_t h, int64_t first, int64_t count) {
  attend<float, Pairs>(args, b, h, first, count);
}
void attend_double(const AttentionArgs& args, int64_t b, int64_t h, int64_t first, int64_t count) {
  attend<double, Rows<double>>(args, b, h, first, count);
}

}  // namespace
}  // namespace tenon::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tenon::cpu {

namespace {
HWY_EXPORT(attend_float);
HWY_EXPORT(attend_pairs);
HWY_EXPORT(attend_double);

auto attend_function(DType dtype) {
  if (dtype == DType::Float64) return HWY_DYNAMIC_DISPATCH(attend_double);
  if (dtype == DType::BFloat16 && multiplies_pairs()) return HWY_DYNAMIC_DISPATCH(attend_pairs);
  return HWY_DYNAMIC_DISPATCH(attend_float);
}
}  // namespace

void attention(const AttentionArgs& args) {
  const int64_t heads = args.q.size(1), queries = args.q.size(2);
  const int64_t all = args.q.size(0) * heads;
  if (all * queries == 0) return;
  // A range packs all keys, so it should not be short: 256 queries, or fewer only to give every thread some.
  constexpr int64_t kRange = 256;
  const int64_t shares = all >= 2 * omp_get_max_threads() ? 1 : ceil_div(2 * omp_get_max_threads(), all);
  const int64_t ranges =
      std::max(ceil_div(queries, kRange), std::min(shares, ceil_div(queries, kQueryBlock)));
  const auto run = attend_function(args.q.dtype);
  const int64_t grain = attention_grain(ceil_div(queries, ranges), args.k.size(2), args.q.size(3));
  parallel_for(all * ranges, grain, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t head = item / ranges, range = item % ranges;
      const int64_t first = queries * range / ranges, last = queries * (range + 1) / ranges;
      run(args, head / heads, head % heads, first, last - first);
    }
  });
}

}  // namespace tenon::cpu
#endif
