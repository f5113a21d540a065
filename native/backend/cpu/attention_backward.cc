// Gradients of attention. The probabilities are computed again, block by block, from the log-sum-exp:
//   P = exp(scale q k^T + bias - lse),  D = P with dropout (elements times keep)
//   dv = D^T dout,  dP = (dout v^T) keep,  dS = P (dP - delta) with delta = rowsum(dout out)
//   dq = scale dS k,  dk = scale dS^T q,  dbias = dS summed over the broadcast heads.
// (Dao et al., "FlashAttention", 2022, algorithm 4, with the loop over keys outside.)
//
// The work is cut into items that depend on the shapes alone, never on the number of threads; what several items
// contribute to is kept apart and summed in their order.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/attention_backward.cc"
#include "backend/cpu/simd.h"
//
#include "backend/cpu/attention_tiles-inl.h"
//
#include "backend/cpu/attention_operands-inl.h"
#include "backend/cpu/attention_scores-inl.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/processor.h"

#include <cstring>

#ifndef TENON_ATTENTION_BACKWARD_ONCE
#define TENON_ATTENTION_BACKWARD_ONCE
namespace tenon::cpu {

// A group is the heads that share one [Nq, Nk] of dbias (a single head without dbias). Its heads are dealt to
// `chunks`, each with a partial dbias; the keys of a head are dealt to `splits`, each with a partial dq.
struct BackwardPlan {
  int64_t batch_groups = 1, head_groups = 1;
  int64_t batch_members = 1, head_members = 1;
  int64_t chunks = 1, splits = 1;

  int64_t groups() const { return batch_groups * head_groups; }
  int64_t members() const { return batch_members * head_members; }
  int64_t items() const { return groups() * chunks * splits; }
  int64_t batch(int64_t group, int64_t member) const {
    return group / head_groups * batch_members + member / head_members;
  }
  int64_t head(int64_t group, int64_t member) const {
    return group % head_groups * head_members + member % head_members;
  }

