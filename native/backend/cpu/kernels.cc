#include "backend/cpu/kernels.h"

namespace tenon::cpu {

const Kernels& kernels() {
  static const Kernels table = [] {
    Kernels k;
#define TENON_KERNEL(name, Args) k.name = [](const Args& args, void*) { cpu::name(args); };
    TENON_KERNELS(TENON_KERNEL)
#undef TENON_KERNEL
    return k;
  }();
  return table;
}

}  // namespace tenon::cpu
