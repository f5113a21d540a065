// Our own matrix product, for what oneDNN does not serve (float64, float16, and 16-bit or float32 on processors for
// which it has no optimised kernel), and for float32 where it is faster (matmul.cc). Takes any strides; results do not
// depend on the thread count.
#pragma once

#include <functional>

#include "backend/backend.h"

namespace tenon::cpu {

// Called once for each part of each row of out, elements [row, column .. column + n), when they are final and still in the
// cache; on any thread.
using FinishRow = std::function<void(int64_t row, int64_t column, int64_t n)>;

// Columns of b's panels where vectors are widest; elsewhere a whole number of panels are as wide.
constexpr int64_t kWidestPanel = 32;

// `finish` goes with an out of rank 2, and a_sums with an a whose columns run along memory.
void gemm(const MatmulArgs& args, const FinishRow& finish);
inline void gemm(const MatmulArgs& args) { gemm(args, nullptr); }

inline View transposed(const View& matrix) {
  return {matrix.data, matrix.dtype, Shape{matrix.size(1), matrix.size(0)},
          Shape{matrix.stride(1), matrix.stride(0)}};
}

}  // namespace tenon::cpu
