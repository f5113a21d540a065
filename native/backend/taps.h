// Which inputs an output of image resizing reads along one axis, with what weights. Both backends use it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "backend/backend.h"

namespace tenon {

// Keys' cubic convolution kernel (1981) with parameter a.
constexpr double cubic_kernel(double x, double a) {
  if (x < 0) x = -x;
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
  return 0;
}

// Output i is the sum over k < count of weight(range(i), i, k) x[first + k]; positions beyond the border stand for the
// border.
struct Taps {
  struct Range {
    int64_t first = 0, count = 0;
  };

  int64_t in = 0, out = 0;
  Interpolation mode = Interpolation::Bilinear;
  bool antialias = false;
  double scale = 1;    // inputs for each output
  double stretch = 1;  // of the antialiasing kernel: wider when the image shrinks

  Taps(int64_t in_, int64_t out_, Interpolation mode_, bool antialias_)
      : in(in_),
        out(out_),
        mode(mode_),
        antialias(antialias_),
        scale(static_cast<double>(in_) / static_cast<double>(out_)),
        stretch(std::max(1.0, scale)) {}

  // The most that an output has.
  int64_t most() const {
    if (antialias) return static_cast<int64_t>(2 * support()) + 2;
    return mode == Interpolation::Nearest ? 1 : mode == Interpolation::Bilinear ? 2 : 4;
  }

  constexpr double support() const { return (mode == Interpolation::Bicubic ? 2 : 1) * stretch; }

  constexpr Range range(int64_t i) const {
    if (antialias) {  // the kernel is cut off at the border
      const double centre = (static_cast<double>(i) + 0.5) * scale;
      const int64_t begin = at_least_0(static_cast<int64_t>(centre - support() + 0.5));
      const auto end = static_cast<int64_t>(centre + support() + 0.5);
      return {begin, (end < in ? end : in) - begin};
    }
    if (mode == Interpolation::Nearest) {
      // PyTorch's 'nearest' works in float32 and takes the left edge of the output pixel.
      const float edge = static_cast<float>(i) * (static_cast<float>(in) / static_cast<float>(out));
      return {static_cast<int64_t>(edge), 1};
    }
    if (mode == Interpolation::Bilinear) return {static_cast<int64_t>(position(i)), 2};
    return {static_cast<int64_t>(std::floor(position(i))) - 1, 4};
  }

  // Of output i, whose range is given: worked out again, it may begin elsewhere, as a compiler that fuses a product and a sum
  // in one of two places rounds them differently. With antialias: before they are divided by their sum.
  constexpr double weight(const Range& range, int64_t i, int64_t k) const {
    const auto first = static_cast<double>(range.first), step = static_cast<double>(k);
    if (antialias) {
      const double x = (first + step - (static_cast<double>(i) + 0.5) * scale + 0.5) / stretch;
      if (mode == Interpolation::Bicubic) return cubic_kernel(x, -0.5);
      const double triangle = 1 - (x < 0 ? -x : x);
      return triangle > 0 ? triangle : 0;
    }
    if (mode == Interpolation::Nearest) return 1;
    const double t = position(i) - first;
    if (mode == Interpolation::Bilinear) return k == 0 ? 1 - t : t;
    return cubic_kernel(t - step, -0.75);
  }

  constexpr int64_t clamped(int64_t at) const { return at < 0 ? 0 : at < in ? at : in - 1; }

 private:
  static constexpr int64_t at_least_0(int64_t i) { return i < 0 ? 0 : i; }

  // Where output i's centre lies between the centres of inputs.
  constexpr double position(int64_t i) const {
    const double centre = (static_cast<double>(i) + 0.5) * scale - 0.5;
    return mode == Interpolation::Bilinear && centre < 0 ? 0 : centre;
  }
};

}  // namespace tenon
