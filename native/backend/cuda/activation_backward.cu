// Reads the input and the gradient of an activation once, and writes its result and the gradient of its input: bound by
// memory. A thread takes packs of 16 bytes where the tensors allow it, neighbouring threads neighbouring packs.
#include <algorithm>

#include "backend/cuda/activation.h"
#include "backend/cuda/elementwise.h"
#include "backend/cuda/kernels.h"

namespace tenon::cuda {
namespace {

template <typename S>
struct Pass {
  const S* before;
  const S* dafter;
  S* after;
  S* dbefore;
  Activation activation;
  int64_t count;  // of packs
};

template <int kWidth, typename S>
__global__ void __launch_bounds__(kThreads) activation_backward_kernel(const Pass<S> pass) {
  using Elements = Pack<S, kWidth>;
  for (int64_t at = thread_of_grid(); at < pass.count; at += threads_of_grid()) {
    const auto before = reinterpret_cast<const Elements*>(pass.before)[at];
    const auto dafter = reinterpret_cast<const Elements*>(pass.dafter)[at];
    Elements after{}, dbefore{};
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const Compute<S> x = widen(before.elements[i]);
      after.elements[i] = narrow<S>(activate(pass.activation, x));
      dbefore.elements[i] = narrow<S>(widen(dafter.elements[i]) * slope_of(pass.activation, x));
    }
    reinterpret_cast<Elements*>(pass.after)[at] = after;
    reinterpret_cast<Elements*>(pass.dbefore)[at] = dbefore;
  }
}

}  // namespace

void activation_backward(const ActivationBackwardArgs& args, void* stream) {
  if (args.before.numel() == 0) return;
  with_float_type(args.before.dtype, [&]<typename S>(S) {
    constexpr int kWidth = kFullWidth<S>;
    Pass<S> pass{args.before.as<const S>(), args.dafter.as<const S>(), args.after.as<S>(),
                 args.dbefore.as<S>(),      args.activation,           args.before.numel()};
    bool packs = pass.count % kWidth == 0;
    for (const View& x : {args.before, args.dafter, args.after, args.dbefore})
      packs = packs && reinterpret_cast<uintptr_t>(x.data) % 16 == 0;
    Queue& queue = queue_of(stream);
    if (packs) {
      pass.count /= kWidth;
      launch_over(queue, "activationBackward", &activation_backward_kernel<kWidth, S>, pass.count, pass);
    } else {
      launch_over(queue, "activationBackward", &activation_backward_kernel<1, S>, pass.count, pass);
    }
  });
}

}  // namespace tenon::cuda
