#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/processor.cc"
#include "backend/cpu/simd.h"
//
#include <atomic>

#include "backend/cpu/processor.h"

HWY_BEFORE_NAMESPACE();
namespace tenon::cpu::HWY_NAMESPACE {
namespace {

const char* name_of_set() {
#if HWY_ARCH_X86
  return HWY_TARGET <= HWY_AVX3 ? "AVX-512" : HWY_TARGET <= HWY_AVX2 ? "AVX2" : "none";
#elif HWY_ARCH_ARM
  return HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128 ? "none" : "NEON";
#else
  return "none";
#endif
}

}  // namespace
}  // namespace tenon::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tenon::cpu {

namespace {

HWY_EXPORT(name_of_set);

#if defined(__x86_64__)
bool has_pairs() { return __builtin_cpu_supports("avx512bf16") != 0; }
// Intel's processors since Sapphire Rapids are those with AVX-512 FP16.
bool has_slow_pairs() { return __builtin_cpu_is("intel") != 0 && __builtin_cpu_supports("avx512fp16") != 0; }
#else
bool has_pairs() { return false; }
bool has_slow_pairs() { return false; }
#endif

std::atomic<bool>& choice() {
  static std::atomic<bool> pairs{has_pairs() && !has_slow_pairs()};
  return pairs;
}

}  // namespace

const char* instruction_set() { return HWY_DYNAMIC_DISPATCH(name_of_set)(); }

bool multiplies_pairs() { return choice(); }

bool set_multiplies_pairs(bool wanted) {
  if (!has_pairs()) return false;
  choice() = wanted;
  return true;
}

}  // namespace tenon::cpu
#endif
