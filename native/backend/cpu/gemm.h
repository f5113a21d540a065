// Our own matrix product, for what oneDNN does not serve: float64, float16, and 16-bit or float32 on processors for
// which it has no optimised kernel. Takes any strides; results do not depend on the thread count.
#pragma once

#include "backend/backend.h"

namespace tenon::cpu {

void gemm(const MatmulArgs& args);

}  // namespace tenon::cpu
