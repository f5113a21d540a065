// The CPU's kernels as the backend under test.
#include "backend/cpu/kernels.h"
#include "backend/cpu/processor.h"
#include "test/kernel_testing.h"

namespace tenon::testing {

const Kernels& kernels() { return cpu::kernels(); }
void* stream() { return nullptr; }
void wait() {}
bool emulated() { return false; }
void in_every_way(DType dtype, const std::function<void()>& body) {
  body();
  const bool pairs = cpu::multiplies_pairs();
  if (dtype != DType::BFloat16 || !cpu::set_multiplies_pairs(!pairs)) return;
  body();
  cpu::set_multiplies_pairs(pairs);
}

}  // namespace tenon::testing
