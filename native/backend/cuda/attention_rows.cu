// The attention probabilities of chosen queries, for looking at: a block takes one query of a head through all keys twice,
// a thread to a key, first for the softmax's maximum and denominator, then for the probabilities. Scores are computed
// again rather than kept, so rows may have any length. A query that is not there is reported, and gives NaN.
#include "backend/cuda/attention.h"
#include "backend/cuda/data_error.h"
#include "backend/cuda/kernels.h"

namespace tenon::cuda {
namespace {

constexpr const char* kOp = "attentionRows";
constexpr int kThreads = 128;

template <typename S>
struct Rows {
  Heads<const S> q, k;
  Terms<S> terms;
  const int64_t* rows;
  int64_t row_stride;
  S* out;
  int chosen, d;
  IndexCheck check;
};

// Shared memory holds q's row, then the maximum and the denominator of every warp.
template <typename S>
__global__ void __launch_bounds__(kThreads) probabilities(const Rows<S> a) {
  using T = Compute<S>;
  constexpr int kWarps = kThreads / kWarpSize;
  T* const query = shared_memory<T>();
  T* const maxima = query + a.d;
  T* const totals = maxima + kWarps;
  const int head = static_cast<int>(blockIdx.x) / a.chosen, r = static_cast<int>(blockIdx.x) % a.chosen;
  const int b = head / a.terms.heads, h = head % a.terms.heads;
  const int first = static_cast<int>(threadIdx.x), warp = first / kWarpSize;
  const int64_t index = a.rows[r * a.row_stride];
  const Terms<S> terms = a.terms.of(b, h);
  S* const out = a.out + static_cast<int64_t>(blockIdx.x) * terms.keys;
  if (!a.check(index)) {  // the whole block
    for (int j = first; j < terms.keys; j += kThreads)
      out[j] = narrow<S>(std::numeric_limits<T>::quiet_NaN());
    return;
  }
  const auto i = static_cast<int>(index);
  const Heads<const S> q = a.q.of(b, h), k = a.k.of(b, h);
  for (int c = first; c < a.d; c += kThreads) query[c] = widen(q.data[i * q.row + c]);
  __syncthreads();
  const auto score = [&](int j) {
    const S* const key = k.data + j * k.row;
    T product = 0;
    for (int c = 0; c < a.d; ++c) product += query[c] * widen(key[c]);
    return terms.score(product, i, j);
  };
  T most = kMinusInfinity<T>, total = 0;
  for (int j = first; j < terms.keys; j += kThreads) {
    const T s = score(j), larger = s > most ? s : most, shift = shift_of(larger);
    total = total * exp_score(most - shift) + exp_score(s - shift);
    most = larger;
  }
  // The block's, from every thread's own.
  const T warp_most = max_over_lanes<kWarpSize>(most);
  if (first % kWarpSize == 0) maxima[warp] = warp_most;
  __syncthreads();
  T shift = maxima[0];
  for (int w = 1; w < kWarps; ++w) shift = maxima[w] > shift ? maxima[w] : shift;
  shift = shift_of(shift);
  total = sum_over_block(total * exp_score(most - shift), totals);
  const T inverse = total == 0 ? T(0) : 1 / total;
  for (int j = first; j < terms.keys; j += kThreads)
    out[j] = narrow<S>(exp_score(score(j) - shift) * inverse);
}

template <typename S>
void rows(const AttentionRowsArgs& args, Queue& queue) {
  if (args.out.numel() == 0) return;
  const int chosen = to_int(kOp, "rows", args.rows.size(0)), d = static_cast<int>(args.q.size(3));
  const Rows<S> a{Heads<const S>(args.q),
                  Heads<const S>(args.k),
                  Terms<S>(kOp, args, queue),
                  args.rows.as<const int64_t>(),
                  args.rows.stride(0),
                  args.out.as<S>(),
                  chosen,
                  d,
                  IndexCheck{kOp, args.q.size(2), queue.data_error(), "rows"}};
  const int64_t blocks = args.q.size(0) * args.q.size(1) * chosen;
  constexpr size_t kPerWarp = 2 * kThreads / kWarpSize;
  launch(queue, kOp, &probabilities<S>, blocks, kThreads,
         (static_cast<size_t>(d) + kPerWarp) * sizeof(Compute<S>), a);
}

}  // namespace

void attention_rows(const AttentionRowsArgs& args, void* stream) {
  with_float_type(args.q.dtype, [&]<typename S>(S) { rows<S>(args, queue_of(stream)); });
}

}  // namespace tenon::cuda
