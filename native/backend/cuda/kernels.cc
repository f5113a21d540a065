#include "backend/cuda/kernels.h"

namespace tenon::cuda {

const Kernels& kernels() {
  static const Kernels table = [] {
    Kernels k;
#define TENON_KERNEL(name, Args) k.name = cuda::name;
    TENON_KERNELS(TENON_KERNEL)
#undef TENON_KERNEL
    return k;
  }();
  return table;
}

}  // namespace tenon::cuda
