// out = activation(a b + bias) + residual: oneDNN where it has an optimised kernel, our own GEMM elsewhere.
#include "backend/cpu/gemm.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/onednn.h"

namespace tenon::cpu {

void matmul(const MatmulArgs& args) {
  const bool empty = args.out.numel() == 0 || args.a.size(-1) == 0;
  if (!empty && onednn_matmul(args)) return;
  gemm(args);
}

}  // namespace tenon::cpu
