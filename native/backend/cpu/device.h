// The CPU device: system memory, and an executor thread with an OpenMP team.
#pragma once

#include <memory>

#include "backend/device.h"

namespace tenon::cpu {

// `threads` of 0 takes TENON_NUM_THREADS, else the number of cores this process may use.
std::unique_ptr<Device> make_device(int threads);

// What `tenon info` reports.
struct CpuInfo {
  int cores;                    // that this process may use, see cores.h
  int threads;                  // that make_device(0) takes
  std::string instruction_set;  // of the kernels, see processor.h
  std::string bfloat16;         // what multiplies it: "tiles" (AMX), "pairs" (AVX-512 BF16) or "float32"
  std::string onednn;           // version
};
CpuInfo info();

// The thread count that make_device(0) would use. Throws TensorError VALUE for a malformed TENON_NUM_THREADS.
int default_threads();

}  // namespace tenon::cpu
