// The only door to oneDNN (onednn.cc): both its v2 and its v3 interface are served.
#pragma once

#include <string>

#include "backend/backend.h"

namespace tenon::cpu {

std::string onednn_version();

// Computes `args` (no size of which is zero) and returns true, or returns false and touches nothing where oneDNN has
// no optimised kernel for these dtypes, strides or this processor.
bool onednn_matmul(const MatmulArgs& args);

}  // namespace tenon::cpu
