#include "backend/cuda/kernels.h"

#include "core/error.h"

namespace tenon::cuda {

namespace {

template <typename Args>
[[noreturn]] void missing(const Args&, void*) {
  throw TensorError("kernel", code::kDevice, "CUDA has no kernel for this op yet");
}

}  // namespace

const Kernels& kernels() {
  static const Kernels table = [] {
    Kernels k;
#define TENON_KERNEL(name, Args) k.name = cuda::name != nullptr ? &cuda::name : &missing<Args>;
    TENON_KERNELS(TENON_KERNEL)
#undef TENON_KERNEL
    return k;
  }();
  return table;
}

}  // namespace tenon::cuda
