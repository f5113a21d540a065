// Convolutions by kernels of our own, where cuDNN has none.
#pragma once

#include "backend/cuda/conv2d_plans.h"
#include "backend/cuda/queue.h"

namespace tenon::cuda {

// The weight, or its gradient, is contiguous; all operands have elements. float64 sums in float64, the others in float32.
void conv2d_direct(Queue& queue, const char* op, const Convolution& convolution);

}  // namespace tenon::cuda