  explicit BackwardPlan(const AttentionBackwardArgs& args) {
    constexpr int64_t kItems = 16;  // enough for many threads, few enough for the memory of partial sums
    const int64_t batch = args.q.size(0), heads = args.q.size(1);
    batch_groups = args.dbias ? args.dbias.size(0) : batch;
    head_groups = args.dbias ? args.dbias.size(1) : heads;
    batch_members = batch / batch_groups;
    head_members = heads / head_groups;
    chunks = std::min(members(), ceil_div(kItems, groups()));
    splits = std::clamp<int64_t>(ceil_div(kItems, groups() * chunks), 1,
                                 std::max<int64_t>(1, Blocks(args.k.size(2), kKeyBlock).count));
  }
};

// Where partial sums go, in T (float32, or float64 for float64).
struct BackwardPartials {
  void* dbias = nullptr;  // [groups, chunks, Nq, Nk], or null without dbias; may be the output itself
  void* dq = nullptr;     // [B * H, splits, Nq, packed row], or null when splits is 1
};

struct BackwardSteps {
  using Step = void (*)(const AttentionBackwardArgs&, const BackwardPlan&, const BackwardPartials&, int64_t);
  Step run_item, sum_dq, sum_dbias;
};

}  // namespace tenon::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace tenon::cpu::HWY_NAMESPACE {
namespace {

// Split `split` of head (b, h): dk and dv of its keys, and their contribution to dq and dbias. `dbias` points at the
// head's [Nq, Nk] or is null; it is written by the first head of a chunk and added to by the others. Form: of the products'
// operands.
template <typename T, class Form>
void attend_backward(const AttentionBackwardArgs& args, int64_t b, int64_t h, int64_t split, int64_t splits,
                     T* partial_dq, T* dbias, bool add_dbias) {
  constexpr int64_t lanes = HWY_LANES(T);
  const int64_t count = args.q.size(2), keys = args.k.size(2), d = args.q.size(3);
  const int64_t row = packed_stride<T>(d), widest = round_up(std::min(keys, kKeyBlock), lanes);
  const int64_t score_row = packed_stride<T>(widest), depth = Form::depth(d),
                left_row = packed_stride<T>(depth);
  const auto scale = static_cast<T>(args.scale), row_scale = Form::scale_of_rows(scale);
  const ScoreTerms terms{args.bias, args.mask, args.dropout, args.seed, args.offset};
  const HeadRows q(args.q, b, h), k(args.k, b, h), v(args.v, b, h), out(args.out, b, h),
      dout(args.dout, b, h);
  const T* lse = args.lse.as<const T>() + (b * args.q.size(1) + h) * count;

  AttentionScratch& scratch = attention_scratch();
  T* some_queries = scratch.q.reserve<T>(kQueryBlock * left_row);
  T* some_dout = scratch.dout.reserve<T>(kQueryBlock * left_row);
  T* some_keys = scratch.k.reserve<T>(widest * left_row);
  T* keys_transposed = scratch.k_transposed.reserve<T>(round_up(depth, lanes) * score_row);
  T* values = scratch.v.reserve<T>(lanes * left_row);
  T* values_transposed = scratch.v_transposed.reserve<T>(round_up(depth, lanes) * score_row);
  T* scores = scratch.scores.reserve<T>(kQueryBlock * score_row);
  T* dscores = scratch.dscores.reserve<T>(kQueryBlock * score_row);
  T* keep = args.dropout > 0 ? scratch.keep.reserve<T>(kQueryBlock * score_row) : nullptr;
  T* delta = scratch.delta.reserve<T>(count);
  T* dk = scratch.dk.reserve<T>(widest * row);
  T* dv = scratch.dv.reserve<T>(widest * row);
  T* dq = partial_dq != nullptr ? partial_dq : scratch.dq.reserve<T>(count * row);

  // Rows for a sum over them; `packed`: the same rows for one over columns.
  const auto right_of = [&](const HeadRows& x, int64_t first, int64_t rows, const T* packed,
                            ScratchBuffer& memory) -> const T* {
    if constexpr (Form::kOneForm) return packed;
    T* const to = memory.reserve<T>(Form::depth(rows) * row);
    Form::pack_right(x, first, rows, d, to, row);
    return to;
  };

  row_products(dout, out, count, d, delta);
  if (keys == 0) std::fill(dq, dq + count * row, T{0});

  const Blocks key_blocks(keys, kKeyBlock), query_blocks(count, kQueryBlock);
  const int64_t first_block = key_blocks.count * split / splits,
                last_block = key_blocks.count * (split + 1) / splits;
  for (int64_t block = first_block; block < last_block; ++block) {
    const int64_t j0 = key_blocks.begin(block), n = key_blocks.size(block);
    Form::pack_left(k, j0, n, round_up(n, lanes), d, T{1}, some_keys, left_row);
    transpose(some_keys, left_row, n, depth, keys_transposed, score_row);
    const T* const right_keys = right_of(k, j0, n, some_keys, scratch.k_pairs);
    for (int64_t j = 0; j < n; j += lanes) {
      Form::pack_left(v, j0 + j, std::min(lanes, n - j), lanes, d, T{1}, values, left_row);
      transpose(values, left_row, lanes, depth, values_transposed + j, score_row);
    }
    if (query_blocks.count == 0) {
      std::fill(dk, dk + n * row, T{0});
      std::fill(dv, dv + n * row, T{0});
    }

    for (int64_t query_block = 0; query_block < query_blocks.count; ++query_block) {
      const int64_t i0 = query_blocks.begin(query_block), rows = query_blocks.size(query_block);
      Form::pack_left(q, i0, rows, rows, d, row_scale, some_queries, left_row);
      Form::pack_left(dout, i0, rows, rows, d, T{1}, some_dout, left_row);
      multiply<Left::Plain, T, Form>(
          Sum::Set, {some_queries, left_row, keys_transposed, score_row, scores, score_row, depth}, rows, n);
      if (row_scale != scale) scale_rows(scores, score_row, rows, n, scale);
      multiply<Left::Plain, T, Form>(
          Sum::Set, {some_dout, left_row, values_transposed, score_row, dscores, score_row, depth}, rows, n);
      for (int64_t i = 0; i < rows && terms.any(); ++i)
        add_terms(terms, b, h, i0 + i, j0, n, scores + i * score_row);
      for (int64_t i = 0; i < rows && keep != nullptr; ++i) {
        dropout_row(terms, dropout_index(terms, args.q, args.k, b, h, i0 + i, j0), n, keep + i * score_row);
      }
      score_gradients(lse + i0, delta + i0, keep, score_row, rows, n, scores, dscores);
      for (int64_t i = 0; i < rows && dbias != nullptr; ++i) {
        const T* line = dscores + i * score_row;
        T* to = dbias + (i0 + i) * keys + j0;
        if (add_dbias) {
          for (int64_t j = 0; j < n; ++j) to[j] += line[j];
        } else {
          std::copy(line, line + n, to);
        }
      }
      const Sum over_queries = query_block == 0 ? Sum::Set : Sum::Add;
      const Sum over_keys = block == first_block ? Sum::Set : Sum::Add;
      const int64_t query_depth = Form::depth(rows);
      const auto d_left = Form::transposed_left_of(scores, score_row, rows, n, scratch.pairs);
      const T* const right_dout = right_of(dout, i0, rows, some_dout, scratch.dout_pairs);
      multiply<Left::Transposed, T, Form>(
          over_queries, {d_left.data, d_left.stride, right_dout, row, dv, row, query_depth}, n, d);
      const auto ds_columns = Form::transposed_left_of(dscores, score_row, rows, n, scratch.pairs);
      const T* const right_queries = right_of(q, i0, rows, some_queries, scratch.q_pairs);
      multiply<Left::Transposed, T, Form>(
          over_queries, {ds_columns.data, ds_columns.stride, right_queries, row, dk, row, query_depth}, n, d);
      const auto ds_left = Form::left_of(dscores, score_row, rows, n, scratch.pairs);
      multiply<Left::Plain, T, Form>(
          over_keys, {ds_left.data, ds_left.stride, right_keys, row, dq + i0 * row, row, Form::depth(n)},
          rows, d);
    }
    const auto by = [](T factor) { return [factor](int64_t) { return factor; }; };
    unpack_rows(HeadRows(args.dk, b, h), j0, n, d, by(Form::kOneForm ? T{1} : scale), dk, row);
    unpack_rows(HeadRows(args.dv, b, h), j0, n, d, by(T{1}), dv, row);
  }
  if (partial_dq == nullptr) {
    unpack_rows(
        HeadRows(args.dq, b, h), 0, count, d, [&](int64_t) { return scale; }, dq, row);
  }
}

template <typename T, class Form>
void run_item(const AttentionBackwardArgs& args, const BackwardPlan& plan, const BackwardPartials& partials,
              int64_t item) {
  const int64_t split = item % plan.splits, chunk = item / plan.splits % plan.chunks;
  const int64_t group = item / plan.splits / plan.chunks;
  const int64_t scores = args.q.size(2) * args.k.size(2);
  const int64_t dq_size = args.q.size(2) * packed_stride<T>(args.q.size(3));
  T* dbias = partials.dbias == nullptr
                 ? nullptr
                 : static_cast<T*>(partials.dbias) + (group * plan.chunks + chunk) * scores;
  const int64_t first = plan.members() * chunk / plan.chunks,
                last = plan.members() * (chunk + 1) / plan.chunks;
  for (int64_t member = first; member < last; ++member) {
    const int64_t b = plan.batch(group, member), h = plan.head(group, member);
    const int64_t head = b * args.q.size(1) + h;
    T* dq = partials.dq == nullptr ? nullptr
                                   : static_cast<T*>(partials.dq) + (head * plan.splits + split) * dq_size;
    attend_backward<T, Form>(args, b, h, split, plan.splits, dq, dbias, member > first);
  }
}

// dq of one head from its splits.
template <typename T>
void sum_dq(const AttentionBackwardArgs& args, const BackwardPlan& plan, const BackwardPartials& partials,
            int64_t head) {
  const int64_t rows = args.q.size(2), d = args.q.size(3), heads = args.q.size(1);
  const int64_t row = packed_stride<T>(d), size = rows * row;
  T* sum = static_cast<T*>(partials.dq) + head * plan.splits * size;
  for (int64_t split = 1; split < plan.splits; ++split) {
    const T* part = sum + split * size;
    for (int64_t i = 0; i < size; ++i) sum[i] += part[i];
  }
  const auto scale = [&](int64_t) { return static_cast<T>(args.scale); };
  unpack_rows(HeadRows(args.dq, head / heads, head % heads), 0, rows, d, scale, sum, row);
}

// dbias of one group from its chunks.
template <typename T>
void sum_dbias(const AttentionBackwardArgs& args, const BackwardPlan& plan, const BackwardPartials& partials,
               int64_t group) {
  const int64_t size = args.q.size(2) * args.k.size(2);
  T* sum = static_cast<T*>(partials.dbias) + group * plan.chunks * size;
  for (int64_t chunk = 1; chunk < plan.chunks; ++chunk) {
    const T* part = sum + chunk * size;
    for (int64_t i = 0; i < size; ++i) sum[i] += part[i];
  }
  with_storage_type<T>(args.dbias.dtype, [&]<typename S>(S*) {
    S* to = args.dbias.as<S>() + group * size;
    for (int64_t i = 0; i < size; ++i) to[i] = static_cast<S>(sum[i]);
  });
}

// HWY_EXPORT takes no templates.
BackwardSteps backward_steps(DType dtype) {
  if (dtype == DType::Float64) return {run_item<double, Rows<double>>, sum_dq<double>, sum_dbias<double>};
  const bool pairs = dtype == DType::BFloat16 && multiplies_pairs();
  return {pairs ? run_item<float, Pairs> : run_item<float, Rows<float>>, sum_dq<float>, sum_dbias<float>};
}

}  // namespace
}  // namespace tenon::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tenon::cpu {

