// Gradients of attention inside Swin's windows, as in attention_backward.cc: probabilities come again from the
// log-sum-exp. Each item sums its windows' dS in one matrix, then along the table's offsets; the items of a head are
// added in their order, so that no bit depends on the number of threads.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/window_attention_backward.cc"
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

#ifndef TENON_WINDOW_ATTENTION_BACKWARD_ONCE
#define TENON_WINDOW_ATTENTION_BACKWARD_ONCE
namespace tenon::cpu {

// Partial sums of each item, in T (float32, or float64 for float64); null where not asked for.
struct WindowPartials {
  void* dtable = nullptr;    // [items, offsets]
  void* dpadding = nullptr;  // [items, 3, d]
};

struct WindowBackwardSteps {
  using Step = void (*)(const WindowAttentionBackwardArgs&, const WindowPartials&, int64_t);
  void (*run_group)(const WindowAttentionBackwardArgs&, const WindowPartials&, const WindowGroup&);
  Step sum_dtable, sum_dpadding;  // by row of the table, by head
};

}  // namespace tenon::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace tenon::cpu::HWY_NAMESPACE {
namespace {

// dterms += dscores, a block of rows.
template <typename T>
HWY_NOINLINE void add_scores(const T* HWY_RESTRICT dscores, int64_t stride, int64_t rows, int64_t n,
                             T* HWY_RESTRICT dterms) {
  const hn::ScalableTag<T> d;
  constexpr int64_t lanes = HWY_LANES(T);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < n; j += lanes) {
      const int64_t at = i * stride + j;
      hn::Store(hn::Add(hn::Load(d, dterms + at), hn::Load(d, dscores + at)), d, dterms + at);
    }
  }
}

