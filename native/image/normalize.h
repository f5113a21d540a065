// Pixels as a model takes them.
#pragma once

#include <cstdint>

namespace tenon::image {

// out [3, pixels] = (x / 255 - mean) / std of each channel of pixels [pixels, 3].
void normalize(const uint8_t* data, int64_t pixels, const double mean[3], const double std[3], float* out);

}  // namespace tenon::image
