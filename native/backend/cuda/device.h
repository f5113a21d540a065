// A CUDA device: memory from cudaMalloc, one stream that runs kernels, one that uploads, and a thread that waits.
#pragma once

#include <memory>

#include "backend/device.h"

namespace tenon::cuda {

struct DeviceOptions {
  // Waits after each op, so that a fault names the op that made it. Default: whether TENON_CUDA_SYNC=1.
  bool synchronous = false;
};
DeviceOptions default_options();

// @throws TensorError when the device cannot be used
std::unique_ptr<Device> make_device(int index, DeviceOptions options);

}  // namespace tenon::cuda
