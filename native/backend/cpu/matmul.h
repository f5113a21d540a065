// The product of kernels.h, for kernels that go on with its rows.
#pragma once

#include "backend/cpu/gemm.h"

namespace tenon::cpu {

// args of rank 2, with neither `before` nor `a_sums`.
void matmul(const MatmulArgs& args, const FinishRow& finish);

}  // namespace tenon::cpu