template <typename T>
void run_group(const WindowAttentionBackwardArgs& args, const WindowPartials& partials,
               const WindowGroup& group) {
  constexpr int64_t lanes = HWY_LANES(T);
  const Windows& windows = args.windows;
  const WindowItems items(args);
  const int64_t n = windows.positions(), d = items.head_dim;
  const int64_t row = packed_stride<T>(d), score_row = packed_stride<T>(n);
  const auto scale = static_cast<T>(args.scale);
  const ScoreTerms dropout{{}, {}, args.dropout, args.seed, args.offset};

  AttentionScratch& scratch = attention_scratch();
  T* queries = scratch.q.reserve<T>(n * row);
  T* some_dout = scratch.dout.reserve<T>(n * row);
  T* keys = scratch.k.reserve<T>(round_up(n, lanes) * row);
  T* keys_transposed = scratch.k_transposed.reserve<T>(round_up(d, lanes) * score_row);
  T* values = scratch.v.reserve<T>(lanes * row);
  T* values_transposed = scratch.v_transposed.reserve<T>(round_up(d, lanes) * score_row);
  T* scores = scratch.scores.reserve<T>(kQueryBlock * score_row);
  T* dscores = scratch.dscores.reserve<T>(kQueryBlock * score_row);
  T* keep = args.dropout > 0 ? scratch.keep.reserve<T>(kQueryBlock * score_row) : nullptr;
  T* delta = scratch.delta.reserve<T>(n);
  T* lse = scratch.state.reserve<T>(n);
  T* dq = scratch.dq.reserve<T>(n * row);
  T* dk = scratch.dk.reserve<T>(n * row);
  T* dv = scratch.dv.reserve<T>(n * row);
  WindowTerms<T> terms(args.table, windows, group, score_row);
  WindowTokens tokens(windows, d);
  const Blocks query_blocks(n, kQueryBlock);

  T* all_dterms = nullptr;
  if (partials.dtable != nullptr) {
    all_dterms = window_scratch().dterms.reserve<T>(kHeads * n * score_row);
    std::fill_n(all_dterms, group.heads * n * score_row, T{0});
  }
  T* all_dpadding =
      partials.dpadding == nullptr ? nullptr : static_cast<T*>(partials.dpadding) + group.item * 3 * d;
  if (all_dpadding != nullptr) std::fill_n(all_dpadding, group.heads * 3 * d, T{0});

  tokens.find_next(windows, group.first % windows.count());
  for (int64_t window = group.first; window < group.last; ++window) {
    const int64_t b = window / windows.count(), next = window + 1, next_b = next / windows.count();
    const bool more = next < group.last;
    tokens.advance();
    if (more) tokens.find_next(windows, next % windows.count());
    for (int64_t h = 0; h < group.heads; ++h) {
      const int64_t head = group.head + h;
      T* dterms = all_dterms == nullptr ? nullptr : all_dterms + h * n * score_row;
      T* dpadding = all_dpadding == nullptr ? nullptr : all_dpadding + h * 3 * d;
      const auto column = [&](int64_t which) { return (which * items.heads + head) * d; };
      RowsAhead ahead(tokens.next, n);
      const auto rows_of = [&](const View& x, int64_t first, void* padding) {
        if (more) ahead.add(window_rows(x, next_b, first, tokens.next, padding), d);
        return window_rows(x, b, first, tokens.list, padding);
      };
      const auto operand = [&](int64_t which) {
        return rows_of(args.qkv, column(which), tokens.padding_row(args.padding, column(which)));
      };
      const WindowRows out = rows_of(args.out, head * d, tokens.zeros);
      const WindowRows dout = rows_of(args.dout, head * d, tokens.zeros);
      const T* all_lse = args.lse.as<const T>() + (b * items.heads + head) * windows.tokens();
      // A query outside the map has no gradient: its probabilities count as zeros.
      for (int64_t i = 0; i < n; ++i)
        lse[i] = tokens.list[i] < 0 ? kMinusInfinity<T> : all_lse[tokens.list[i]];

      pack_rows(operand(0), 0, n, n, d, scale, queries, row);
      pack_rows(dout, 0, n, n, d, T{1}, some_dout, row);
      row_products(dout, out, n, d, delta);
      pack_rows(operand(1), 0, n, round_up(n, lanes), d, T{1}, keys, row);
      transpose(keys, row, n, d, keys_transposed, score_row);
      const WindowRows some_values = operand(2);
      for (int64_t j = 0; j < n; j += lanes) {
        pack_rows(some_values, j, std::min(lanes, n - j), lanes, d, T{1}, values, row);
        transpose(values, row, lanes, d, values_transposed + j, score_row);
      }
      const std::array<WindowRows, 3> dqkv{rows_of(args.dqkv, column(0), tokens.discarded),
                                           rows_of(args.dqkv, column(1), tokens.discarded),
                                           rows_of(args.dqkv, column(2), tokens.discarded)};
      const T* bias = terms.matrix(h, windows.seams(window % windows.count()));

      for (int64_t block = 0; block < query_blocks.count; ++block) {
        const int64_t i0 = query_blocks.begin(block), rows = query_blocks.size(block);
        const T* block_queries = queries + i0 * row;
        const T* block_dout = some_dout + i0 * row;
        multiply<Left::Plain, T>(
            Sum::Add,
            {block_queries, row, keys_transposed, score_row, scores, score_row, d, bias + i0 * score_row},
            rows, n, ahead);
        multiply<Left::Plain, T>(
            Sum::Set, {block_dout, row, values_transposed, score_row, dscores, score_row, d}, rows, n, ahead);
        for (int64_t i = 0; i < rows && keep != nullptr; ++i) {
          dropout_row(dropout, dropout.offset + window_score(window, items.heads, head, n, i0 + i), n,
                      keep + i * score_row);
        }
        score_gradients(lse + i0, delta + i0, keep, score_row, rows, n, scores, dscores);
        if (dterms != nullptr) add_scores(dscores, score_row, rows, n, dterms + i0 * score_row);
        const Sum over_queries = block == 0 ? Sum::Set : Sum::Add;
        multiply<Left::Transposed, T>(over_queries, {scores, score_row, block_dout, row, dv, row, rows}, n, d,
                                      ahead);
        multiply<Left::Transposed, T>(over_queries, {dscores, score_row, block_queries, row, dk, row, rows},
                                      n, d, ahead);
        multiply<Left::Plain, T>(Sum::Set, {dscores, score_row, keys, row, dq + i0 * row, row, n}, rows, d,
                                 ahead);
      }

      ahead.finish();
      const auto unpack = [&](const WindowRows& to, const T* gradient, T factor) {
        unpack_rows(
            to, 0, n, d, [&](int64_t) { return factor; }, gradient, row);
      };
      unpack(dqkv[0], dq, scale);
      unpack(dqkv[1], dk, T{1});
      unpack(dqkv[2], dv, T{1});
      for (int64_t i = 0; i < n && dpadding != nullptr; ++i) {
        if (tokens.list[i] >= 0) continue;
        for (int64_t c = 0; c < d; ++c) {
          dpadding[d + c] += dk[i * row + c];
          dpadding[2 * d + c] += dv[i * row + c];
        }
      }
    }
  }

  for (int64_t h = 0; h < group.heads && all_dterms != nullptr; ++h) {
    const T* dterms = all_dterms + h * n * score_row;
    T* dtable = static_cast<T*>(partials.dtable) + (group.item + h) * windows.offsets();
    std::fill(dtable, dtable + windows.offsets(), T{0});
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j0 = 0; j0 < n; j0 += windows.width) {
        T* to = dtable + windows.offset(i, j0);  // falls along a row of keys
        const T* from = dterms + i * score_row + j0;
        for (int64_t j = 0; j < windows.width; ++j) to[-j] += from[j];
      }
    }
  }
}

