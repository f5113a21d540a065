#include "backend/cuda/cudnn.h"

namespace tenon::cuda::dnn {

const Library& library() {
  static const auto instance = load_library<Library>(
      {"cuDNN 9", "nvidia-cudnn-cu13", "TENON_CUDNN", {"libcudnn.so.9"}, "conv2d", "cudnn"});
  return instance;
}

}  // namespace tenon::cuda::dnn
