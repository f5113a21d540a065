// The CPU's kernels, one per entry of backend.h; each lives in the file that bears its name (elementwise kernels in
// unary.cc and binary.cc, optimizers in optimizer.cc). They run on the executor thread of a CPU stream and are
// parallel inside through parallel.h.
#pragma once

#include "backend/backend.h"

namespace tenon::cpu {

#define TENON_KERNEL(name, Args) void name(const Args& args);
TENON_KERNELS(TENON_KERNEL)
#undef TENON_KERNEL

// The table that the device hands to the ops.
const Kernels& kernels();

}  // namespace tenon::cpu
