// What tests may set and see of the emulator's cuBLASLt and cuDNN.
#pragma once

#include <array>
#include <cstdint>

namespace tenon::emulator {

// How many handles of either library outlived a stream that they had used: the libraries may still want something of it.
int& late_handles();

struct MatmulLibrary {
  // How long each of the proposed algorithms takes, in milliseconds of the emulator's clock: without an epilogue, with a
  // bias alone, and with any other.
  std::array<double, 3> plain{0.010, 0.020, 0.030};
  std::array<double, 3> biased{0.010, 0.020, 0.030};
  std::array<double, 3> fused{0.010, 0.020, 0.030};
  // What ran last.
  uint64_t algorithm = 0;
  uint32_t epilogue = 0;
};
MatmulLibrary& matmul_library();

struct ConvolutionLibrary {
  // How long the two algorithms take that can be used of those proposed.
  std::array<double, 2> times{0.010, 0.020};
  double fused_time = 0.010;  // of the first, with a bias and an activation
  // What it answers instead where it is asked for proposals, for the workspace of one, and to run one; 0: it does so.
  int refuses_to_propose = 0, refuses_to_measure = 0, refuses_to_run = 0;
  const char* last_error = "";
  // What ran last, and how often it was asked to run.
  int algorithm = 0;
  bool fused = false;
  int asked = 0;
};
ConvolutionLibrary& convolution_library();

}  // namespace tenon::emulator
