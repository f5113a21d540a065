// The CPU's kernels as the backend under test.
#include "backend/cpu/kernels.h"
#include "test/kernel_testing.h"

namespace tenon::testing {

const Kernels& kernels() { return cpu::kernels(); }
void* stream() { return nullptr; }
void wait() {}
bool emulated() { return false; }

}  // namespace tenon::testing
