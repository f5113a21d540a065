// Our own matrix product, for what oneDNN does not serve (float64, float16, and 16-bit or float32 on processors for
// which it has no optimised kernel), and for float32 where it is faster (matmul.cc). Takes any strides; results do not
// depend on the thread count.
#pragma once

#include "backend/backend.h"

namespace tenon::cpu {

void gemm(const MatmulArgs& args);

inline View transposed(const View& matrix) {
  return {matrix.data, matrix.dtype, Shape{matrix.size(1), matrix.size(0)},
          Shape{matrix.stride(1), matrix.stride(0)}};
}

}  // namespace tenon::cpu