// Sums over the chunks of windows, in their order: element `at` of each item of the head.
template <typename T>
T sum_chunks(const WindowItems& items, const void* partials, int64_t size, int64_t head, int64_t at) {
  double sum = 0;
  for (int64_t chunk = 0; chunk < items.chunks(); ++chunk)
    sum += static_cast<const T*>(partials)[(chunk * items.heads + head) * size + at];
  return static_cast<T>(sum);
}

template <typename T>
void sum_dtable(const WindowAttentionBackwardArgs& args, const WindowPartials& partials, int64_t offset) {
  const WindowItems items(args);
  with_storage_type<T>(args.dtable.dtype, [&]<typename S>(S*) {
    S* to = args.dtable.as<S>() + offset * items.heads;
    for (int64_t head = 0; head < items.heads; ++head)
      to[head] = static_cast<S>(sum_chunks<T>(items, partials.dtable, args.windows.offsets(), head, offset));
  });
}

template <typename T>
void sum_dpadding(const WindowAttentionBackwardArgs& args, const WindowPartials& partials, int64_t head) {
  const WindowItems items(args);
  const int64_t d = items.head_dim;
  with_storage_type<T>(args.dpadding.dtype, [&]<typename S>(S*) {
    for (int64_t c = 0; c < 3 * d; ++c) {
      args.dpadding.as<S>()[(c / d * items.heads + head) * d + c % d] =
          static_cast<S>(sum_chunks<T>(items, partials.dpadding, 3 * d, head, c));
    }
  });
}

// HWY_EXPORT takes no templates.
WindowBackwardSteps backward_steps(bool wide) {
  if (wide) return {run_group<double>, sum_dtable<double>, sum_dpadding<double>};
  return {run_group<float>, sum_dtable<float>, sum_dpadding<float>};
}

}  // namespace
}  // namespace tenon::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tenon::cpu {

namespace {
HWY_EXPORT(backward_steps);
}

void window_attention_backward(const WindowAttentionBackwardArgs& args) {
  const WindowItems items(args);
  const int64_t n = args.windows.positions(), offsets = args.windows.offsets(), d = items.head_dim;
  const bool wide = args.qkv.dtype == DType::Float64;
  const WindowBackwardSteps steps = HWY_DYNAMIC_DISPATCH(backward_steps)(wide);

  static thread_local ScratchBuffer dtable_memory, dpadding_memory;
  WindowPartials partials;
  const int64_t width = wide ? 8 : 4;
  if (args.dtable) partials.dtable = dtable_memory.reserve<char>(items.count() * offsets * width);
  if (args.dpadding) partials.dpadding = dpadding_memory.reserve<char>(items.count() * 3 * d * width);

  const auto run = [&](int64_t count, int64_t grain, WindowBackwardSteps::Step step) {
    parallel_for(count, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) step(args, partials, i);
    });
  };
  items.for_each_group(n, 3, [&](const WindowGroup& group) { steps.run_group(args, partials, group); });
  const int64_t grain = (int64_t{1} << 16) / std::max<int64_t>(1, items.count()) + 1;
  if (args.dtable) run(offsets, grain, steps.sum_dtable);
  if (args.dpadding) run(items.heads, grain, steps.sum_dpadding);
}

}  // namespace tenon::cpu
#endif
