#include "backend/cuda/attention_forward.h"

#include "backend/cuda/attention_hopper.h"
#include "backend/cuda/kernels.h"

namespace tenon::cuda {

void attention(const AttentionArgs& args, void* stream) {
  if (attention_on_hopper(args, queue_of(stream))) return;
  with_float_type(args.q.dtype, [&]<typename S>(S) {
    using T = Compute<S>;
    constexpr const char* kOp = "attention";
    const int64_t heads = args.q.size(1), queries = args.q.size(2);
    const forward::Operands<Strided, S> a{Heads<const S>(args.q),
                                          Heads<const S>(args.k),
                                          Heads<const S>(args.v),
                                          Heads<S>(args.out),
                                          Heads<T>(args.lse.as<T>(), heads * queries, queries, 1),
                                          Terms<S>(kOp, args, queue_of(stream)),
                                          static_cast<int>(args.q.size(3))};
    forward::start(queue_of(stream), kOp, a, args.q.size(0) * heads);
  });
}

}  // namespace tenon::cuda
