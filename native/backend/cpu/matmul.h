// More of the product of kernels.h: for kernels that go on with its rows, and for who knows that an operand stays as it is.
#pragma once

#include "backend/cpu/gemm.h"

namespace tenon::cpu {

// args of rank 2, with neither `before` nor `a_sums`.
void matmul(const MatmulArgs& args, const FinishRow& finish);

// Device::prepared_bytes
size_t prepared_bytes(const MatmulArgs& args);

}  // namespace tenon::cpu
