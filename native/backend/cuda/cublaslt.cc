#include "backend/cuda/cublaslt.h"

#include "backend/cuda/shared_library.h"

namespace tenon::cuda::lt {

namespace {

Library open() {
  void* const file = open_library("matmul", {"cuBLASLt 12 or 13 of the CUDA toolkit",
                                             "nvidia-cublas",
                                             "TENON_CUBLASLT",
                                             {"libcublasLt.so.13", "libcublasLt.so.12"}});
  Library library;
#define TENON_FUNCTION(name, parameters) \
  library.name = reinterpret_cast<decltype(library.name)>(function_of("matmul", file, "cublasLt" #name));
  TENON_CUBLASLT(TENON_FUNCTION)
#undef TENON_FUNCTION
  library.GetVersion = reinterpret_cast<size_t (*)()>(function_of("matmul", file, "cublasLtGetVersion"));
  return library;
}

}  // namespace

const Library& library() {
  static const Library instance = open();
  return instance;
}

}  // namespace tenon::cuda::lt
