// What tenon_cuda.so exports.
#include "backend/plugin.h"

#include <cstdio>
#include <cstring>
#include <string>
#include <utility>

#include "backend/cuda/cublaslt.h"
#include "backend/cuda/cudnn.h"
#include "backend/cuda/device.h"
#include "backend/cuda/queue.h"
#include "backend/cuda/tuning.h"

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

// Both libraries number 13.1.1 as 130101.
std::string version_of(size_t number) {
  return std::to_string(number / 10000) + "." + std::to_string(number / 100 % 100) + "." +
         std::to_string(number % 100);
}

template <typename Library>
PluginLibrary describe_library(const char* name, const Library& (*library)()) {
  try {
    const Library& opened = library();
    return {name, version_of(opened.GetVersion()), file_of(reinterpret_cast<const void*>(opened.GetVersion)),
            ""};
  } catch (const TensorError& error) {
    return {name, "", "", error.what()};
  }
}

PluginDetails details() {
  KeptChoices kept = kept_choices();
  return {{describe_library("cuBLASLt", &lt::library), describe_library("cuDNN", &dnn::library)},
          std::move(kept.file),
          std::move(kept.reason),
          kept.count};
}

Device* make(int index) { return make_device(index, default_options()).release(); }

}  // namespace

}  // namespace tenon::cuda

extern "C" __attribute__((visibility("default"))) const tenon::Plugin* tenon_plugin() {
  static constexpr tenon::Plugin plugin{TENON_PLUGIN_SOURCES, &tenon::cuda::device_count,
                                        &tenon::cuda::describe, &tenon::cuda::details, &tenon::cuda::make};
  return &plugin;
}
