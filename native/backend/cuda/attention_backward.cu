#include "backend/cuda/attention_backward.h"

#include "backend/cuda/attention_hopper.h"
#include "backend/cuda/kernels.h"

namespace tenon::cuda {
namespace {

// dbias from its chunks: a thread to an element.
constexpr int kSumThreads = 256;

template <typename S>
__global__ void __launch_bounds__(kSumThreads)
    sum_chunks(const Compute<S>* partial, int chunks, int64_t count, S* dbias) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kSumThreads + static_cast<int>(threadIdx.x);
  if (i >= count) return;
  Compute<S> sum = 0;
  for (int chunk = 0; chunk < chunks; ++chunk) sum += partial[chunk * count + i];
  dbias[i] = narrow<S>(sum);
}

template <typename S>
void run(const AttentionBackwardArgs& args, Queue& queue) {
  using T = Compute<S>;
  constexpr const char* kOp = "attentionBackward";
  const int64_t batch = args.q.size(0), heads = args.q.size(1), queries = args.q.size(2);
  backward::Operands<Strided, S> a{Heads<const S>(args.q),
                                   Heads<const S>(args.k),
                                   Heads<const S>(args.v),
                                   Heads<const S>(args.out),
                                   Heads<const S>(args.dout),
                                   Heads<S>(args.dq),
                                   Heads<S>(args.dk),
                                   Heads<S>(args.dv),
                                   Heads<const T>(args.lse.as<const T>(), heads * queries, queries, 1),
                                   Terms<S>(kOp, args, queue),
                                   static_cast<int>(args.q.size(3))};
  const auto plan = backward::make_plan<Strided, S>(queue, batch, heads, queries, args.k.size(2),
                                                    args.dbias ? args.dbias.size(0) : 0,
                                                    args.dbias ? args.dbias.size(1) : 0);
  auto* const scratch = static_cast<T*>(queue.scratch(static_cast<size_t>(plan.scratch_count()) * sizeof(T)));
  backward::start(queue, kOp, a, plan, scratch);
  if (args.dbias && args.dbias.numel() > 0) {  // zeros where there is no head
    const int64_t count = args.dbias.numel();
    launch(queue, kOp, &sum_chunks<S>, blocks_for(count, kSumThreads), kSumThreads, 0, a.partial,
           static_cast<int>(plan.chunks()), count, args.dbias.as<S>());
  }
}

}  // namespace

void attention_backward(const AttentionBackwardArgs& args, void* stream) {
  if (attention_backward_on_hopper(args, queue_of(stream))) return;
  with_float_type(args.q.dtype, [&]<typename S>(S) { run<S>(args, queue_of(stream)); });
}

}  // namespace tenon::cuda
