#include "image/normalize.h"

namespace tenon::image {

void normalize(const uint8_t* data, int64_t pixels, const double mean[3], const double std[3], float* out) {
  float levels[3][256];  // what becomes of each
  for (int c = 0; c < 3; ++c) {
    const double scale = 1 / (255 * std[c]), shift = -mean[c] / std[c];
    for (int level = 0; level < 256; ++level) levels[c][level] = static_cast<float>(level * scale + shift);
  }
  float* const red = out;
  float* const green = red + pixels;
  float* const blue = green + pixels;
  for (int64_t i = 0; i < pixels; ++i, data += 3) {
    red[i] = levels[0][data[0]];
    green[i] = levels[1][data[1]];
    blue[i] = levels[2][data[2]];
  }
}

}  // namespace tenon::image
