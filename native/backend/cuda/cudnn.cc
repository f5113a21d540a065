#include "backend/cuda/cudnn.h"

#include "backend/cuda/shared_library.h"

namespace tenon::cuda::dnn {

namespace {

Library open() {
  void* const file =
      open_library("conv2d", {"cuDNN 9", "nvidia-cudnn-cu13", "TENON_CUDNN", {"libcudnn.so.9"}});
  Library library;
#define TENON_FUNCTION(name, parameters) \
  library.name = reinterpret_cast<decltype(library.name)>(function_of("conv2d", file, "cudnn" #name));
  TENON_CUDNN(TENON_FUNCTION)
#undef TENON_FUNCTION
  library.GetVersion = reinterpret_cast<size_t (*)()>(function_of("conv2d", file, "cudnnGetVersion"));
  return library;
}

}  // namespace

const Library& library() {
  static const Library instance = open();
  return instance;
}

}  // namespace tenon::cuda::dnn
