// The only door to oneDNN (onednn_*.cc): both its v2 and its v3 interface are served.
//
// Each function computes `args` (no size of which is zero) and returns true, or returns false and touches nothing where
// oneDNN has no optimised kernel for these dtypes, strides or this processor.
#pragma once

#include <string>

#include "backend/backend.h"

namespace tenon::cpu {

std::string onednn_version();

bool onednn_matmul(const MatmulArgs& args);

// Whether it multiplies bfloat16 in tiles here (AMX).
bool onednn_has_tiles();
// Whether it multiplies operands of this dtype here, bfloat16 only where that is faster than float32: in tiles or in pairs.
bool onednn_multiplies(DType dtype);

bool onednn_conv2d(const Conv2dArgs& args);
bool onednn_conv2d_input_gradient(const Conv2dInputGradientArgs& args);
bool onednn_conv2d_weight_gradient(const Conv2dWeightGradientArgs& args);

// Bytes that b, or the weight, takes at most in the layout that kernels on this processor like best; 0 where they gain nothing by it.
size_t onednn_prepared_bytes(const MatmulArgs& args);
size_t onednn_prepared_bytes(const Conv2dArgs& args);

}  // namespace tenon::cpu
