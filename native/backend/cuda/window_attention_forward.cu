// Attention inside Swin's windows: attention_forward.h's kernels on the rows of windows. A window of 7 x 7 is one block on
// tensor cores, which reads each row of qkv once and writes each row of out once.
#include "backend/cuda/attention_forward.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/window_attention.h"

namespace tenon::cuda {

void window_attention(const WindowAttentionArgs& args, void* stream) {
  with_float_type(args.qkv.dtype, [&]<typename S>(S) {
    constexpr const char* kOp = "windowAttention";
    const Grid windows = grid_of(kOp, args.windows);
    const int64_t heads = args.table.size(1), features = args.out.size(3), d = features / heads;
    const auto* const padding = args.padding.as<const S>();
    const auto part = [&](int64_t which) {
      return window_heads<const S>(args.qkv, windows, which * features, d, padding);
    };
    const forward::Operands<Windowed, S> a{part(0),
                                           part(1),
                                           part(2),
                                           window_heads<S>(args.out, windows, 0, d),
                                           window_lse<Compute<S>>(args.lse, windows),
                                           WindowTerms<S>(kOp, args, queue_of(stream)),
                                           static_cast<int>(d)};
    forward::start(queue_of(stream), kOp, a, args.qkv.size(0) * windows.count() * heads);
  });
}

}  // namespace tenon::cuda
