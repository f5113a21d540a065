// CUDA's kernels, one per entry of backend.h; each lives in the file that bears its name (elementwise kernels in unary.cu
// and binary.cu, optimizers in optimizer.cu). They enqueue on the Queue (launch.h) that `stream` points to.
#pragma once

#include "backend/backend.h"

namespace tenon::cuda {

#define TENON_KERNEL(name, Args) void name(const Args& args, void* stream);
TENON_KERNELS(TENON_KERNEL)
#undef TENON_KERNEL

// The table that the device hands to the ops.
const Kernels& kernels();

}  // namespace tenon::cuda
