#include "backend/cuda/cublaslt.h"

namespace tenon::cuda::lt {

const Library& library() {
  static const auto instance = load_library<Library>({"cuBLASLt 12 or 13 of the CUDA toolkit",
                                                      "nvidia-cublas",
                                                      "TENON_CUBLASLT",
                                                      {"libcublasLt.so.13", "libcublasLt.so.12"},
                                                      "matmul",
                                                      "cublasLt"});
  return instance;
}

}  // namespace tenon::cuda::lt
