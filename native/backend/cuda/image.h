// Where an element of a channels-last image lies.
#pragma once

#include <cstdint>

#include "backend/cuda/launch.h"

namespace tenon::cuda {

// Element `at` of [B, height, width, C].
struct Place {
  int64_t image, i, j, c;
};

__device__ __forceinline__ Place place_of(int64_t at, int64_t height, int64_t width, int64_t C) {
  const int64_t pixel = at / C, row = pixel / width, image = row / height;
  return {image, row - image * height, pixel - row * width, at - pixel * C};
}

}  // namespace tenon::cuda
