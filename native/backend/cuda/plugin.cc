// What tenon_cuda.so exports.
#include "backend/plugin.h"

#include <cstdio>
#include <cstring>

#include "backend/cuda/device.h"
#include "backend/cuda/queue.h"

namespace tenon::cuda {

namespace {

int device_count(char* reason, size_t capacity) {
  int driver = 0;
  int count = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
    std::snprintf(reason, capacity, "no NVIDIA driver is installed");
    return 0;
  }
  // Drivers run what was built for any minor version of the CUDA that they support.
  if (driver / 1000 < CUDART_VERSION / 1000) {
    std::snprintf(reason, capacity, "the NVIDIA driver supports CUDA %d.%d, but this build needs CUDA %d",
                  driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000);
    return 0;
  }
  if (const cudaError_t status = cudaGetDeviceCount(&count); status != cudaSuccess) {
    std::snprintf(reason, capacity, "CUDA does not start: %s", cudaGetErrorString(status));
    return 0;
  }
  if (count == 0) std::snprintf(reason, capacity, "the NVIDIA driver shows no GPU");
  return count;
}

void describe(int index, PluginDevice* description) {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, index), "info");
  std::memcpy(description->name, properties.name, sizeof description->name);
  description->bytes = properties.totalGlobalMem;
  description->major = properties.major;
  description->minor = properties.minor;
}

Device* make(int index) { return make_device(index, default_options()).release(); }

}  // namespace

}  // namespace tenon::cuda

extern "C" __attribute__((visibility("default"))) const tenon::Plugin* tenon_plugin() {
  static constexpr tenon::Plugin plugin{TENON_PLUGIN_SOURCES, &tenon::cuda::device_count,
                                        &tenon::cuda::describe, &tenon::cuda::make};
  return &plugin;
}