namespace {
HWY_EXPORT(backward_steps);
}

void attention_backward(const AttentionBackwardArgs& args) {
  const int64_t queries = args.q.size(2), keys = args.k.size(2), d = args.q.size(3);
  const int64_t heads = args.q.size(0) * args.q.size(1);
  const bool wide = args.q.dtype == DType::Float64;
  if (heads == 0) {
    if (args.dbias)
      std::memset(args.dbias.data, 0, static_cast<size_t>(args.dbias.numel()) * size_of(args.dbias.dtype));
    return;
  }
  const BackwardPlan plan(args);
  const BackwardSteps steps = HWY_DYNAMIC_DISPATCH(backward_steps)(args.q.dtype);

  static thread_local ScratchBuffer dbias_memory, dq_memory;
  BackwardPartials partials;
  const int64_t width = wide ? 8 : 4;
  const bool in_place = plan.chunks == 1 && static_cast<int64_t>(size_of(args.q.dtype)) == width;
  if (args.dbias) {
    partials.dbias = in_place
                         ? args.dbias.data
                         : dbias_memory.reserve<char>(plan.groups() * plan.chunks * queries * keys * width);
  }
  if (plan.splits > 1) {
    const int64_t row = wide ? packed_stride<double>(d) : packed_stride<float>(d);
    partials.dq = dq_memory.reserve<char>(heads * plan.splits * queries * row * width);
  }

  const auto run = [&](int64_t n, int64_t grain, BackwardSteps::Step step) {
    parallel_for(n, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) step(args, plan, partials, i);
    });
  };
  run(plan.items(), attention_grain(queries, keys * heads / plan.items(), 3 * d), steps.run_item);
  if (partials.dq != nullptr) run(heads, 1, steps.sum_dq);
  if (args.dbias && !in_place) run(plan.groups(), 1, steps.sum_dbias);
}

}  // namespace tenon::cpu
#endif
