// What tests may set and see of the emulator's cuBLASLt.
#pragma once

#include <array>

#include "backend/cuda/cublaslt.h"

namespace tenon::emulator {

struct MatmulLibrary {
  // How long each of the proposed algorithms takes, in milliseconds of the emulator's clock: without an epilogue, and
  // with one.
  std::array<double, 3> plain{0.010, 0.020, 0.030};
  std::array<double, 3> fused{0.010, 0.020, 0.030};
  // What ran last.
  uint64_t algorithm = 0;
  bool has_epilogue = false;
};
MatmulLibrary& matmul_library();

}  // namespace tenon::emulator
