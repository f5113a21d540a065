// Attention inside Swin's windows. The rows of a window are found through the list of its tokens; the bias is what the
// product q k^T starts from.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/window_attention_forward.cc"
#include "backend/cpu/simd.h"
//
#include "backend/cpu/attention_tiles-inl.h"
//
#include "backend/cpu/attention_scores-inl.h"
//
#include "backend/cpu/window_attention-inl.h"
//
#include "backend/cpu/kernels.h"
#include "backend/cpu/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace tenon::cpu::HWY_NAMESPACE {
namespace {

template <typename T>
void run_group(const WindowAttentionArgs& args, const WindowGroup& group) {
  constexpr int64_t lanes = HWY_LANES(T);
  const hn::ScalableTag<T> vector;
  const Windows& windows = args.windows;
  const WindowItems items(args);
  const int64_t n = windows.positions(), d = items.head_dim;
  const int64_t row = packed_stride<T>(d), score_row = packed_stride<T>(n);
  const auto scale = static_cast<T>(args.scale);
  const ScoreTerms dropout{{}, {}, args.dropout, args.seed, args.offset};

  AttentionScratch& scratch = attention_scratch();
  T* queries = scratch.q.reserve<T>(n * row);
  T* some_keys = scratch.k.reserve<T>(lanes * row);
  T* keys_transposed = scratch.k_transposed.reserve<T>(round_up(d, lanes) * score_row);
  T* values = scratch.v.reserve<T>(n * row);
  T* scores = scratch.scores.reserve<T>(kQueryBlock * score_row);
  T* keep = scratch.keep.reserve<T>(score_row);
  T* sums = scratch.out.reserve<T>(n * row);
  T* most = scratch.state.reserve<T>(2 * score_row);
  T* total = most + score_row;
  std::fill(total + n, total + score_row, T{1});
  WindowTerms<T> terms(args.table, windows, group, score_row);
  WindowTokens tokens(windows, d);
  const Blocks query_blocks(n, kQueryBlock);

  tokens.find_next(windows, group.first % windows.count());
  for (int64_t window = group.first; window < group.last; ++window) {
    const int64_t b = window / windows.count(), next = window + 1, next_b = next / windows.count();
    const bool more = next < group.last;
    tokens.advance();
    if (more) tokens.find_next(windows, next % windows.count());
    for (int64_t h = 0; h < group.heads; ++h) {
      const int64_t head = group.head + h;
      RowsAhead ahead(tokens.next, n);
      const auto rows_of = [&](int64_t which) {
        const int64_t column = (which * items.heads + head) * d;
        const auto rows = [&](int64_t image, const int64_t* list) {
          return window_rows(args.qkv, image, column, list, tokens.padding_row(args.padding, column));
        };
        if (more) ahead.add(rows(next_b, tokens.next), d);
        return rows(b, tokens.list);
      };
      pack_rows(rows_of(0), 0, n, n, d, scale, queries, row);
      const WindowRows keys = rows_of(1);
      for (int64_t j = 0; j < n; j += lanes) {
        pack_rows(keys, j, std::min(lanes, n - j), lanes, d, T{1}, some_keys, row);
        transpose(some_keys, row, lanes, d, keys_transposed + j, score_row);
      }
      pack_rows(rows_of(2), 0, n, n, d, T{1}, values, row);
      const auto out_rows = [&](int64_t image, const int64_t* list) {
        return window_rows(args.out, image, head * d, list, tokens.discarded);
      };
      if (more) ahead.add(out_rows(next_b, tokens.next), d);
      const T* bias = terms.matrix(h, windows.seams(window % windows.count()));

      for (int64_t block = 0; block < query_blocks.count; ++block) {
        const int64_t i0 = query_blocks.begin(block), rows = query_blocks.size(block);
        multiply<Left::Plain, T>(Sum::Add,
                                 {queries + i0 * row, row, keys_transposed, score_row, scores, score_row, d,
                                  bias + i0 * score_row},
                                 rows, n, ahead);
        row_maxima(scores, score_row, rows, n, most + i0);
        exp_rows(scores, score_row, rows, n, most + i0, total + i0);
        for (int64_t i = 0; i < rows && args.dropout > 0; ++i) {
          dropout_row(dropout, dropout.offset + window_score(window, items.heads, head, n, i0 + i), n, keep);
          for (int64_t j = 0; j < n; ++j) scores[i * score_row + j] *= keep[j];
        }
        multiply<Left::Plain, T>(Sum::Set, {scores, score_row, values, row, sums + i0 * row, row, n}, rows, d,
                                 ahead);
      }

      for (int64_t i = 0; i < n; i += lanes) {
        const auto sum = hn::Load(vector, total + i);
        hn::Store(hn::Add(hn::Load(vector, most + i), log(vector, sum)), vector, most + i);
        hn::Store(hn::Div(hn::Set(vector, T{1}), sum), vector, total + i);
      }
      ahead.finish();
      unpack_rows(
          out_rows(b, tokens.list), 0, n, d, [&](int64_t i) { return total[i]; }, sums, row);
      T* lse = args.lse.as<T>() + (b * items.heads + head) * windows.tokens();
      for (int64_t i = 0; i < n; ++i) {
        if (tokens.list[i] >= 0) lse[tokens.list[i]] = most[i];
      }
    }
  }
}

// HWY_EXPORT takes no templates.
void run_float(const WindowAttentionArgs& args, const WindowGroup& group) { run_group<float>(args, group); }
void run_double(const WindowAttentionArgs& args, const WindowGroup& group) { run_group<double>(args, group); }

}  // namespace
}  // namespace tenon::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tenon::cpu {

namespace {
HWY_EXPORT(run_float);
HWY_EXPORT(run_double);
}  // namespace

void window_attention(const WindowAttentionArgs& args) {
  const WindowItems items(args);
  const auto run =
      args.qkv.dtype == DType::Float64 ? HWY_DYNAMIC_DISPATCH(run_double) : HWY_DYNAMIC_DISPATCH(run_float);
  items.for_each_group(args.windows.positions(), 1, [&](const WindowGroup& group) { run(args, group); });
}

}  // namespace tenon::cpu
#endif
